//! What others write, for the fuzz targets of `tests/fuzz`: manifests of backups, and WAL.

use crate::{
    manifest,
    wal::{Header, Scanner, check_segment},
};
use pgbosun_core::wal::WalFile;

/// `backup_manifest`.
pub fn manifest(data: &[u8]) {
    let _ = manifest::parse(data, 1000);
}

/// Pages of WAL, in one segment and in two, and records whatever their checksums.
pub fn wal(data: &[u8]) {
    let _ = Header::read(data);
    if let Some(file) = WalFile::parse("000000010000000000000001") {
        let _ = check_segment(&file, data, 16 << 20, "7000000000000000000");
    }
    let mut scanner = Scanner::default();
    let (first, second) = data.split_at(data.len() / 8192 / 2 * 8192);
    for bytes in [data, first, second] {
        scanner.segment(bytes, &mut |_| {});
        scanner.end();
    }
    for magic in [0xD10D, 0xD118] {
        crate::wal::read_record(data, magic, &mut |_| {});
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn manifest() {
        pgbosun_seeds::run("manifest", super::manifest);
    }

    #[test]
    fn wal() {
        pgbosun_seeds::run("wal", super::wal);
    }
}
