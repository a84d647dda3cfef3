//! PostgreSQL's backup manifest (documentation, "Backup Manifest Format"): parsed, checked against itself, and used to
//! check files.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{collections::HashMap, io};

#[derive(Deserialize)]
struct Parsed {
    #[serde(rename = "Files")]
    files: Vec<File>,
    #[serde(rename = "Manifest-Checksum")]
    checksum: String,
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

/// What the manifest says of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub size: u64,
    /// CRC-32C, hex of its bytes in little-endian order as PostgreSQL writes them.
    pub crc32c: Option<String>,
}

/// The files of a manifest by path.
pub(crate) fn parse(bytes: &[u8]) -> Result<HashMap<String, Expected>, String> {
    let parsed: Parsed = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    // The checksum covers everything before its own line.
    let line = b"\"Manifest-Checksum\"";
    let end = bytes.windows(line.len()).rposition(|window| window == line).ok_or("it has no checksum")?;
    if hex::encode(Sha256::digest(&bytes[..end])) != parsed.checksum {
        return Err("its own checksum does not match".into());
    }
    let mut files = HashMap::new();
    for file in parsed.files {
        let path = match (file.path, file.encoded_path) {
            (Some(path), _) => path,
            (None, Some(encoded)) => {
                let bytes = hex::decode(encoded).map_err(|error| error.to_string())?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            (None, None) => return Err("a file has no path".into()),
        };
        let crc32c = file.checksum.filter(|_| file.algorithm.as_deref() == Some("CRC32C"));
        files.insert(path, Expected { size: file.size, crc32c });
    }
    Ok(files)
}

/// Reads a file to its end; returns its size and CRC-32C in the manifest's spelling.
pub(crate) fn measure(file: &mut dyn io::Read) -> io::Result<(u64, String)> {
    let (mut size, mut crc) = (0_u64, 0_u32);
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex::encode(crc.to_le_bytes()))),
            n => {
                size += n as u64;
                crc = crc32c::crc32c_append(crc, &buffer[..n]);
            }
        }
    }
}
