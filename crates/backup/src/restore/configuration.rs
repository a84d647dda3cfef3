//! What the configuration files of a copy say about the original, and about an earlier recovery (C29).
//!
//! PostgreSQL reads `postgresql.conf`, what it includes, and `postgresql.auto.conf`, the last word winning; but of recovery targets
//! there may be only one in all files, and `data_directory` counts wherever it stands. So what does not hold for the copy is made a
//! comment in the files that lie inside the copy, with the reason above it; nothing outside the copy is ever changed, and a file
//! outside is not included by a copy that stands beside its original.

use crate::{
    Error,
    settings::{CREDENTIALS, is_read_in, parse_line},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

/// Left of an earlier recovery, or of a standby's life: a restore brings its own.
pub(super) const RECOVERY: [&str; 14] = [
    "restore_command",
    "recovery_target",
    "recovery_target_time",
    "recovery_target_lsn",
    "recovery_target_xid",
    "recovery_target_name",
    "recovery_target_timeline",
    "recovery_target_inclusive",
    "recovery_target_action",
    "recovery_end_command",
    "archive_cleanup_command",
    "recovery_min_apply_delay",
    "promote_trigger_file",
    "trigger_file",
];

/// What ties a member to its primary: a copy must not stream from it.
const MEMBER: [&str; 2] = ["primary_conninfo", "primary_slot_name"];

/// Paths of the original beside [`CREDENTIALS`]; they stay where they lead into the copy.
const PLACES: [&str; 6] =
    ["data_directory", "hba_file", "ident_file", "external_pid_file", "log_directory", "stats_temp_directory"];

/// Modules that run jobs of their own in the background: what production does at night a copy must not do as well.
const JOB_RUNNERS: [&str; 11] = [
    "pg_cron",
    "pg_partman_bgw",
    "pglogical",
    "spock",
    "bdr",
    "citus",
    "pg_squeeze",
    "pg_net",
    "pg_failover_slots",
    "powa",
    "pg_background",
];

/// How a restored cluster stands to its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A copy beside it, perhaps on the same machine.
    Beside,
    /// In its place, or a member of it.
    InPlace,
}

/// Settings that were made comments, by file.
pub(crate) type Removed = BTreeSet<(PathBuf, String)>;

/// Makes comments of what does not hold for the copy, in all files inside `target`.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn neutralize(target: &Path, standing: Standing) -> Result<Removed, Error> {
    let root = target.canonicalize().map_err(Error::file("inspect", target))?;
    let mut files = vec![root.join("postgresql.conf"), root.join("postgresql.auto.conf")];
    let (mut seen, mut removed) = (BTreeSet::new(), Removed::new());
    while let Some(path) = files.pop() {
        // A link that leads out is the original's file.
        let Ok(real) = path.canonicalize() else { continue };
        if !real.starts_with(&root) || !real.is_file() || !seen.insert(real.clone()) {
            continue;
        }
        let bytes = fs::read(&real).map_err(Error::file("read", &real))?;
        // Bytes are kept as they are: a comment may be in any encoding.
        let mut text = Vec::with_capacity(bytes.len());
        let mut changed = false;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let said = String::from_utf8_lossy(line);
            let Some((name, value)) = parse_line(&said) else {
                text.extend_from_slice(line);
                continue;
            };
            let why = match name.as_str() {
                "include" | "include_if_exists" | "include_dir" => {
                    let found = real.parent().unwrap_or(&root).join(&value);
                    let inside = found.canonicalize().is_ok_and(|found| found.starts_with(&root));
                    match (name.as_str(), inside) {
                        (_, false) if standing == Standing::InPlace => None,
                        ("include_if_exists", false) if !found.exists() => None,
                        (_, false) => Some("it is outside this copy"),
                        ("include_dir", true) => {
                            let entries = fs::read_dir(&found).map_err(Error::file("list", &found))?;
                            let read = |path: &PathBuf| {
                                path.file_name().is_some_and(|name| is_read_in(&name.to_string_lossy()))
                            };
                            files.extend(entries.flatten().map(|entry| entry.path()).filter(read));
                            None
                        }
                        (_, true) => {
                            files.push(found);
                            None
                        }
                    }
                }
                name => reason(name, &value, &root, standing),
            };
            if let Some(why) = why {
                let note = format!("# Commented out by pgbosun when it restored this copy: {why}.\n# ");
                text.extend_from_slice(note.as_bytes());
                removed.insert((real.strip_prefix(&root).unwrap_or(&real).to_owned(), name));
                changed = true;
            }
            text.extend_from_slice(line);
        }
        if changed {
            fs::write(&real, text).map_err(Error::file("write", &real))?;
        }
    }
    Ok(removed)
}

