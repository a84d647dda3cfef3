//! PostgreSQL's backup manifest (documentation, "Backup Manifest Format"): parsed, checked against itself, and used to
//! check files.

use crate::Error;
use chrono::{DateTime, Utc};
use pgbosun_core::{lsn::Lsn, name::to_text};
use pgbosun_repository::Error as RepositoryError;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fmt,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What is read of a manifest, of at most so many files.
struct Manifest {
    most: u64,
    files: HashMap<String, Expected>,
    checksum: Option<String>,
}

impl<'de> DeserializeSeed<'de> for &mut Manifest {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Manifest {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a backup manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "Files" => map.next_value_seed(Files(self))?,
                "Manifest-Checksum" => self.checksum = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Files<'a>(&'a mut Manifest);

impl<'de> DeserializeSeed<'de> for Files<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Files<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the files of a backup manifest")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut files: A) -> Result<(), A::Error> {
        while let Some(file) = files.next_element::<File>()? {
            let (path, expected) = file.expected().map_err(A::Error::custom)?;
            if self.0.files.len() as u64 == self.0.most {
                return Err(A::Error::custom("it lists more files than fit into the volumes"));
            }
            match self.0.files.entry(path) {
                Entry::Occupied(known) => return Err(A::Error::custom(format!("it lists {:?} twice", known.key()))),
                Entry::Vacant(new) => drop(new.insert(expected)),
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Encoded-Path")]
    encoded_path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "Checksum-Algorithm")]
    algorithm: Option<String>,
    #[serde(rename = "Checksum")]
    checksum: Option<String>,
}

impl File {
    fn expected(self) -> Result<(String, Expected), String> {
        let path = match (self.path, self.encoded_path) {
            (Some(path), _) => path,
            (None, Some(encoded)) => to_text(&hex::decode(encoded).map_err(|error| error.to_string())?),
            (None, None) => return Err("a file has no path".into()),
        };
        let crc32c = self.checksum.filter(|_| self.algorithm.as_deref() == Some("CRC32C"));
        Ok((path, Expected { size: self.size, crc32c }))
    }
}

/// What the manifest says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub size: u64,
    /// CRC-32C, hex of its bytes in little-endian order as PostgreSQL writes them.
    pub crc32c: Option<String>,
}

impl Expected {
    /// In what a file is not as the manifest says, in words that follow its name.
    pub fn difference(&self, size: u64, crc32c: &str) -> Option<String> {
        if size != self.size {
            return Some(format!("has {size} bytes, but the manifest says {}", self.size));
        }
        let differs = self.crc32c.as_ref().is_some_and(|expected| expected != crc32c);
        differs.then(|| "does not have the checksum in the manifest".into())
    }
}

/// The files of a manifest by the text of their path; at most so many (C36).
pub(crate) fn parse(bytes: &[u8], most: u64) -> Result<HashMap<String, Expected>, String> {
    let mut parsed = Manifest { most, files: HashMap::new(), checksum: None };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    (&mut parsed).deserialize(&mut json).and_then(|()| json.end()).map_err(|error| error.to_string())?;
    // The checksum covers everything before its own line.
    let line = b"\"Manifest-Checksum\"";
    let end = bytes.windows(line.len()).rposition(|window| window == line).ok_or("it has no checksum")?;
    if parsed.checksum != Some(hex::encode(Sha256::digest(&bytes[..end]))) {
        return Err("its own checksum does not match".into());
    }
    Ok(parsed.files)
}

/// The manifest of a combined backup: that of its last one, in which the combined files and the label are as they are
/// now (C12).
pub(crate) fn combined(bytes: &[u8], files: &HashSet<String>, root: &Path) -> Result<Vec<u8>, Error> {
    let broken = |reason: String| RepositoryError::Damaged { object: "backup_manifest".into(), reason };
    let mut manifest: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| broken(error.to_string()))?;
    let entries = manifest.get_mut("Files").and_then(serde_json::Value::as_array_mut);
    for entry in entries.ok_or_else(|| broken("it lists no files".into()))? {
        let Some(path) = entry.get("Path").and_then(serde_json::Value::as_str) else { continue };
        let whole = match path.rsplit_once("INCREMENTAL.") {
            Some((directory, file)) => format!("{directory}{file}"),
            // Its words about the backup before are gone.
            None if path == "backup_label" => path.to_owned(),
            None => continue,
        };
        if !files.contains(&whole) && whole != "backup_label" {
            continue;
        }
        let file = root.join(&whole);
        let failed = || Error::file("read", &file);
        let (size, crc) = measure(&mut std::fs::File::open(&file).map_err(failed())?).map_err(failed())?;
        entry["Path"] = whole.into();
        entry["Size"] = size.into();
        entry["Checksum-Algorithm"] = "CRC32C".into();
        entry["Checksum"] = crc.into();
    }
    let mut text = String::from("{");
    // PostgreSQL reads them in this order.
    for key in ["PostgreSQL-Backup-Manifest-Version", "System-Identifier", "Files", "WAL-Ranges"] {
        if let Some(value) = manifest.get(key) {
            text.push_str(&format!("\"{key}\": {value},\n"));
        }
    }
    Ok(seal(text))
}

