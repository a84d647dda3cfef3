//! `backup.json`: what makes a backup exist, and all that is needed to restore it (C22).

mod validate;

#[cfg(test)]
pub(crate) use validate::tests::info as test_info;

use crate::{BackupRef, Error, sealed};
use chrono::{DateTime, Utc};
use pgbosun_core::{lsn::Lsn, name::to_path, wal::Segment};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// The newest format this program writes and reads.
pub const FORMAT: u32 = 1;

/// What an object of a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A tar of the data directory.
    Data,
    /// A tar of the tablespace with this identity.
    Tablespace(u32),
    /// A tar of WAL segments, for `pg_wal`.
    Wal,
    /// A tar of `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf`, which often live outside the data directory.
    Config,
    /// PostgreSQL's own manifest, as it is.
    Manifest,
    /// JSON: the files in each volume, in order.
    Index,
}

/// One object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Object {
    /// Its name beside `backup.json`.
    pub name: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Bytes as stored.
    pub size: u64,
    /// SHA-256 as stored, hex.
    pub sha256: String,
    /// Bytes before compression.
    pub plain_size: u64,
}

/// A tablespace of the backed-up cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TablespaceInfo {
    /// Identity: the link's name in `pg_tblspc`.
    pub oid: u32,
    /// Where it lay, as text ([`pgbosun_core::name`]).
    pub location: String,
}

impl TablespaceInfo {
    /// Where it lay.
    pub fn place(&self) -> PathBuf {
        to_path(&self.location)
    }
}

/// A whole segment as the server sent it during a backup. By it the archive is known to be of the same server (C43).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastSegment {
    /// Where it ends: what follows is the next one.
    pub end: Lsn,
    /// SHA-256 of the plain file, hex.
    pub sha256: String,
}

/// A complete backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BackupInfo {
    /// Format of this file.
    pub format: u32,
    /// Name of the backup.
    pub label: String,
    /// Cluster as configured.
    pub cluster: String,
    /// System identifier.
    pub system_id: String,
    /// `full` or `incremental`.
    pub kind: String,
    /// The backup that an incremental one builds upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The job that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// `host:port` it was taken from.
    pub server: String,
    /// The role initdb made: who may look into a restored server.
    pub superuser: String,
    /// Version of the server, `15.18`.
    pub server_version: String,
    /// Version of the program that took it.
    pub program_version: String,
    /// Begin, UTC.
    pub started_at: DateTime<Utc>,
    /// End, UTC.
    pub finished_at: DateTime<Utc>,
    /// First WAL position needed.
    pub start_lsn: Lsn,
    /// Consistent from here.
    pub stop_lsn: Lsn,
    /// Timeline of the start.
    pub start_timeline: u32,
    /// Timeline of the stop.
    pub timeline: u32,
    /// Bytes of a WAL segment.
    pub wal_segment_size: u64,
    /// Databases and their sizes in bytes when the backup began.
    pub databases: BTreeMap<String, u64>,
    /// Settings of the server that a restored one must not undercut, or needs to know.
    pub settings: BTreeMap<String, String>,
    /// Tablespaces.
    pub tablespaces: Vec<TablespaceInfo>,
    /// The last segment that its own WAL has whole, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_segment: Option<LastSegment>,
    /// C15: the server found pages with a wrong checksum. Such a backup is suspect and never the last good one.
    pub checksum_failures: bool,
    /// Bytes read from the server.
    pub bytes: u64,
    /// Bytes stored.
    pub stored_bytes: u64,
    /// Compression of the volumes.
    pub compression: String,
    /// Whom the volumes are encrypted to; empty where they are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encrypted_to: Vec<String>,
    /// All objects.
    pub objects: Vec<Object>,
    /// SHA-256 of this file as compact JSON with sorted keys and this field empty.
    pub checksum: String,
}

impl BackupInfo {
    /// The server's major version.
    pub fn major(&self) -> u32 {
        let digits = self.server_version.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|major| major.parse().ok()).unwrap_or_default()
    }

    /// True for one that builds upon another.
    pub const fn is_incremental(&self) -> bool {
        self.parent.is_some()
    }

    /// The object of a kind, of which there is only one.
    pub fn object(&self, kind: ObjectKind) -> Option<&Object> {
        self.objects.iter().find(|object| object.kind == kind)
    }

    /// The segments, from its start to its end, that WAL which is kept with it must hold. Where a promotion fell into it the first ones
    /// are on the timeline before, and up to where is not written down: then none is named.
    pub fn own_segments(&self) -> impl Iterator<Item = String> + '_ {
        let first = Some(self.start_lsn.segment_start(self.wal_segment_size));
        let after = move |at: &Lsn| Some(Lsn(at.0 + self.wal_segment_size));
        std::iter::successors(first.filter(|_| self.start_timeline == self.timeline), after)
            .take_while(|at| *at < self.stop_lsn)
            .map(|at| at.segment_name(self.timeline, self.wal_segment_size))
    }

    /// C43: the last segment it has whole, with its SHA-256.
    pub fn last_segment(&self) -> Option<(Segment, &str)> {
        let LastSegment { end, sha256 } = self.last_segment.as_ref()?;
        let begin = Lsn(end.0.checked_sub(self.wal_segment_size)?);
        Some((Segment::holding(begin, self.timeline, self.wal_segment_size), sha256))
    }

    /// Where it lies.
    pub fn place(&self) -> BackupRef {
        let (cluster, system_id, label) = (self.cluster.clone(), self.system_id.clone(), self.label.clone());
        BackupRef { cluster, system_id, label }
    }

    /// The file's bytes, with the checksum in them.
    ///
    /// # Errors
    /// Never, for a value made of plain data; an error of the serializer otherwise.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut info = self.clone();
        info.checksum = sealed::checksum(sealed::fields("backup.json", &info)?);
        serde_json::to_vec_pretty(&info).map_err(Error::serialize("backup.json"))
    }

    /// Reads a file, and refuses one that is not what was written.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Format`].
    pub fn from_bytes(object: &str, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Damaged { object: object.to_owned(), reason };
        let fields = sealed::parse(object, bytes)?;
        let found = fields.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found > u64::from(FORMAT) {
            let found = u32::try_from(found).unwrap_or(u32::MAX);
            return Err(Error::Format { object: object.to_owned(), found, known: FORMAT });
        }
        let info: Self = sealed::open(object, fields)?;
        // C36: a checksum says who made it is no accident, and nothing about who that was.
        info.validate().map_err(damaged)?;
        Ok(info)
    }
}
