//! A backup and what it builds upon: which file comes from which of them (C11, C12).

use super::extract::{Wanted, logical};
use crate::{Error, manifest};
use pgbosun_repository::{BackupInfo, ObjectKind, Repository, read_volume};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One backup of a chain with the files in its volumes.
#[derive(Debug)]
pub(super) struct Link {
    pub info: BackupInfo,
    /// By volume, without what its encoding adds to the name.
    pub files: BTreeMap<String, Vec<String>>,
}

/// A full backup and the incremental ones upon it, oldest first.
#[derive(Debug)]
pub(super) struct Chain {
    pub links: Vec<Link>,
}

/// The path within the data directory of an entry in a volume.
fn path_in(volume: &str, name: &str) -> String {
    match volume.strip_prefix("tablespace-").and_then(|rest| rest.split_once('.')) {
        Some((oid, _)) => format!("pg_tblspc/{oid}/{name}"),
        None => name.to_owned(),
    }
}

fn holds_data(volume: &str) -> bool {
    volume.starts_with("base.") || volume.starts_with("tablespace-")
}

impl Chain {
    /// The chain that ends with this backup. What does not fit together is refused (C12).
    pub async fn load(repository: &Repository, last: &BackupInfo) -> Result<Self, Error> {
        let mut links = Vec::new();
        let mut next = Some(last.clone());
        while let Some(info) = next {
            let files = repository.files(&info).await?;
            next = match &info.parent {
                Some(label) => Some(repository.find(Some(&info.cluster), label).await?),
                None => None,
            };
            if let Some(parent) = &next
                && (parent.system_id != info.system_id || parent.start_lsn > info.start_lsn)
            {
                return Err(Error::Refused(format!(
                    "{} does not fit upon {}: another system identifier or a later start",
                    info.label, parent.label
                )));
            }
            links.push(Link { info, files });
            if links.len() > 1000 {
                return Err(Error::Refused(format!("the chain of {} has no beginning", last.label)));
            }
        }
        links.reverse();
        Ok(Self { links })
    }

    /// The backup that is restored.
    pub fn last(&self) -> &BackupInfo {
        // A chain has at least the backup it was loaded for.
        &self.links[self.links.len() - 1].info
    }

    /// What to take from each volume of each link: of the last everything, of the earlier ones what only they have whole.
    /// `present` names files that are in the target already as they should be.
    pub fn wanted(&self, present: &HashSet<String>) -> Result<Vec<HashMap<String, Wanted>>, Error> {
        let mut wanted: Vec<HashMap<String, Wanted>> = Vec::new();
        // Files of which only changed blocks were seen so far, walking back.
        let mut pending: HashSet<String> = HashSet::new();
        for (index, link) in self.links.iter().enumerate().rev() {
            let last = index + 1 == self.links.len();
            let mut still = HashSet::new();
            let mut of_link = HashMap::new();
            for (volume, names) in link.files.iter().filter(|(volume, _)| holds_data(volume)) {
                let mut chosen = HashSet::new();
                for name in names {
                    let (file, incremental) = logical(name);
                    let path = path_in(volume, &file);
                    if present.contains(&path) || !(last || pending.contains(&path)) {
                        continue;
                    }
                    chosen.insert(name.clone());
                    if incremental {
                        still.insert(path);
                    } else {
                        pending.remove(&path);
                    }
                }
                of_link.insert(volume.clone(), Wanted::Some(chosen));
            }
            // What this link has only changed blocks of, and what it does not mention, must come from an earlier one.
            pending.extend(still);
            wanted.push(of_link);
        }
        if let Some(missing) = pending.into_iter().min() {
            let reason = format!("no backup of the chain of {} has {missing} whole", self.last().label);
            return Err(Error::Refused(reason));
        }
        wanted.reverse();
        Ok(wanted)
    }

    /// Whether the backup that is restored holds this file.
    pub fn has(&self, file: &str) -> bool {
        let mut volumes = self.links[self.links.len() - 1].files.iter().filter(|(volume, _)| holds_data(volume));
        volumes.any(|(_, names)| names.iter().any(|name| name == file))
    }

    /// Paths of files that are put together from several backups.
    pub fn combined(&self) -> HashSet<String> {
        let link = &self.links[self.links.len() - 1];
        let names = link.files.iter().flat_map(|(volume, names)| names.iter().map(move |name| (volume, name)));
        names
            .filter_map(|(volume, name)| {
                let (file, incremental) = logical(name);
                incremental.then(|| path_in(volume, &file))
            })
            .collect()
    }
}

/// PostgreSQL's manifest of a backup.
pub(super) async fn read_manifest(
    repository: &Repository,
    info: &BackupInfo,
) -> Result<(Vec<u8>, HashMap<String, manifest::Expected>), Error> {
    let missing = || Error::Refused(format!("backup {} has no manifest", info.label));
    let object = info.object(ObjectKind::Manifest).ok_or_else(missing)?;
    let key = info.place().key(&object.name);
    let bytes = read_volume(repository, &key, object, |reader| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(reader, &mut bytes).map_err(Error::file("read", "backup_manifest"))?;
        Ok::<_, Error>(bytes)
    });
    let bytes = bytes.await?;
    let parsed =
        manifest::parse(&bytes).map_err(|reason| pgbosun_repository::Error::Damaged { object: key.clone(), reason })?;
    Ok((bytes, parsed))
}
