//! The import table of `ARCHITECTURE.md`: which crate may use which.

use crate::support::{file, output};
use std::{collections::BTreeSet, process::Command};

const ALLOWED: [(&str, &[&str]); 10] = [
    ("core", &[]),
    ("postgres", &["core"]),
    ("repository", &["core"]),
    ("backup", &["core", "postgres", "repository"]),
    ("history", &["core", "postgres"]),
    ("notify", &["core", "postgres", "history"]),
    ("jobs", &["core", "postgres", "repository", "backup", "history"]),
    ("daemon", &["core", "postgres", "repository", "backup", "history", "notify", "jobs"]),
    ("seeds", &[]),
    ("", &["core", "postgres", "repository", "backup", "history", "notify", "jobs", "daemon"]),
];

#[test]
fn crates_import_only_what_the_table_allows() {
    let saved = file("metadata.json");
    let metadata = if saved.exists() {
        std::fs::read_to_string(saved).unwrap()
    } else {
        output(Command::new("cargo").args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(file(".")))
    };
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), ALLOWED.len(), "a crate without a line in the table");
    for (name, allowed) in ALLOWED {
        let whole = if name.is_empty() { "pgbosun".to_owned() } else { format!("pgbosun-{name}") };
        let package = packages.iter().find(|package| package["name"] == whole.as_str()).expect("crate of the table");
        let used: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            // Tests alone run the seeds of fuzz targets.
            .filter(|dependency| dependency["name"] != "pgbosun-seeds" || dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str()?.strip_prefix("pgbosun-"))
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let unlawful: Vec<_> = used.difference(&allowed).collect();
        assert!(unlawful.is_empty(), "{whole} must not use {unlawful:?}");
    }
}
