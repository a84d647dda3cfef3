//! How many rows a dump holds: the lines between `COPY` and `\.`.

use crate::Error;
use pgbosun_postgres::GroupChild;
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
};

/// In a file of SQL.
pub(super) async fn rows_in_file(path: &Path) -> Result<u64, Error> {
    let file = tokio::fs::File::open(path).await.map_err(Error::file("read", path))?;
    rows_in(file).await.map_err(Error::file("read", path))
}

/// In an archive of `pg_dump`.
pub(super) async fn rows_in_archive(programs: &Path, path: &Path) -> Result<u64, Error> {
    let mut command = Command::new(programs.join("pg_restore"));
    command.args(["--data-only", "--file=-"]).arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = GroupChild::spawn(&mut command).map_err(Error::file("start", "pg_restore"))?;
    let rows = match child.child().stdout.take() {
        Some(output) => rows_in(output).await.map_err(Error::file("read", path))?,
        None => 0,
    };
    match child.wait().await.map_err(Error::file("wait for", "pg_restore"))? {
        status if status.success() => Ok(rows),
        status => {
            Err(Error::Program { program: "pg_restore", said: format!("{} cannot be read: {status}", path.display()) })
        }
    }
}

async fn rows_in(dump: impl AsyncRead + Unpin) -> std::io::Result<u64> {
    let mut reader = BufReader::with_capacity(1 << 18, dump);
    let (mut rows, mut copying, mut line) = (0, false, Vec::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).await? == 0 {
            return Ok(rows);
        }
        match copying {
            false => copying = line.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;\n"),
            true if line == b"\\.\n" => copying = false,
            true => rows += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_are_the_lines_of_copies() {
        let dump: &[u8] = b"SET x;\nCOPY a (b) FROM stdin;\n1\n\\\\.\n\\.\n\n4\nCOPY c (d) FROM stdin;\n\\.\nCOPY e FROM stdin;\n9\n\\.\n";
        assert_eq!(rows_in(dump).await.unwrap(), 3);
    }
}
