//! The end of a server's log, for whoever hears that the server is down.
//!
//! Invariants: read without the server, which is away; bounded; only what the server says of itself is shown, never what somebody sent to it,
//! which may hold secrets: a record is left out unless it is known to be of the first sort, whatever the language of the log.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Bytes that are read, and lines that are shown, at most.
const BYTES: u64 = 32 << 10;
const LINES: usize = 30;

/// How the server marks what it says of itself (PostgreSQL: `error_severity`): of errors a message may repeat a value.
const OF_SERVER: [&str; 4] = ["LOG:", "FATAL:", "PANIC:", "HINT:"];

/// What in such a record repeats what somebody sent (PostgreSQL: `postgres.c`, `log_statement` and `log_duration`).
const OF_STATEMENTS: [&str; 8] =
    ["statement:", "execute ", "parse ", "bind ", "duration:", "arameters", " plan:", "AUDIT:"];

/// The last lines of the newest log, and its path.
pub(super) fn last_lines(directory: &Path, data: Option<&Path>) -> Option<(PathBuf, String)> {
    let path = newest(directory, data)?;
    // A FIFO would have us wait for its writer.
    let mut file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path).ok()?;
    let size = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // Where it begins within a line that line is none.
    let begun = usize::from(size > BYTES);
    let lines: Vec<_> = text.lines().skip(begun).collect();
    Some((path, shown(&lines)))
}

/// The last of these lines that may be shown; those that continue one, indented, may hold anything.
fn shown(lines: &[&str]) -> String {
    let has = |line: &str, signs: &[&str]| signs.iter().any(|sign| line.contains(sign));
    let may_be_shown =
        |line: &&str| !line.starts_with(['\t', ' ']) && has(line, &OF_SERVER) && !has(line, &OF_STATEMENTS);
    let mut kept: Vec<&str> = lines.iter().copied().filter(may_be_shown).collect();
    kept.split_off(kept.len().saturating_sub(LINES)).join("\n")
}

/// The log that was written last. Where several clusters log into one directory, as on Debian, the name says whose it is.
fn newest(directory: &Path, data: Option<&Path>) -> Option<PathBuf> {
    let part = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let of_debian = data.and_then(|data| Some(format!("postgresql-{}-{}.log", part(data.parent()?)?, part(data)?)));
    if let Some(own) = of_debian.map(|name| directory.join(name)).filter(|path| path.is_file()) {
        return Some(own);
    }
    // Of the other formats, csvlog and jsonlog, a record has everything in one line.
    let is_log = |path: &Path| path.extension().is_some_and(|ending| ending == "log");
    let written =
        |path: &PathBuf| fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    // Debian's names, `postgresql-VERSION-CLUSTER.log`: among those of others the newest is not its own.
    let is_of_another = |path: &PathBuf| {
        let name = part(path).unwrap_or_default();
        let version =
            name.strip_prefix("postgresql-").and_then(|rest| rest.split_once('-')).map(|(version, _)| version);
        version.is_some_and(|version| version.len() <= 2 && version.chars().all(|c| c.is_ascii_digit()))
    };
    let all = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let logs: Vec<_> = all.filter(|path| is_log(path) && path.is_file()).collect();
    if logs.iter().any(is_of_another) {
        return None;
    }
    logs.into_iter().max_by_key(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_is_shown_without_statements() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("postgresql-15-main.log");
        let long = "LOG:  a line of the past\n".repeat(5000);
        let sent = [
            "ERROR:  syntax error at or near \"hush\"",
            "STATEMENT:  alter role x\n\tpassword 'hush'",
            "ANWEISUNG:  alter role x password 'hush'",
            "LOG:  statement: select 'hush'",
            "LOG:  execute <unnamed>: alter role x password 'hush'",
            "LOG:  duration: 0.1 ms  bind s: select 'hush'",
            "DETAIL:  Parameters: $1 = 'hush'",
            "2026,\"LOG\",\"hush\"",
        ];
        let end = format!("{}\nPANIC:  could not write\n\tmore of it\nHINT:  free space\n", sent.join("\n"));
        fs::write(&log, format!("{long}{end}")).unwrap();
        fs::write(directory.path().join("postgresql-17-other.log"), "LOG: of another\n").unwrap();
        let (path, text) = last_lines(directory.path(), Some(Path::new("/var/lib/postgresql/15/main"))).unwrap();
        assert_eq!(path, log);
        assert!(text.ends_with("past\nPANIC:  could not write\nHINT:  free space"), "{text}");
        assert!(!text.contains("hush") && text.lines().count() == LINES, "{text}");
        assert!(last_lines(&directory.path().join("none"), None).is_none());
        assert!(last_lines(directory.path(), None).is_none(), "whose is it?");
    }
}
