//! `files.json`: which files lie in which volume.
//!
//! C36: a list names volumes that are declared, each once, and no more files than fit into them: it is refused at the first that is
//! too many, before memory is taken for the rest.

use crate::{BackupInfo, Object};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::{BufReader, Read},
};

/// The files of a backup: far more than a server has, and what the largest manifest that is read names.
pub const MOST_FILES: u64 = 1 << 23;

/// What a file takes in a tar at least: its header.
const LEAST: u64 = 512;

impl BackupInfo {
    /// How many files can be in the volumes that are declared (C36).
    pub fn most_files(&self) -> u64 {
        self.objects.iter().map(most_in).fold(0, u64::saturating_add).min(MOST_FILES)
    }
}

const fn most_in(object: &Object) -> u64 {
    object.plain_size / LEAST
}

/// The files of each volume, by its name without what its encoding adds.
pub(crate) fn parse(info: &BackupInfo, reader: impl Read) -> serde_json::Result<BTreeMap<String, Vec<String>>> {
    let volumes = info.objects.iter().filter_map(|object| {
        let end = object.name.find(".tar")? + 4;
        Some((object.name[..end].to_owned(), most_in(object)))
    });
    let listing = Listing { left: info.most_files(), volumes: volumes.collect() };
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, reader));
    let parsed = listing.deserialize(&mut json)?;
    json.end()?;
    Ok(parsed)
}

struct Listing {
    volumes: HashMap<String, u64>,
    left: u64,
}

impl<'de> DeserializeSeed<'de> for Listing {
    type Value = BTreeMap<String, Vec<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Listing {
    type Value = BTreeMap<String, Vec<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the files of each volume")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut parsed = BTreeMap::new();
        while let Some(volume) = map.next_key::<String>()? {
            let most = self.volumes.remove(&volume);
            let most =
                most.ok_or_else(|| A::Error::custom(format!("{volume:.200?} is not a volume, or is listed twice")))?;
            let names = map.next_value_seed(Names(most.min(self.left)))?;
            self.left -= names.len() as u64;
            parsed.insert(volume, names);
        }
        Ok(parsed)
    }
}

/// At most so many names.
struct Names(u64);

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
        let mut read = Vec::new();
        while let Some(name) = names.next_element::<String>()? {
            if read.len() as u64 == self.0 {
                return Err(A::Error::custom("more files are listed than fit into the declared size"));
            }
            read.push(name);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKind;

    #[test]
    fn c36_a_list_names_no_more_files_than_fit_into_what_is_declared() {
        let mut info = crate::catalogue::test_info();
        let object = |name: &str, kind, plain_size| Object {
            name: name.into(),
            kind,
            size: 9,
            sha256: "0".repeat(64),
            plain_size,
        };
        info.objects = vec![
            object("base.0001.tar.zst", ObjectKind::Data, 3 * 512),
            object("wal.tar.zst.age", ObjectKind::Wal, 2048),
            object("files.json", ObjectKind::Index, 9),
        ];
        let read = |text: &str| parse(&info, text.as_bytes()).map_err(|error| error.to_string());
        let good = read("{\"base.0001.tar\":[\"a\",\"b\",\"c\"],\"wal.tar\":[]}").unwrap();
        assert_eq!(good["base.0001.tar"], ["a", "b", "c"]);
        for (text, words) in [
            ("{\"base.0001.tar\":[\"a\",\"b\",\"c\",\"d\"]}", "more files are listed"),
            ("{\"base.0002.tar\":[]}", "is not a volume"),
            ("{\"base.0001.tar\":[],\"base.0001.tar\":[]}", "twice"),
            ("{\"base.0001.tar\":[]} {}", "trailing"),
        ] {
            assert!(read(text).unwrap_err().contains(words), "{text}");
        }
        // What never ends is given up at the first name too many.
        info.objects[0].plain_size = 512 << 17;
        struct Endless(bool);
        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let begin = b"{\"base.0001.tar\":[\"\"";
                if !std::mem::replace(&mut self.0, true) {
                    buffer[..begin.len()].copy_from_slice(begin);
                    return Ok(begin.len());
                }
                let whole = buffer.len() / 3 * 3;
                buffer[..whole].chunks_exact_mut(3).for_each(|name| name.copy_from_slice(b",\"\""));
                Ok(whole)
            }
        }
        assert!(parse(&info, Endless(false)).unwrap_err().to_string().contains("more files are listed"));
    }
}
