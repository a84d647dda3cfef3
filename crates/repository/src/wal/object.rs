//! What lies in an archive: the names of objects, and the signatures in them.

use crate::{
    BackupInfo, Error,
    signature::{COMPACT, is_compact, unsigned},
};
use pgbosun_core::wal::WalFile;
use std::collections::HashMap;

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalObject {
    /// What it is.
    pub file: WalFile,
    /// SHA-256 of the plain file, hex.
    pub sha256: String,
    /// Where it lies.
    pub key: String,
    /// Bytes as stored; 0 where only its name was looked up.
    pub size: u64,
    /// The signature in its name, or beside it.
    pub signature: Option<String>,
    /// The objects beside it that hold signatures.
    pub(super) companions: Vec<String>,
}

/// What lies in an archive, each in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalContents {
    /// What is to be believed: everything, where no signature is checked.
    pub believed: Vec<WalObject>,
    /// What nobody trusted has signed (C42).
    pub untrusted: Vec<WalObject>,
}

impl WalContents {
    /// C2: the files of which there are two with different contents. The same content may be there under several names, with and
    /// without a signature or by two signers, and that is no conflict.
    pub fn conflicts(&self) -> impl Iterator<Item = &WalFile> {
        let files = self.believed.chunk_by(|one, other| one.file == other.file);
        let differ = |objects: &&[WalObject]| objects.iter().any(|object| object.sha256 != objects[0].sha256);
        files.filter(differ).map(|objects| &objects[0].file)
    }

    /// C43: whether there is another segment under the name of a backup's last one, and not that: not the same server wrote both.
    pub fn is_of_another(&self, info: &BackupInfo) -> bool {
        let Some((segment, sha256)) = info.last_segment() else { return false };
        let file = WalFile::Segment(segment);
        let first = self.believed.partition_point(|object| object.file < file);
        let mut there = self.believed[first..].iter().take_while(|object| object.file == file).peekable();
        there.peek().is_some() && there.all(|object| object.sha256 != sha256)
    }

    /// C43: the newest segment of an archive that was begun and has not come up to a backup's last one. A later timeline is past it.
    pub fn newest_before(&self, info: &BackupInfo) -> Option<&WalObject> {
        let segments = self.believed.partition_point(|object| matches!(object.file, WalFile::Segment(_)));
        let newest = self.believed[..segments].last()?;
        let (last, _) = info.last_segment()?;
        (newest.file < WalFile::Segment(last)).then_some(newest)
    }
}

/// Objects with what lies beside them.
pub(super) fn gather(stored: impl IntoIterator<Item = (String, u64)>) -> Vec<WalObject> {
    let (mut found, mut beside) = (Vec::new(), HashMap::<WalFile, Vec<(String, String)>>::new());
    for (key, size) in stored {
        let name = key.rsplit('/').next().unwrap_or_default();
        if let Some((file, sha256, signature)) = parse(name) {
            found.push(WalObject { file, sha256, size, signature, companions: Vec::new(), key });
        } else if let Some((file, signature)) = parse_companion(name) {
            beside.entry(file).or_default().push((signature, key));
        }
    }
    for object in &mut found {
        for (signature, key) in beside.get(&object.file).into_iter().flatten() {
            object.signature.get_or_insert_with(|| signature.clone());
            object.companions.push(key.clone());
        }
    }
    found.sort();
    found
}

impl WalObject {
    /// Why it is not to be believed.
    pub fn untrusted(&self) -> Error {
        let reason = match self.signature {
            None => unsigned(),
            Some(_) => "no key among trusted-keys has signed this content for this place".to_owned(),
        };
        Error::Untrusted { object: self.key.clone(), reason }
    }
}

/// How the name of an object ends that holds the signature of the file beside it.
pub(super) const SIGNED: &str = ".signed";

/// `<file>-<sha256>`, the signature where there is one, and what the encoding added.
pub(super) fn parse(stored: &str) -> Option<(WalFile, String, Option<String>)> {
    let (name, rest) = stored.split_once('-')?;
    let (sha256, rest) = (rest.get(..64)?, &rest[64..]);
    if !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let signature = rest.strip_prefix('.').and_then(|rest| rest.get(..COMPACT)).filter(|word| is_compact(word));
    Some((WalFile::parse(name)?, sha256.to_owned(), signature.map(str::to_owned)))
}

/// `<file>.<signature>.signed`. Earlier versions take it for nothing of theirs.
pub(super) fn parse_companion(stored: &str) -> Option<(WalFile, String)> {
    let (name, signature) = stored.strip_suffix(SIGNED)?.rsplit_once('.')?;
    is_compact(signature).then_some(())?;
    Some((WalFile::parse(name)?, signature.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_one_content_under_two_names_is_no_conflict() {
        let (one, other) = ("0".repeat(64), "1".repeat(64));
        let conflicts = |names: &[String]| {
            let believed = gather(names.iter().map(|name| (format!("main/7/wal/{name}"), 0)));
            let contents = WalContents { believed, untrusted: Vec::new() };
            contents.conflicts().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (first, second) = ("000000010000000000000001", "000000010000000000000002");
        let twice = [format!("{first}-{one}.zst"), format!("{first}-{one}.zst.age"), format!("{second}-{other}.zst")];
        assert!(conflicts(&twice).is_empty());
        let differ = [&twice[..], &[format!("{first}-{other}.zst"), format!("{first}-{other}.gz")]].concat();
        assert_eq!(conflicts(&differ), [first]);
    }

    #[test]
    fn c43_an_archive_says_of_a_backup_that_it_is_anothers_or_that_it_does_not_know_yet() {
        let (ours, theirs) = ("0".repeat(64), "1".repeat(64));
        let mut info = crate::catalogue::test_info();
        info.timeline = 2;
        info.last_segment =
            Some(crate::LastSegment { end: pgbosun_core::lsn::Lsn(4 * info.wal_segment_size), sha256: ours.clone() });
        let fork = |names: &[(&str, &str)]| {
            let keys = names.iter().map(|(name, sha256)| (format!("main/7/wal/{name}-{sha256}.zst"), 9));
            let contents = WalContents { believed: gather(keys), untrusted: Vec::new() };
            (contents.is_of_another(&info), contents.newest_before(&info).map(|object| object.file.to_string()))
        };
        let name = |timeline: u32, number: u32| format!("{timeline:08X}00000000{number:08X}");
        let (before, last, after, earlier) = (name(2, 2), name(2, 3), name(2, 4), name(1, 9));
        assert_eq!(fork(&[]), (false, None), "an archive that was never begun");
        assert_eq!(fork(&[(&earlier, &ours), (&before, &theirs)]), (false, Some(before.clone())));
        assert_eq!(fork(&[(&earlier, &ours)]), (false, Some(earlier.clone())), "it has not come to the timeline");
        assert_eq!(fork(&[(&before, &ours), (&last, &ours)]), (false, None));
        assert_eq!(fork(&[(&last, &theirs)]), (true, None));
        assert_eq!(fork(&[(&last, &theirs), (&last, &ours)]), (false, None), "a conflict, of which this is one");
        assert_eq!(fork(&[(&after, &theirs), (&name(3, 1), &theirs)]), (false, None), "removed since");
        info.last_segment = None;
        assert!(info.last_segment().is_none());
    }
}
