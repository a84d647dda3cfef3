//! What the unit as systemd has it does not let the daemon do that its configuration asks for.

use super::{DELIVERED, show, writable};
use pgbosun_core::{
    config::{Config, Effective},
    mounts::Mounts,
    unit::{self, lets_process_write},
};
use pgbosun_jobs::paths::{Named, kept_away, written};
use std::path::Path;

/// A line for each thing, with what to do about it; nothing where there is no such unit. Under the unit it is what the unit lets this
/// very process do.
pub fn lacking(config: &Config, effective: &[Effective]) -> Vec<String> {
    let is_under_it = unit::forbids_writing(Path::new("/")).is_some();
    let mut lines = if is_under_it {
        kept_away(config, effective)
    } else {
        let properties = show(&["-p", "LoadState,ProtectSystem,ReadWritePaths,MainPID"]);
        by_its_properties(config, &properties, &Mounts::of_this_machine())
    };
    lines.extend(super::no_such_user(config));
    lines
}

/// By what systemd says of the unit, as `KEY=VALUE`.
fn by_its_properties(config: &Config, properties: &str, mounts: &Mounts) -> Vec<String> {
    let get =
        |key: &str| properties.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    if get("LoadState") != "loaded" || get("ProtectSystem") != "strict" {
        return Vec::new();
    }
    // Paths with blanks in them cannot be told apart here.
    let listed = get("ReadWritePaths");
    let is_writable = |path: &Path| {
        let mut above = path.ancestors().map(|part| part.to_string_lossy());
        let has = |part: &str| {
            listed.contains(' ') && part.contains(' ') && listed.contains(part)
                || listed.split(' ').any(|place| place.trim_start_matches(['-', '+']) == part)
        };
        above.any(|part| DELIVERED[..2].contains(&&*part) || has(&part))
    };
    // A share that came after the daemon's start takes writes as it is; one that is away is seen once it is there.
    let daemon = get("MainPID");
    let may = |path: &Path| daemon.parse().is_ok_and(|pid: u32| pid > 0) && lets_process_write(daemon, path);
    let needed = |path: &Path| writable(config, mounts, path).is_some_and(|path| !is_writable(path) && !may(path));
    let lacking = written(config).into_iter().filter(|Named { path, .. }| !is_writable(path) && needed(path));
    lacking
        .map(|Named { option, path }| format!("{option}: {} cannot be written: {}", path.display(), unit::READ_ONLY))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_unit_does_not_let_the_daemon_write_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgbosun.toml");
        let text = "[repositories.a]\ntype = \"local\"\npath = \"/srv/a\"\n[repositories.b]\ntype = \"local\"\npath = \"/srv/b c/d\"\n";
        std::fs::write(&file, text).unwrap();
        let loaded = pgbosun_daemon::load(&file).unwrap();
        let lacking = |properties: &str| by_its_properties(&loaded.config, properties, &Mounts::read("", ""));
        let strict = "LoadState=loaded\nProtectSystem=strict\nReadWritePaths=";
        assert_eq!(lacking(&format!("{strict}-/srv/a -/srv/b c\n")), Vec::<String>::new());
        assert_eq!(lacking(&format!("{strict}-/srv\n")), Vec::<String>::new());
        let found = lacking(&format!("{strict}-/srv/ab\n"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("repositories.a.path: /srv/a cannot be written: the unit has ProtectSystem=strict")
        );
        assert_eq!(lacking("LoadState=not-found\nProtectSystem=no\nReadWritePaths=\n"), Vec::<String>::new());
    }
}