/// Why a setting does not hold for the copy.
fn reason(name: &str, value: &str, root: &Path, standing: Standing) -> Option<&'static str> {
    let inside = |value: &str| value.is_empty() || is_inside(root, Path::new(value));
    match standing {
        _ if RECOVERY.contains(&name) => Some("recovery settings are set by the restore"),
        _ if name == "data_directory" => (Path::new(value) != root).then_some("it names another data directory"),
        Standing::Beside if MEMBER.contains(&name) => Some("a copy does not stream from the original's primary"),
        Standing::Beside if (PLACES.contains(&name) || CREDENTIALS.contains(&name)) && !inside(value) => {
            Some("it points to the original")
        }
        _ => None,
    }
}

/// Whether a path of the configuration stays in the copy, over links and `..` too.
fn is_inside(root: &Path, path: &Path) -> bool {
    let path = root.join(path);
    let there = path.ancestors().find_map(|part| part.canonicalize().ok());
    !path.components().any(|part| part == Component::ParentDir) && there.is_some_and(|there| there.starts_with(root))
}

/// The modules of `shared_preload_libraries` that a copy loads: all but those that run jobs.
pub(crate) fn without_job_runners(libraries: &str) -> Option<String> {
    let all: Vec<_> =
        libraries.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty()).collect();
    let runs = |name: &&&str| {
        let file = Path::new(**name).file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        JOB_RUNNERS.contains(&file.as_str())
    };
    all.iter()
        .any(|name| runs(&name))
        .then(|| all.iter().filter(|name| !runs(name)).copied().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c29_what_says_where_the_original_is_becomes_a_comment_in_every_file_of_the_copy_and_in_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let (target, outside) = (directory.path().join("copy"), directory.path().join("etc"));
        fs::create_dir_all(target.join("conf.d")).unwrap();
        fs::create_dir(&outside).unwrap();
        let original = "recovery_target_time = '2020-01-01'\nwork_mem = '5MB'\n";
        fs::write(outside.join("more.conf"), original).unwrap();
        fs::write(
            target.join("postgresql.conf"),
            format!(
                "Data_Directory = '/srv/live'\nlog_directory = 'log'\nexternal_pid_file = '../live/pid'\nhba_file='/etc/hba.conf'\nport = 1\n\
                 include_dir = 'conf.d'\ninclude '{0}'\n\
                 include_if_exists '{0}'\ninclude_if_exists 'none.conf'\n",
                outside.join("more.conf").display()
            ),
        )
        .unwrap();
        fs::write(
            target.join("conf.d/a.conf"),
            b"# caf\xe9\nrecovery_min_apply_delay = 1h\nprimary_conninfo = 'host=a'\n",
        )
        .unwrap();
        fs::write(target.join("postgresql.auto.conf"), "restore_command = 'x'\nshared_buffers = '1GB'\n").unwrap();
        let removed = neutralize(&target, Standing::Beside).unwrap();
        let names: Vec<_> = removed.iter().map(|(_, name)| name.as_str()).collect();
        let expected = [
            "primary_conninfo",
            "recovery_min_apply_delay",
            "restore_command",
            "data_directory",
            "external_pid_file",
            "hba_file",
            "include",
            "include_if_exists",
        ];
        assert_eq!(names, expected);
        let left = |file: &str| {
            let bytes = fs::read(target.join(file)).unwrap();
            let lines: Vec<_> = String::from_utf8_lossy(&bytes)
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect();
            lines.join("|")
        };
        assert_eq!(
            left("postgresql.conf"),
            "log_directory = 'log'|port = 1|include_dir = 'conf.d'|include_if_exists 'none.conf'"
        );
        assert_eq!(left("postgresql.auto.conf"), "shared_buffers = '1GB'");
        assert_eq!(left("conf.d/a.conf"), "");
        assert!(fs::read(target.join("conf.d/a.conf")).unwrap().starts_with(b"# caf\xe9\n"));
        assert_eq!(fs::read_to_string(outside.join("more.conf")).unwrap(), original);
        assert!(neutralize(&target, Standing::Beside).unwrap().is_empty(), "once is enough");
    }

    #[test]
    fn c29_in_place_what_belongs_to_the_place_stays() {
        let directory = tempfile::tempdir().unwrap();
        let text = "hba_file = '/etc/hba.conf'\nprimary_conninfo = 'host=a'\ninclude '/etc/more.conf'\n";
        fs::write(directory.path().join("postgresql.conf"), format!("{text}recovery_target = 'immediate'\n")).unwrap();
        let removed = neutralize(directory.path(), Standing::InPlace).unwrap();
        assert_eq!(removed.len(), 1);
        assert!(fs::read_to_string(directory.path().join("postgresql.conf")).unwrap().starts_with(text));
    }

    #[test]
    fn modules_that_run_jobs_are_left_out() {
        let kept = |libraries: &str| without_job_runners(libraries);
        assert_eq!(kept("pg_stat_statements, pg_cron"), Some("pg_stat_statements".into()));
        assert_eq!(kept("$libdir/pg_cron.so,timescaledb"), Some("timescaledb".into()));
        assert_eq!(kept("pg_stat_statements"), None);
        assert_eq!(kept(""), None);
    }
}