/// Ends a manifest with its checksum, which covers every line but its own.
fn seal(mut text: String) -> Vec<u8> {
    let checksum = hex::encode(Sha256::digest(&text));
    text.push_str(&format!("\"Manifest-Checksum\": \"{checksum}\"}}\n"));
    text.into_bytes()
}

/// A file as it was written to a backup of ours.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Below the data directory.
    pub path: PathBuf,
    pub size: u64,
    pub modified: DateTime<Utc>,
    pub crc32c: u32,
}

/// The range of WAL that makes a backup consistent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WalRange {
    pub timeline: u32,
    pub start: Lsn,
    pub end: Lsn,
}

/// The manifest of a backup, as the server itself would write it. From PostgreSQL 17 on it names the system.
pub(crate) fn write(files: &[Written], wal: WalRange, server_version: i32, system_id: &str) -> Vec<u8> {
    let mut text = match server_version {
        ..170_000 => String::from("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n"),
        _ => format!("{{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {system_id},\n"),
    };
    text.push_str("\"Files\": [");
    for (index, file) in files.iter().enumerate() {
        let path = match file.path.to_str() {
            Some(path) => format!("\"Path\": {}", serde_json::Value::from(path)),
            None => format!("\"Encoded-Path\": \"{}\"", hex::encode(file.path.as_os_str().as_bytes())),
        };
        let (size, modified) = (file.size, file.modified.format("%Y-%m-%d %H:%M:%S GMT"));
        let crc = hex::encode(file.crc32c.to_le_bytes());
        text.push_str(if index == 0 { "\n" } else { ",\n" });
        text.push_str(&format!(
            "{{ {path}, \"Size\": {size}, \"Last-Modified\": \"{modified}\", \"Checksum-Algorithm\": \"CRC32C\", \
             \"Checksum\": \"{crc}\" }}"
        ));
    }
    let WalRange { timeline, start, end } = wal;
    text.push_str(&format!(
        "\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {timeline}, \"Start-LSN\": \"{start}\", \"End-LSN\": \"{end}\" }}\n],\n"
    ));
    seal(text)
}

/// Measures what is read through it.
pub(crate) struct Measured<R> {
    inner: R,
    size: u64,
    crc: u32,
}

impl<R: io::Read> Measured<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, size: 0, crc: 0 }
    }

    /// Reads to the end what is left; returns size and CRC-32C in the manifest's spelling.
    pub fn end(mut self) -> io::Result<(u64, String)> {
        let mut buffer = vec![0; 1 << 17];
        while self.read(&mut buffer)? > 0 {}
        Ok((self.size, hex::encode(self.crc.to_le_bytes())))
    }
}

impl<R: io::Read> io::Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.size += read as u64;
        self.crc = crc32c::crc32c_append(self.crc, &buffer[..read]);
        Ok(read)
    }
}

/// Reads a file to its end; returns its size and CRC-32C in the manifest's spelling.
pub(crate) fn measure(file: &mut dyn io::Read) -> io::Result<(u64, String)> {
    Measured::new(file).end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"base/1/\xff"));
        let file = |path| Written { path, size: 9, modified: DateTime::UNIX_EPOCH, crc32c: 0xE306_9283 };
        let files = [file("base/1/\"a\"".into()), file(odd)];
        let wal = WalRange { timeline: 1, start: Lsn(40), end: Lsn(80) };
        for (version, word) in [(160_004, "Version\": 1,"), (180_001, "\"System-Identifier\": 77,")] {
            let bytes = write(&files, wal, version, "77");
            assert!(String::from_utf8_lossy(&bytes).contains(word));
            assert!(parse(&bytes, 1).unwrap_err().contains("more files"));
            let parsed = parse(&bytes, 2).unwrap();
            let expected = Expected { size: 9, crc32c: Some("839206e3".into()) };
            assert_eq!(parsed.get("base/1/\"a\""), Some(&expected));
            assert_eq!(parsed.len(), 2);
        }
        let mut bytes = write(&files, wal, 150_000, "77");
        bytes[60] ^= 1;
        assert!(parse(&bytes, 2).is_err());
    }
}
