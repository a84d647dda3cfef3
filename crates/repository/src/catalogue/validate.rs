//! Whether what a `backup.json` says makes sense, before anybody computes with it (C36).
//!
//! The limits lie far beyond what a server has, and far below what would fill memory, overflow, or never end.

use super::BackupInfo;
use pgbosun_core::{lsn::Lsn, wal::is_segment_size};
use std::collections::HashSet;

/// Bytes of a backup: 8 PiB.
const BYTES: u64 = 1 << 53;

/// Segments from the start of a backup to its end: 64 TiB of WAL in segments of the usual size.
const SEGMENTS: u64 = 1 << 22;

/// Objects, databases, settings, tablespaces.
const COUNT: usize = 1 << 20;

impl BackupInfo {
    /// Says what makes no sense.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.validate_wal()?;
        self.validate_words()?;
        let sizes = self.objects.iter().flat_map(|object| [object.size, object.plain_size]);
        let total = sizes.chain([self.bytes, self.stored_bytes]).chain(self.databases.values().copied());
        if total.fold(0, u64::saturating_add) > 4 * BYTES {
            return Err("its sizes are larger than any backup".into());
        }
        let counts = [self.objects.len(), self.databases.len(), self.settings.len(), self.tablespaces.len()];
        if counts.iter().any(|count| *count > COUNT) {
            return Err("it lists more entries than any backup has".into());
        }
        let mut names = HashSet::new();
        for object in &self.objects {
            if !is_object_name(&object.name) {
                return Err(format!("{:?} is not the name of an object next to it", object.name));
            }
            if !names.insert(object.name.as_str()) {
                return Err(format!("it lists {} twice", object.name));
            }
            if !is_sha256(&object.sha256) {
                return Err(format!("what it records for {} is not a SHA-256", object.name));
            }
        }
        let mut oids = HashSet::new();
        for space in &self.tablespaces {
            if space.oid == 0 || !oids.insert(space.oid) {
                return Err(format!("{} is not a tablespace, or is listed twice", space.oid));
            }
            let plain = !space.location.is_empty() && !space.location.split('/').any(|part| part == "..");
            if !plain || !is_word(&space.location, 4096) {
                return Err(format!("{:?} is not a tablespace location", space.location));
            }
        }
        Ok(())
    }

    fn validate_wal(&self) -> Result<(), String> {
        let size = self.wal_segment_size;
        if !is_segment_size(size) {
            return Err(format!("{size} bytes is not a valid WAL segment size (1 MiB to 1 GiB, a power of two)"));
        }
        if self.start_lsn > self.stop_lsn || self.stop_lsn > Lsn::FURTHEST {
            return Err(format!("a backup cannot reach from {} to {}", self.start_lsn, self.stop_lsn));
        }
        if (self.stop_lsn.0 - self.start_lsn.0) / size > SEGMENTS {
            let range = format!("from {} to {}", self.start_lsn, self.stop_lsn);
            return Err(format!("no server writes as much WAL during a backup as there is {range}"));
        }
        if self.start_timeline == 0 || self.timeline < self.start_timeline {
            return Err(format!("a backup cannot lead from timeline {} to {}", self.start_timeline, self.timeline));
        }
        let ends = self.start_lsn.0 + 1..=self.stop_lsn.0.next_multiple_of(size);
        if let Some(last) = &self.last_segment
            && !(is_sha256(&last.sha256) && last.end.0.is_multiple_of(size) && ends.contains(&last.end.0))
        {
            return Err(format!(
                "{} is not the end of its last segment, or the segment's SHA-256 is invalid",
                last.end
            ));
        }
        Ok(())
    }

    fn validate_words(&self) -> Result<(), String> {
        let kind = if self.is_incremental() { "incremental" } else { "full" };
        if self.kind != kind {
            return Err(format!("its kind is {kind}, not {:?}", self.kind));
        }
        if !matches!(self.major(), 9..=999) {
            return Err(format!("{:?} is not a PostgreSQL version", self.server_version));
        }
        let words = [&self.label, &self.system_id, &self.superuser, &self.server_version, &self.program_version];
        let more = [&self.server, &self.compression].into_iter().chain(&self.parent).chain(&self.job);
        for word in words.into_iter().chain(more).chain(&self.encrypted_to) {
            if !is_word(word, 16384) {
                return Err(format!("{:.100?} is not a valid name", word));
            }
        }
        // What a database is called is for its owner to say: a line end in it is foolish, and allowed.
        if self.databases.keys().any(|name| name.len() > 1024 || name.contains('\0')) {
            return Err("it lists an invalid database name".into());
        }
        Ok(())
    }
}

