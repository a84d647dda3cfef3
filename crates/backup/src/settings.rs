//! Lines of a PostgreSQL configuration file: the one place that writes a value into one.
//!
//! C36: a value cannot end its line, whatever is in it, and of what a backup says of its server only limits are taken, which
//! are numbers.

use pgbosun_repository::BackupInfo;

/// Settings that a restored server must not undercut (C21), and what a scratch server has of them at the least: they may have been
/// raised after the backup.
const LIMITS: [(&str, u32); 5] = [
    ("max_connections", 100),
    ("max_worker_processes", 8),
    ("max_wal_senders", 10),
    ("max_prepared_transactions", 200),
    ("max_locks_per_transaction", 256),
];

/// `name = 'value'` and the end of the line. PostgreSQL reads quotes doubled and backslashes as in C (`guc-file.l`).
pub(crate) fn line(name: &str, value: &str) -> String {
    let mut quoted = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // None of these means anything in a setting of ours.
            c if c.is_control() => {}
            c => quoted.push(c),
        }
    }
    format!("{name} = '{quoted}'\n")
}

/// The limits of the server that a backup was taken from, where they are numbers.
pub(crate) fn limits(info: &BackupInfo) -> String {
    LIMITS.iter().filter_map(|(name, _)| Some(format!("{name} = {}\n", limit(info, name)?))).collect()
}

/// Limits and sizes with which a scratch server recovers whatever the original wrote.
pub(crate) fn of_scratch(info: &BackupInfo) -> String {
    let limits = LIMITS.iter().map(|(name, least)| {
        let value = limit(info, name).unwrap_or(0).clamp(*least, 10_000);
        format!("{name} = {value}\n")
    });
    // Both are at least two segments (PostgreSQL: `check_max_wal_size` and the like).
    let segment = (info.wal_segment_size >> 20).clamp(1, 1024);
    let (least, most) = ((segment * 2).max(80), (segment * 4).max(1024));
    format!("{}min_wal_size = {least}MB\nmax_wal_size = {most}MB\n", limits.collect::<String>())
}

fn limit(info: &BackupInfo, name: &str) -> Option<u32> {
    info.settings.get(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c36_a_value_stays_within_its_line() {
        assert_eq!(line("a", "it's"), "a = 'it''s'\n");
        let hostile = "x\\'\narchive_command = 'touch /tmp/pwned'\r\0";
        let written = line("a", hostile);
        assert_eq!(written.lines().count(), 1);
        assert_eq!(written, "a = 'x\\\\''\\narchive_command = ''touch /tmp/pwned''\\r'\n");
    }
}
