//! What others write, for the fuzz targets of `tests/fuzz`: the server's log in each format.

use crate::monitors::security::read_log;

/// `csvlog`.
pub fn log_csv(data: &[u8]) {
    read_log("csvlog", "", data);
}

/// `jsonlog`.
pub fn log_json(data: &[u8]) {
    read_log("jsonlog", "", data);
}

/// `stderr`, with a prefix that is the first line.
pub fn log_stderr(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (prefix, lines) = data.split_at(end);
    read_log("stderr", &String::from_utf8_lossy(prefix), lines.get(1..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    #[test]
    fn log_csv() {
        pgbosun_seeds::run("log_csv", super::log_csv);
    }

    #[test]
    fn log_json() {
        pgbosun_seeds::run("log_json", super::log_json);
    }

    #[test]
    fn log_stderr() {
        pgbosun_seeds::run("log_stderr", super::log_stderr);
    }
}
