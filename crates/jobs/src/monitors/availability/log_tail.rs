//! The end of a server's log, for whoever hears that the server is down.
//!
//! Invariants: read without the server, which is away; bounded; lines that hold statements stay out, since statements hold secrets.

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

/// Lines that repeat what somebody sent to the server (PostgreSQL: `elog.c`).
const OF_STATEMENTS: [&str; 5] = ["STATEMENT:", "QUERY:", "CONTEXT:", "statement: ", "parameters: "];

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

/// The last of these lines that may be shown: one that continues a line that may not goes with it.
fn shown(lines: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut hidden = false;
    for line in lines {
        if !line.starts_with(['\t', ' ']) {
            hidden = OF_STATEMENTS.iter().any(|sign| line.contains(sign));
        }
        if !hidden {
            kept.push(line);
        }
    }
    kept.split_off(kept.len().saturating_sub(LINES)).join("\n")
}

/// The log that was written last. Where several clusters log into one directory, as on Debian, the name says whose it is.
fn newest(directory: &Path, data: Option<&Path>) -> Option<PathBuf> {
    let part = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let of_debian = data.and_then(|data| Some(format!("postgresql-{}-{}.log", part(data.parent()?)?, part(data)?)));
    if let Some(own) = of_debian.map(|name| directory.join(name)).filter(|path| path.is_file()) {
        return Some(own);
    }
    let is_log =
        |path: &Path| path.extension().is_some_and(|ending| ["log", "csv", "json"].iter().any(|one| ending == *one));
    let written =
        |path: &PathBuf| fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let logs =
        fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).filter(|path| is_log(path) && path.is_file());
    logs.max_by_key(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_is_shown_without_statements() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("postgresql-15-main.log");
        let long = "LOG:  a line of the past\n".repeat(5000);
        let end = "ERROR:  syntax error\nSTATEMENT:  alter role x\n\tpassword 'hush'\nLOG:  statement: select 'hush'\nPANIC:  could not write\n\tmore of it\n";
        fs::write(&log, format!("{long}{end}")).unwrap();
        fs::write(directory.path().join("postgresql-17-other.log"), "LOG: of another\n").unwrap();
        let (path, text) = last_lines(directory.path(), Some(Path::new("/var/lib/postgresql/15/main"))).unwrap();
        assert_eq!(path, log);
        assert!(text.ends_with("ERROR:  syntax error\nPANIC:  could not write\n\tmore of it"), "{text}");
        assert!(!text.contains("hush") && text.lines().count() == LINES, "{text}");
        assert!(last_lines(&directory.path().join("none"), None).is_none());
        assert!(last_lines(directory.path(), None).is_some());
    }
}
