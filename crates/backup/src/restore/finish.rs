//! The last steps of a restore: configuration, recovery settings, durability, and `pg_control` at the very end (C12).

use super::{
    Recovery, Restore, Target, TargetAction,
    configuration::{Removed, Standing, neutralize, without_job_runners},
    extract::{Access, CONTROL, CONTROL_UNFINISHED, write_file},
    recovered::{CLOSED, HEAD},
};
use crate::{
    Error,
    config_files::{self, CERTIFICATES, DIRECTORY, OUTSIDE, PutBack, UNPACKED},
    settings::parse_line,
    wal::confine_directory,
};
use pgbosun_core::{clock, faults, human};
use pgbosun_repository::BackupInfo;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Makes everything durable, then lets `pg_control` take its name.
pub(super) fn finish(restore: &Restore, tablespaces: &[PathBuf]) -> Result<Vec<String>, Error> {
    let target = &restore.target;
    let access = Access::of(target);
    access.create(&target.join("pg_wal/archive_status"))?;
    let confinement = restore.confinement();
    if confinement.is_needed() {
        confine_directory(target, &confinement)?;
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
    if !path.exists() {
        return write_file(&path, Access::of(target).file(), &mut text.as_bytes()).map(drop);
    }
    let file = fs::File::options().append(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::file("write", path))
}

/// Adds what a server needs to start, and how it is to recover.
fn configure(restore: &Restore, info: &BackupInfo) -> Result<Vec<String>, Error> {
    let (target, mut made) = (&restore.target, Vec::new());
    let filled_in = config_files::fill_in(target)?;
    made.extend(filled_in.iter().map(|name| {
        format!("{}: restored as a file; it was a link to a place outside the data directory", name.display())
    }));
    if !restore.is_beside() {
        made.extend(elsewhere(restore));
    }
    let saved = target.join(UNPACKED).join("postgresql.conf");
    if !target.join("postgresql.conf").exists() && !restore.is_beside() && saved.exists() {
        // C31: in the original's place its own configuration belongs there.
        let mut text = fs::File::open(&saved).map_err(Error::file("read", &saved))?;
        write_file(&target.join("postgresql.conf"), Access::of(target).file(), &mut text)?;
        made.push("postgresql.conf: restored as it was when the backup was taken".to_owned());
    }
    if !target.join("postgresql.conf").exists() {
        made.push(format!("postgresql.conf: rewritten; the original is in {DIRECTORY}"));
        let mut text = format!(
            "# Written by pgbosun when it restored backup {}, whose postgresql.conf was outside the data directory.\n# The \
             original is in pgbosun-config/. These settings must not be lower than they were.\n",
            info.label
        );
        text.push_str(&crate::settings::limits(info));
        append(target, "postgresql.conf", &text)?;
    }
    for name in ["pg_hba.conf", "pg_ident.conf"] {
        let original = target.join(UNPACKED).join(name);
        if !target.join(name).exists() {
            let text = match fs::read_to_string(&original) {
                Ok(text) => {
                    made.push(format!("{name}: restored as it was when the backup was taken"));
                    text
                }
                Err(_) if name == "pg_hba.conf" => "local all all peer\n".to_owned(),
                Err(_) => String::new(),
            };
            append(target, name, &text)?;
        }
    }
    config_files::settle(target)?;
    for name in ["standby.signal", "recovery.signal"] {
        let signal = target.join(name);
        if signal.exists() {
            // Taken from a standby: a restore decides anew what it becomes.
            fs::remove_file(&signal).map_err(Error::file("remove", &signal))?;
        }
    }
    let standing = if restore.is_beside() { Standing::Beside } else { Standing::InPlace };
    let removed = neutralize(target, standing)?;
    for of_file in removed.iter().collect::<Vec<_>>().chunk_by(|(one, _), (other, _)| one == other) {
        let names = of_file.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>();
        made.push(format!(
            "{}: commented out, since they do not apply to what was restored: {}",
            of_file[0].0.display(),
            names.join(", ")
        ));
    }
    if standing == Standing::Beside {
        let port = free_port(&taken_ports(restore));
        let text = beside(info, &removed, port);
        append(target, "postgresql.auto.conf", &text)?;
        let names = text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
        // C43: on a timeline of which the archive has another continuation it would archive nothing, and be backed up nowhere.
        let place = match &restore.recovery {
            Some(_) => "Remove these lines and restart if it is to replace the original",
            None => {
                "It stays on the original's timeline and cannot replace the original: for that, restore with --in-place"
            }
        };
        made.push(format!(
            "postgresql.auto.conf: {} are set for a copy alongside its original: it archives nothing, takes no changes meant for \
             the original, runs no background jobs{}. {place}",
            names.collect::<Vec<_>>().join(", "),
            port.map_or_else(String::new, |port| format!(", has port {port}"))
        ));
    }
    if let Some(recovery) = &restore.recovery {
        let mut text = settings(recovery);
        if loses_prepared_transactions(recovery, info) {
            text.push_str(CLOSED);
            made.push(
                "hot_standby is off until recovery has ended, so nobody can connect before: with a prepared transaction \
                 PostgreSQL cannot follow a timeline change while it lets readers in"
                    .to_owned(),
            );
        }
        append(target, "postgresql.auto.conf", &text)?;
        append(target, if recovery.standby { "standby.signal" } else { "recovery.signal" }, "")?;
    }
    Ok(made)
}

/// What becomes of configuration files outside the data directory, of a server that takes its original's place.
fn elsewhere(restore: &Restore) -> Vec<String> {
    let target = &restore.target;
    let saved = |path: &Path| Path::new(DIRECTORY).join(OUTSIDE).join(path.strip_prefix("/").unwrap_or(path));
    if !restore.config_files {
        let differing = config_files::differing(target);
        let names: Vec<_> = differing.iter().map(|path| path.display().to_string()).collect();
        let words = format!(
            "configuration files outside the data directory differ from the backup and were left unchanged: {} (--config-files restores \
             them; the saved ones are in {DIRECTORY}/{OUTSIDE})",
            names.join(", ")
        );
        return if names.is_empty() { Vec::new() } else { vec![words] };
    }
    let mut told = Vec::new();
    for (path, done) in config_files::put_back(target, clock::now()) {
        let place = path.display();
        match done {
            PutBack::Same => {}
            PutBack::New => told.push(format!("{place}: restored")),
            PutBack::Replaced(kept) => {
                told.push(format!("{place}: restored; the previous file is now {}", kept.display()))
            }
            PutBack::Failed(error) => told.push(format!(
                "{place}: NOT restored, copy it from {} (a key from config.tar of the backup): {}",
                saved(&path).display(),
                human::chain(&error)
            )),
        }
        // Such a file leads a server to another directory than this one.
        let text = fs::read_to_string(&path).unwrap_or_default();
        let named = text.lines().filter_map(parse_line).rfind(|(name, _)| name == "data_directory");
        if let Some((_, named)) = named.filter(|(_, named)| Path::new(named) != target) {
            told.push(format!("{place}: sets data_directory to {named}; change it to {}", target.display()));
        }
    }
    if target.join(UNPACKED).join(CERTIFICATES).exists() {
        told.push(format!(
            "the server certificate is in {DIRECTORY}/{CERTIFICATES}; its key was not backed up because the repository is not \
             encrypted"
        ));
    }
    told
}

/// Whether this recovery could end in "requested WAL segment … has already been removed": of a transaction that is prepared at a change
/// of timeline a server with hot_standby looks for the record in a segment of the new timeline (PostgreSQL: `PrescanPreparedTransactions`
/// by `xlog_redo`). A standby must let readers in, and so must one that is to wait for them.
fn loses_prepared_transactions(recovery: &Recovery, info: &BackupInfo) -> bool {
    let prepared = info.settings.get("max_prepared_transactions").is_some_and(|most| most != "0");
    prepared && recovery.timeline != info.timeline && recovery.action == TargetAction::Promote && !recovery.standby
}

/// Whether a data directory is a copy beside an original, and still as [`beside`] made it: what it writes is archived nowhere, on purpose.
pub fn is_copy(data: &Path) -> bool {
    let text = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap_or_default();
    ["archive_mode = 'off'", "cluster_name = 'copy of "]
        .iter()
        .all(|kept| text.lines().any(|line| line.starts_with(kept)))
}

/// What keeps a copy apart from its original (C21, C29): it archives nothing, takes no changes meant for the original, runs no jobs
/// of modules, makes tablespaces that are created later inside itself, and is found under a name and port of its own.
fn beside(info: &BackupInfo, removed: &Removed, port: Option<u16>) -> String {
    let mut text = "# For a copy alongside its original, written by pgbosun. If it replaces the original, remove what \
                    follows.\narchive_mode = 'off'\nmax_logical_replication_workers = '0'\nallow_in_place_tablespaces = \
                    'on'\nsynchronous_standby_names = ''\n"
        .to_owned();
    text.push_str(&crate::settings::line("cluster_name", &format!("copy of {}", info.cluster)));
    if let Some(port) = port {
        text.push_str(&crate::settings::line("port", &port.to_string()));
    }
    let is_gone = |prefix: &str| removed.iter().any(|(_, name)| name.starts_with(prefix));
    if is_gone("ssl_") {
        text.push_str("ssl = 'off'\n");
    }
    if is_gone("include") {
        // They may have been in there, and may not be lower than they were.
        text.push_str(&crate::settings::limits(info));
    }
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

/// Ports that belong to servers which may be down just now: what connects to them must not meet a copy.
fn taken_ports(restore: &Restore) -> Vec<u16> {
    let original = restore.info.settings.get("port").and_then(|port| port.parse().ok());
    let hosts = restore.servers.iter().flat_map(|server| &server.conninfo.hosts);
    hosts.map(|host| host.port).chain(original).collect()
}

/// A port on which nobody listens now, above PostgreSQL's own.
fn free_port(taken: &[u16]) -> Option<u16> {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let no_socket = |port: &u16| {
        let places = ["/tmp", "/var/run/postgresql", "/run/postgresql"];
        !places.iter().any(|place| Path::new(place).join(format!(".s.PGSQL.{port}")).exists())
    };
    (5433..6433).find(|port| !taken.contains(port) && is_free(port) && no_socket(port))
}

/// The recovery settings, with the one target there may be. The others are set to nothing first: a file of the original that the
/// copy includes may have one of an earlier recovery, and PostgreSQL refuses two.
pub(crate) fn settings(recovery: &Recovery) -> String {
    let targets = ["", "_time", "_lsn", "_xid", "_name"].map(|kind| format!("recovery_target{kind}"));
    let mut values: Vec<(&str, String)> = targets.iter().map(|name| (name.as_str(), String::new())).collect();
    values.extend([
        ("recovery_min_apply_delay", "0".to_owned()),
        ("restore_command", recovery.restore_command.clone()),
        // A standby follows every promotion.
        ("recovery_target_timeline", if recovery.standby { "latest".into() } else { recovery.timeline.to_string() }),
        ("recovery_target_inclusive", if recovery.exclusive { "off" } else { "on" }.into()),
        ("recovery_target_action", recovery.action.to_string()),
        ("recovery_end_command", recovery.end_command.clone()),
        ("archive_cleanup_command", String::new()),
    ]);
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
    format!("{HEAD}{}", lines.collect::<String>())
}