/// Text without anything that a terminal, a file of configuration or a path would take for more than text.
fn is_word(text: &str, longest: usize) -> bool {
    text.len() <= longest && !text.contains(char::is_control)
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_object_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['.', '-'])
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::{BackupInfo, Error, sealed};
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "format": 1, "label": "20261121T235900Z-aaaaaa", "cluster": "main", "system-id": "7", "kind": "full",
            "server": "h:5432", "superuser": "postgres", "server-version": "15.18", "program-version": "0.1",
            "started-at": "2026-11-21T23:59:00Z", "finished-at": "2026-11-21T23:59:10Z", "start-lsn": "0/2000028",
            "stop-lsn": "0/2000100", "start-timeline": 1, "timeline": 1, "wal-segment-size": 16 << 20, "databases": {"a": 1},
            "settings": {"max_connections": "100"}, "tablespaces": [{"oid": 16400, "location": "/srv/space"}],
            "checksum-failures": false, "bytes": 9, "stored-bytes": 9, "compression": "zstd", "checksum": "",
            "objects": [{"name": "base.0001.tar.zst", "kind": "data", "size": 9, "plain-size": 9, "sha256": "0".repeat(64)}]
        })
    }

    pub(crate) fn info() -> BackupInfo {
        read(good()).unwrap()
    }

    fn read(value: Value) -> Result<BackupInfo, Error> {
        let bytes = sealed::seal("x", sealed::fields("x", &value).unwrap()).unwrap();
        BackupInfo::from_bytes("main/7/backups/x/backup.json", &bytes)
    }

    #[test]
    fn c36_a_forged_catalogue_is_refused_and_named() {
        assert!(read(good()).is_ok());
        let object = |name: &str, size: u64| json!([{"name": name, "kind": "data", "size": size, "plain-size": 9, "sha256": "0".repeat(64)}]);
        for (field, value) in [
            ("stop-lsn", json!("FFFFFFFF/FF000000")),
            ("stop-lsn", json!("FFFF/0")),
            ("stop-lsn", json!("0/1")),
            ("wal-segment-size", json!(0)),
            ("wal-segment-size", json!((16 << 20) + 1)),
            ("wal-segment-size", json!(1_u64 << 40)),
            ("timeline", json!(0)),
            ("start-timeline", json!(2)),
            ("kind", json!("incremental")),
            ("parent", json!("x")),
            ("server-version", json!("../../tmp/evil")),
            ("superuser", json!("postgres\n")),
            ("server", json!("\u{1b}[2J")),
            ("tablespaces", json!([{"oid": 1, "location": "/srv/../etc"}])),
            ("tablespaces", json!([{"oid": 1, "location": "/a"}, {"oid": 1, "location": "/b"}])),
            ("objects", object("../x", 9)),
            ("objects", object("a b", 9)),
            ("objects", object("a", u64::MAX)),
            ("bytes", json!(u64::MAX)),
            ("last-segment", json!({"end": "0/3000001", "sha256": "0".repeat(64)})),
            ("last-segment", json!({"end": "0/3000000", "sha256": "../x"})),
            ("databases", json!({"a": u64::MAX})),
        ] {
            let mut forged = good();
            forged[field] = value;
            let error = read(forged.clone()).expect_err(&forged[field].to_string()).to_string();
            assert!(error.contains("backup.json is damaged") && !error.contains(char::is_control), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn c36_no_value_of_a_number_makes_a_reader_panic(
            field in 0_usize..6, number in proptest::num::u64::ANY, high in proptest::num::u32::ANY, low in proptest::num::u32::ANY
        ) {
            let mut forged = good();
            let lsn = json!(format!("{high:X}/{low:X}"));
            let (name, value) = match field {
                0 => ("start-lsn", lsn),
                1 => ("stop-lsn", lsn),
                2 => ("wal-segment-size", json!(number)),
                3 => ("timeline", json!(high)),
                4 => ("bytes", json!(number)),
                _ => ("objects", json!([{"name": "a", "kind": "data", "size": number, "plain-size": number, "sha256": "0"}])),
            };
            forged[name] = value;
            if let Ok(info) = read(forged) {
                let segments = (info.stop_lsn.0 - info.start_lsn.0) / info.wal_segment_size;
                proptest::prop_assert!(segments <= super::SEGMENTS);
            }
        }
    }
}
