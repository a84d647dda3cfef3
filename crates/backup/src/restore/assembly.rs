//! How the files of a backup are put together from the links of its chain: which file comes from which of them (C11, C12).

use super::extract::{Wanted, logical};
use crate::{Catalogue, Chain, Error, manifest};
use pgbosun_repository::{BackupInfo, BackupRef, Object, ObjectKind, Repository, read_volume};
use std::collections::{BTreeMap, HashMap, HashSet};

/// One backup of a chain with the files in its volumes.
#[derive(Debug)]
pub(crate) struct Link {
    pub info: BackupInfo,
    /// By volume, without what its encoding adds to the name.
    pub files: BTreeMap<String, Vec<String>>,
}

/// What to read of one link: where it lies, and the objects with what is taken from each.
pub(crate) type Reads = (BackupRef, Vec<(Object, Wanted)>);

/// A full backup and the incremental ones upon it, oldest first.
#[derive(Debug)]
pub(crate) struct Assembly {
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

impl Assembly {
    /// The chain that ends with this backup. What does not fit together is refused (C12).
    pub async fn load(repository: &Repository, last: &BackupInfo) -> Result<Self, Error> {
        // C27: what cannot be read beside a backup keeps nobody from restoring it; a chain that is broken does.
        let catalogue = Catalogue::for_restore(repository, &last.cluster).await?;
        let none = || pgbosun_repository::Error::NoBackup(last.label.clone());
        let entry = catalogue.find(&last.place()).ok_or_else(none)?;
        if !entry.health().is_whole() {
            return Err(Error::Refused(entry.health().to_string()));
        }
        Self::of(repository, &catalogue.chain(entry)).await
    }

    /// The same, of a chain that is known to be whole.
    pub async fn of(repository: &Repository, chain: &Chain<'_>) -> Result<Self, Error> {
        let mut links = Vec::new();
        for info in &chain.links {
            links.push(Link { info: (*info).clone(), files: repository.files(info).await? });
        }
        Ok(Self { links })
    }

    /// The backup that is restored.
    pub fn last(&self) -> &BackupInfo {
        // A chain has at least the backup it was loaded for.
        &self.links[self.links.len() - 1].info
    }

    /// What to read of each link, the full backup first: the objects with what is taken from each. Of the last link everything, of
    /// the earlier ones what only they have whole. What this returns can be restored as far as the lists say; verification asks
    /// the same question.
    pub fn volumes(&self, present: &HashSet<String>) -> Result<Vec<Reads>, Error> {
        let mut wanted = self.wanted(present)?;
        // Where all configuration lies in the data directory nothing that pg_verifybackup would not know belongs beside it.
        let own_configuration = self.has("postgresql.conf") && !self.has_saved_configuration();
        let mut volumes = Vec::new();
        for (index, link) in self.links.iter().enumerate() {
            let last = index + 1 == self.links.len();
            let mut objects = Vec::new();
            for object in &link.info.objects {
                let wanted = match object.kind {
                    ObjectKind::Manifest | ObjectKind::Index => continue,
                    ObjectKind::Config if own_configuration => continue,
                    ObjectKind::Wal | ObjectKind::Config if !last => continue,
                    ObjectKind::Wal | ObjectKind::Config => Wanted::All,
                    ObjectKind::Data | ObjectKind::Tablespace(_) => take_wanted(&mut wanted[index], &object.name),
                };
                // A volume of which nothing is wanted is not even fetched: a tablespace that was dropped meanwhile, for one.
                if matches!(&wanted, Wanted::Some(names) if names.is_empty()) {
                    continue;
                }
                if let ObjectKind::Tablespace(oid) = object.kind
                    && !self.last().tablespaces.iter().any(|space| space.oid == oid)
                {
                    return Err(Error::Refused(format!("tablespace {oid} is not described in backup.json")));
                }
                objects.push((object.clone(), wanted));
            }
            volumes.push((link.info.place(), objects));
        }
        Ok(volumes)
    }

    /// What to take from each volume of each link: of the last everything, of the earlier ones what only they have whole.
    /// `present` names files that are in the target already as they should be.
    fn wanted(&self, present: &HashSet<String>) -> Result<Vec<HashMap<String, Wanted>>, Error> {
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
            let reason = format!("no backup in the chain of {} has all of {missing:?}", self.last().label);
            return Err(Error::Refused(reason));
        }
        wanted.reverse();
        Ok(wanted)
    }

    /// What will be written, by kind, bytes: of data at least as much as any backup of the chain has whole, of which the changes of an
    /// incremental one are a part; without tablespaces no less than the databases had.
    pub fn sizes(&self) -> BTreeMap<ObjectKind, u64> {
        let mut sizes: BTreeMap<ObjectKind, u64> = BTreeMap::new();
        for link in &self.links {
            let mut of_link: BTreeMap<ObjectKind, u64> = BTreeMap::new();
            for object in &link.info.objects {
                *of_link.entry(object.kind).or_default() += object.plain_size;
            }
            for (kind, size) in of_link {
                let largest = sizes.entry(kind).or_default();
                *largest = size.max(*largest);
            }
        }
        let info = self.last();
        let described = |oid| info.tablespaces.iter().any(|space| space.oid == oid);
        sizes.retain(|kind, _| match kind {
            ObjectKind::Tablespace(oid) => described(*oid),
            kind => !matches!(kind, ObjectKind::Manifest | ObjectKind::Index),
        });
        if info.tablespaces.is_empty() {
            let data = sizes.entry(ObjectKind::Data).or_default();
            *data = info.databases.values().sum::<u64>().max(*data);
        }
        sizes
    }

    /// Whether the backup that is restored holds this file.
    fn has(&self, file: &str) -> bool {
        let mut volumes = self.links[self.links.len() - 1].files.iter().filter(|(volume, _)| holds_data(volume));
        volumes.any(|(_, names)| names.iter().any(|name| name == file))
    }

    /// Whether it brings along configuration that lay outside the data directory, or led there.
    fn has_saved_configuration(&self) -> bool {
        let saved = self.links[self.links.len() - 1].files.iter().filter(|(volume, _)| *volume == "config.tar");
        saved.flat_map(|(_, names)| names).any(|name| name.contains('/'))
    }

    /// Paths of files that are put together from several backups.
    pub fn combined(&self) -> HashSet<String> {
        let link = &self.links[self.links.len() - 1];
        let volumes = link.files.iter().filter(|(volume, _)| holds_data(volume));
        let names = volumes.flat_map(|(volume, names)| names.iter().map(move |name| (volume, name)));
        names
            .filter_map(|(volume, name)| {
                let (file, incremental) = logical(name);
                incremental.then(|| path_in(volume, &file))
            })
            .collect()
    }
}

/// What is wanted of the volume with this name.
fn take_wanted(wanted: &mut HashMap<String, Wanted>, name: &str) -> Wanted {
    let volume = name.find(".tar").map_or(name, |at| &name[..at + 4]);
    wanted.remove(volume).unwrap_or_else(|| Wanted::Some(HashSet::new()))
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
    let parsed = manifest::parse(&bytes, info.most_files())
        .map_err(|reason| pgbosun_repository::Error::Damaged { object: key.clone(), reason })?;
    Ok((bytes, parsed))
}
