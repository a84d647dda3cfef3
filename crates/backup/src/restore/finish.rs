//! The last steps of a restore: configuration, recovery settings, durability, and `pg_control` at the very end (C12).

use super::{
    Recovery, Restore, Target,
    configuration::{Standing, neutralize, without_job_runners},
    extract::{CONTROL, CONTROL_UNFINISHED, create_private, write_file},
};
use crate::{Error, wal::confine_directory};
use pgbosun_core::faults;
use pgbosun_repository::BackupInfo;
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Makes everything durable, then lets `pg_control` take its name.
pub(super) fn finish(restore: &Restore, tablespaces: &[PathBuf]) -> Result<Vec<String>, Error> {
    let target = &restore.target;
    create_private(&target.join("pg_wal/archive_status"))?;
    if restore.is_beside() {
        confine_directory(&target.join("pg_wal"))?;
    }
    let made = configure(restore, &restore.info)?;
    for directory in tablespaces.iter().map(PathBuf::as_path).chain([target.as_path()]) {
        let failed = || Error::file("sync", directory);
        let handle = fs::File::open(directory).map_err(failed())?;
        nix::unistd::syncfs(&handle).map_err(|errno| failed()(errno.into()))?;
    }
    faults::die(faults::BEFORE_CONTROL);
    let control = target.join(CONTROL);
    let failed = || Error::file("write", &control);
    fs::rename(target.join(CONTROL_UNFINISHED), &control).map_err(failed())?;
    fs::File::open(target.join("global")).and_then(|directory| directory.sync_all()).map_err(failed())?;
    Ok(made)
}

/// C12: what is combined is a full backup, and its label must not ask for another.
pub(super) fn without_incremental_lines(target: &Path) -> Result<(), Error> {
    let path = target.join("backup_label");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let kept: String =
        text.lines().filter(|line| !line.starts_with("INCREMENTAL FROM ")).fold(String::new(), |mut kept, line| {
            kept.push_str(line);
            kept.push('\n');
            kept
        });
    if kept == text { Ok(()) } else { fs::write(&path, kept).map_err(Error::file("write", &path)) }
}

fn append(target: &Path, name: &str, text: &str) -> Result<(), Error> {
    let path = target.join(name);
    let file = fs::File::options().append(true).create(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::file("write", path))
}

/// Adds what a server needs to start, and how it is to recover.
fn configure(restore: &Restore, info: &BackupInfo) -> Result<Vec<String>, Error> {
    let (target, mut made) = (&restore.target, Vec::new());
    let saved = target.join("pgbosun-config/postgresql.conf");
    if !target.join("postgresql.conf").exists() && !restore.is_beside() && saved.exists() {
        // C31: in the original's place its own configuration belongs there.
        let mut text = fs::File::open(&saved).map_err(Error::file("read", &saved))?;
        write_file(&target.join("postgresql.conf"), 0o600, &mut text)?;
        made.push("postgresql.conf: put there as it was when the backup was taken".to_owned());
    }
    if !target.join("postgresql.conf").exists() {
        made.push("postgresql.conf: made anew; the original lies in pgbosun-config".to_owned());
        let mut text = format!(
            "# Written by pgbosun when it restored backup {}, whose postgresql.conf lay outside the data directory.\n\
             # The original is in pgbosun-config/. These settings may not be lower than they were.\n",
            info.label
        );
        text.push_str(&crate::settings::limits(info));
        append(target, "postgresql.conf", &text)?;
    }
    for name in ["pg_hba.conf", "pg_ident.conf"] {
        let original = target.join("pgbosun-config").join(name);
        if !target.join(name).exists() {
            let text = match fs::read_to_string(&original) {
                Ok(text) => {
                    made.push(format!("{name}: put there as it was when the backup was taken"));
                    text
                }
                Err(_) if name == "pg_hba.conf" => "local all all peer\n".to_owned(),
                Err(_) => String::new(),
            };
            append(target, name, &text)?;
        }
    }
    for name in ["standby.signal", "recovery.signal"] {
        let signal = target.join(name);
        if signal.exists() {
            // Taken from a standby: a restore decides anew what it becomes.
            fs::remove_file(&signal).map_err(Error::file("remove", &signal))?;
        }
    }
    let standing = if restore.is_beside() { Standing::Beside } else { Standing::InPlace };
    for (file, name) in neutralize(target, standing)? {
        made.push(format!("{}: {name} is a comment now, it does not hold for what was restored", file.display()));
    }
    if standing == Standing::Beside {
        let text = beside(info);
        append(target, "postgresql.auto.conf", &text)?;
        let names = text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
        made.push(format!(
            "postgresql.auto.conf: {} are set for a copy beside its original: it archives nothing, takes no changes meant for the \
             original, runs no background jobs. Remove these lines and restart where it is to take the original's place",
            names.collect::<Vec<_>>().join(", ")
        ));
    }
    if let Some(recovery) = &restore.recovery {
        append(target, "postgresql.auto.conf", &settings(recovery))?;
        append(target, if recovery.standby { "standby.signal" } else { "recovery.signal" }, "")?;
    }
    Ok(made)
}

/// What keeps a copy apart from its original (C21, C29): it archives nothing, takes no changes meant for the original, runs no jobs
/// of modules, and makes tablespaces that are created later inside itself.
fn beside(info: &BackupInfo) -> String {
    let mut text = "# A copy beside its original, written by pgbosun. In the original's place, remove what follows.\n\
                    archive_mode = 'off'\nmax_logical_replication_workers = '0'\nallow_in_place_tablespaces = 'on'\n\
                    synchronous_standby_names = ''\n"
        .to_owned();
    let libraries = info.settings.get("shared_preload_libraries").map(String::as_str).unwrap_or_default();
    if libraries.contains("timescaledb") {
        // It has to be loaded to read its tables, and its jobs run in these.
        text.push_str("timescaledb.max_background_workers = '0'\n");
    }
    if let Some(kept) = without_job_runners(libraries) {
        text.push_str(&crate::settings::line("shared_preload_libraries", &kept));
    }
    text
}

/// The recovery settings, with the one target there may be.
pub(crate) fn settings(recovery: &Recovery) -> String {
    let mut values = vec![
        ("restore_command", recovery.restore_command.clone()),
        ("recovery_target_timeline", recovery.timeline.to_string()),
        ("recovery_target_inclusive", if recovery.exclusive { "off" } else { "on" }.into()),
        ("recovery_target_action", recovery.action.to_string()),
        ("recovery_end_command", String::new()),
        ("archive_cleanup_command", String::new()),
    ];
    values.extend(match &recovery.target {
        Target::Latest | Target::BackupEnd => None,
        Target::Immediate => Some(("recovery_target", "immediate".into())),
        // C20: always with its zone.
        Target::Time(time) => Some(("recovery_target_time", time.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string())),
        Target::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
        Target::Xid(xid) => Some(("recovery_target_xid", xid.to_string())),
        Target::Name(name) => Some(("recovery_target_name", name.clone())),
    });
    let lines = values.into_iter().map(|(name, value)| crate::settings::line(name, &value));
    format!("# Recovery, written by pgbosun.\n{}", lines.collect::<String>())
}
