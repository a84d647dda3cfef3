//! Lines of a PostgreSQL configuration file: the one place that reads a value from one, or writes one.
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

/// Settings that name a certificate, a key and their like, or, as `ssl_crl_dir`, a directory of them (PostgreSQL: `guc_tables.c`).
pub(crate) const CREDENTIALS: [&str; 7] = [
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "ssl_crl_dir",
    "ssl_dh_params_file",
    "krb_server_keyfile",
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

/// Name and value of a line of a configuration file, where it has a setting (PostgreSQL: `guc-file.l`).
pub(crate) fn parse_line(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || !c.is_ascii()))
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let first = name.chars().next()?;
    if !(first.is_ascii_alphabetic() || first == '_') {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => {
            let mut value = String::new();
            let mut letters = quoted.chars().peekable();
            while let Some(letter) = letters.next() {
                match letter {
                    '\'' if letters.peek() == Some(&'\'') => value.extend(letters.next()),
                    '\'' => break,
                    '\\' => value.extend(letters.next()),
                    letter => value.push(letter),
                }
            }
            value
        }
        None => rest.split(|c: char| c == '#' || c.is_whitespace()).next().unwrap_or_default().to_owned(),
    };
    Some((name.to_ascii_lowercase(), value))
}

/// Whether the server reads this file of a directory that is included (PostgreSQL: `GetConfFilesInDir`).
pub(crate) fn is_read_in(name: &str) -> bool {
    name.ends_with(".conf") && !name.starts_with('.')
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

    #[test]
    fn lines_are_read_as_postgresql_reads_them() {
        let read = |line: &str| parse_line(line).map(|(name, value)| format!("{name}|{value}"));
        for (line, expected) in [
            ("Port = 5432 # here\n", "port|5432"),
            ("  recovery_target_time '2020-01-01 00:00:00+00'", "recovery_target_time|2020-01-01 00:00:00+00"),
            ("a='it''s \\'fine\\''", "a|it's 'fine'"),
            ("include 'conf.d/x.conf'", "include|conf.d/x.conf"),
            ("pg_stat_statements.max=10", "pg_stat_statements.max|10"),
        ] {
            assert_eq!(read(line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!([read("# port = 1"), read("\n"), read("= 1")], [None, None, None]);
    }
}
