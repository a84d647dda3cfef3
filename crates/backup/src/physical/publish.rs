//! The last steps of a backup: its configuration files, the list of files, and `backup.json`, which makes it exist (C14).

use super::Pass;
use crate::{Error, config_files::ConfigFiles, inspect::Inspection, physical::source};
use chrono::{DateTime, SubsecRound, Utc};
use pgbosun_core::clock;
use pgbosun_postgres::replication::{BackupEnd, BackupStart};
use pgbosun_repository::{
    BackupInfo, FORMAT, LastSegment, ObjectKind, PlainWriter, Repository, TablespaceInfo, VolumeWriter, Written,
};
use std::collections::{BTreeMap, HashSet};

impl Pass<'_> {
    pub(super) async fn publish(
        &self,
        (before, configuration): (Inspection, ConfigFiles),
        start: &BackupStart,
        (end, last_segment): (BackupEnd, Option<LastSegment>),
        started_at: DateTime<Utc>,
        mut written: Written,
        parent: Option<BackupInfo>,
    ) -> Result<Vec<(Repository, BackupInfo)>, Error> {
        self.publish_lists(&configuration, &mut written).await?;

        let hosts: Vec<_> = self.server.conninfo.hosts.iter().map(ToString::to_string).collect();
        let tablespaces = start.tablespaces.iter();
        let place = self.to.place();
        // A target time is compared with commit times, which the server's clock makes: so its clock counts here (C19).
        let finished_at = source::now(&self.server).await.unwrap_or_else(|_| clock::now());
        let info = BackupInfo {
            format: FORMAT,
            label: place.label.clone(),
            cluster: place.cluster.clone(),
            system_id: place.system_id.clone(),
            kind: if parent.is_some() { "incremental" } else { "full" }.into(),
            parent: parent.map(|parent| parent.label),
            job: self.physical.job.clone(),
            server: hosts.join(","),
            superuser: before.superuser,
            server_version: before.version,
            program_version: env!("CARGO_PKG_VERSION").into(),
            started_at,
            finished_at: finished_at.trunc_subsecs(3).max(started_at),
            start_lsn: start.lsn,
            stop_lsn: end.lsn,
            start_timeline: start.timeline,
            timeline: end.timeline,
            wal_segment_size: before.wal_segment_size,
            databases: before.databases,
            settings: before.settings,
            tablespaces: tablespaces.map(|t| TablespaceInfo { oid: t.oid, location: t.location.clone() }).collect(),
            last_segment,
            checksum_failures: end.checksum_failures,
            bytes: 0,
            stored_bytes: 0,
            compression: String::new(),
            encrypted_to: Vec::new(),
            objects: Vec::new(),
            checksum: String::new(),
        };
        let mut stored = Vec::new();
        for (encoding, repository) in self.to.alive() {
            let mut info = info.clone();
            info.objects = written.objects.get(&encoding).cloned().unwrap_or_default();
            info.bytes = info.objects.iter().map(|object| object.plain_size).sum();
            info.stored_bytes = info.objects.iter().map(|object| object.size).sum();
            info.compression = repository.options.compression.to_string();
            info.encrypted_to = repository.options.encrypt_to.clone();
            match repository.publish(place, &info).await {
                Ok(()) => stored.push((repository, info)),
                Err(error) => self.to.leave(&repository.name, error),
            }
        }
        if stored.is_empty() {
            let reason = self.to.dropped().into_iter().next().map(|(_, error)| error.into());
            return Err(reason.unwrap_or(Error::Repository(pgbosun_repository::Error::NoneLeft)));
        }
        Ok(stored)
    }

    /// The configuration files, and the list of all files: with private keys only where they are encrypted.
    async fn publish_lists(&self, configuration: &ConfigFiles, written: &mut Written) -> Result<(), Error> {
        let data = written.files.iter().filter(|(volume, _)| volume.starts_with("base."));
        // There may be millions of files, of which these are a few.
        let inside = configuration.inside();
        let names = data.flat_map(|(_, names)| names).map(String::as_str);
        let in_data: HashSet<&str> = names.filter(|name| inside.contains(name)).collect();
        configuration.warn(|name| in_data.contains(name));
        let mut finished = Vec::new();
        for (is_encrypted, to) in self.to.by_encryption() {
            let members = configuration.members(is_encrypted, |name| in_data.contains(name));
            let mut of_these = Written::default();
            if !members.is_empty() {
                let mut volume = VolumeWriter::create(&to, "config", ObjectKind::Config).await?;
                for (name, bytes) in members {
                    volume.add_file(&name, bytes).await?;
                }
                of_these = volume.finish().await?;
            }
            let files: BTreeMap<_, _> = written.files.iter().chain(&of_these.files).collect();
            let index = serde_json::to_vec(&files).map_err(pgbosun_repository::Error::serialize("files.json"))?;
            let mut writer = PlainWriter::create(&to, "files.json", ObjectKind::Index).await?;
            writer.write(&index).await?;
            of_these.extend(writer.finish().await?);
            finished.push(of_these);
        }
        finished.into_iter().for_each(|of_these| written.extend(of_these));
        Ok(())
    }
}
