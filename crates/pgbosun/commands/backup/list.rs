//! `pgbosun backup list|show`: what there is, as the repositories have it.

use super::find;
use crate::{
    exit::{Exit, FAILURE},
    local::Context,
    output::{Column, ago, aside, bold, green, json, moment, red, table, whole, yellow},
};
use chrono_tz::Tz;
use pgbosun_backup::{Entry, Health};
use pgbosun_core::{clock, human};
use pgbosun_daemon::{Holding, list_catalogues};
use pgbosun_repository::BackupInfo;

/// A backup as a list shows it: where it lies, and how good it is with all it builds on (C27).
struct Listed {
    repository: String,
    entry: Entry,
}

impl Listed {
    fn holding(&self) -> Holding {
        Holding::of(&self.repository, &self.entry)
    }

    fn state(&self) -> String {
        if self.entry.info.is_dated_ahead(clock::now()) {
            return red("dated in the future");
        }
        match self.entry.health() {
            health @ Health::Verified => green(health.word()),
            Health::Unverified => String::new(),
            health => red(health.word()),
        }
    }

    /// Its state, and whether somebody has it kept.
    fn told(&self) -> String {
        let words = [self.state(), self.entry.kept().map(|_| "kept".to_owned()).unwrap_or_default()];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// What the last verification said of it and all it builds on, where it said anything.
    fn verified(&self) -> Option<bool> {
        match self.entry.health() {
            Health::Verified => Some(true),
            Health::Damaged { .. } | Health::Broken { .. } => Some(false),
            Health::Unverified | Health::Orphaned { .. } | Health::Suspect { .. } => None,
        }
    }
}

const COLUMNS: [Column; 9] = [
    whole("BACKUP"),
    whole("CLUSTER"),
    whole("REPOSITORY"),
    aside("KIND"),
    aside("FINISHED"),
    aside("TOOK"),
    aside("SIZE"),
    whole("STORED"),
    whole(""),
];

/// A row of the list.
fn row(holding: &Holding, state: String, zone: Tz) -> Vec<String> {
    vec![
        holding.label.clone(),
        holding.cluster.clone(),
        holding.repository.clone(),
        holding.kind.clone(),
        moment(holding.finished_at, zone),
        human::span(holding.finished_at - holding.started_at),
        human::size(holding.bytes),
        human::size(holding.stored_bytes),
        state,
    ]
}

/// What history has of a repository that cannot be read: of the daemon, or of its journal. Where neither can be had nothing is known.
async fn last_seen(context: &Context, repository: &str, cluster: Option<&str>) -> Vec<Holding> {
    let found: anyhow::Result<Vec<Holding>> = async {
        match context.daemon().await? {
            Some(daemon) => daemon.get(&format!("/repositories/{repository}/last-seen")).await,
            None => Ok(pgbosun_daemon::last_seen(context.offline().await?.engine.as_ref(), repository).await?),
        }
    }
    .await;
    let mut found = found.unwrap_or_default();
    found.retain(|holding| cluster.is_none_or(|cluster| holding.cluster == cluster));
    found
}

fn summary_of_away(holding: &Holding) -> serde_json::Value {
    serde_json::json!({
        "label": holding.label, "cluster": holding.cluster, "repository": holding.repository, "kind": holding.kind,
        "started_at": holding.started_at, "finished_at": holding.finished_at, "bytes": holding.bytes,
        "stored_bytes": holding.stored_bytes, "health": holding.state, "last_seen": true,
    })
}

/// Lists.
///
/// # Errors
/// Where no repository is configured.
pub async fn list(context: &Context, cluster: Option<&str>) -> anyhow::Result<u8> {
    let mut found = Vec::new();
    let (mut damaged, mut away) = (Vec::new(), Vec::new());
    let repositories = context.repositories(None)?;
    let seen = list_catalogues(&context.bulk, &repositories, cluster).await;
    for (repository, seen) in repositories.iter().zip(seen) {
        match seen {
            Ok(catalogue) => {
                let name = &repository.name;
                let listed = |entry: &Entry| Listed { repository: name.clone(), entry: entry.clone() };
                found.extend(catalogue.entries().iter().map(listed));
                damaged.extend(catalogue.unreadable.iter().map(|error| format!("{name}: {}", human::chain(error))));
            }
            // C35: one that is away does not hide the others, and shows what it held.
            Err(error) => {
                let seen = last_seen(context, &repository.name, cluster).await;
                let shown = if seen.is_empty() { "" } else { "; its backups are shown as they were last seen" };
                damaged.push(format!("{}: {error}{shown}", repository.name));
                away.extend(seen);
            }
        }
    }
    if let Some(name) = cluster
        && found.is_empty()
        && damaged.is_empty()
        && !context.config.clusters.contains_key(name)
    {
        return Err(Exit::usage(format!("no cluster {name} is configured, and no repository holds backups of one")));
    }
    if context.json {
        json(&found.iter().map(summary).chain(away.iter().map(summary_of_away)).collect::<Vec<_>>())?;
    } else {
        let zone = context.zone();
        let rows = found.iter().map(|listed| row(&listed.holding(), listed.told(), zone));
        let unseen = away.iter().map(|held| row(held, yellow(&format!("last seen {}", held.state)), zone));
        say!("{}", table(&COLUMNS, rows.chain(unseen)));
        if found.is_empty() && damaged.is_empty() {
            say!("no backups yet; \"pgbosun backup create\" takes one");
        }
    }
    for error in &damaged {
        tell!("{} {error}", red("not listed:"));
    }
    Ok(if damaged.is_empty() { 0 } else { FAILURE })
}

fn summary(listed: &Listed) -> serde_json::Value {
    let (info, health) = (&listed.entry.info, listed.entry.health());
    serde_json::json!({
        "label": info.label, "cluster": info.cluster, "repository": listed.repository, "kind": info.kind,
        "started_at": info.started_at, "finished_at": info.finished_at, "bytes": info.bytes,
        "stored_bytes": info.stored_bytes, "start_lsn": info.start_lsn, "stop_lsn": info.stop_lsn,
        "timeline": info.timeline, "system_id": info.system_id, "server_version": info.server_version,
        "suspect": !health.is_good(), "verified": listed.verified(), "health": health.to_string(), "parent": info.parent, "job": info.job,
        "kept": listed.entry.kept(),
    })
}

/// Everything about one, whatever the form of `backup.json`.
fn whole_of(repository: &str, info: &BackupInfo) -> serde_json::Value {
    let databases: Vec<_> =
        info.databases.iter().map(|(name, bytes)| serde_json::json!({"name": name, "bytes": bytes})).collect();
    let settings: Vec<_> =
        info.settings.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
    let objects: Vec<_> = info
        .objects
        .iter()
        .map(|object| {
            serde_json::json!({
                "name": object.name, "kind": object.kind, "size": object.size, "plain_size": object.plain_size, "sha256": object.sha256,
            })
        })
        .collect();
    serde_json::json!({
        "label": info.label, "cluster": info.cluster, "repository": repository, "kind": info.kind, "parent": info.parent,
        "job": info.job, "started_at": info.started_at, "finished_at": info.finished_at, "bytes": info.bytes,
        "stored_bytes": info.stored_bytes, "start_lsn": info.start_lsn, "stop_lsn": info.stop_lsn,
        "start_timeline": info.start_timeline, "timeline": info.timeline, "system_id": info.system_id,
        "server": info.server, "server_version": info.server_version, "superuser": info.superuser,
        "program_version": info.program_version, "format": info.format, "wal_segment_size": info.wal_segment_size,
        "checksum_failures": info.checksum_failures, "compression": info.compression, "encrypted_to": info.encrypted_to,
        "databases": databases, "settings": settings, "tablespaces": info.tablespaces, "objects": objects,
        "last_segment": info.last_segment, "checksum": info.checksum,
    })
}

/// Shows one.
///
/// # Errors
/// Where there is no such backup.
pub async fn show(context: &Context, label: &str) -> anyhow::Result<u8> {
    let found = find(context, label).await?;
    if context.json {
        json(&found.iter().map(|(repository, info)| whole_of(&repository.name, info)).collect::<Vec<_>>())?;
        return Ok(0);
    }
    let zone = context.zone();
    for (repository, info) in found {
        let databases: Vec<_> = info
            .databases
            .iter()
            .map(|(name, size)| format!("{} ({})", human::plain(name), human::size(*size)))
            .collect();
        let tablespaces: Vec<_> =
            info.tablespaces.iter().map(|space| format!("{} at {}", space.oid, space.location)).collect();
        let ratio = info.bytes as f64 / info.stored_bytes.max(1) as f64;
        say!("{} in {}", bold(&info.label), repository.name);
        for (name, value) in [
            ("cluster", format!("{} ({}), system identifier {}", info.cluster, info.server, info.system_id)),
            ("server", format!("PostgreSQL {}", info.server_version)),
            (
                "taken",
                format!(
                    "{} to {}, {}",
                    moment(info.started_at, zone),
                    moment(info.finished_at, zone),
                    ago(info.finished_at)
                ),
            ),
            (
                "kind",
                match &info.parent {
                    Some(parent) => format!("incremental, based on {parent}"),
                    None => info.kind.clone(),
                },
            ),
            (
                "encryption",
                match info.encrypted_to.len() {
                    0 => "none".into(),
                    _ => format!("age, to {}", info.encrypted_to.join(", ")),
                },
            ),
            (
                "size",
                format!("{} stored as {} ({ratio:.1} : 1)", human::size(info.bytes), human::size(info.stored_bytes)),
            ),
            ("wal", format!("{} to {}, timeline {}", info.start_lsn, info.stop_lsn, info.timeline)),
            ("databases", databases.join(", ")),
            ("tablespaces", if tablespaces.is_empty() { "none".into() } else { tablespaces.join(", ") }),
            (
                "checksums",
                if info.checksum_failures {
                    red("damaged pages found: suspect")
                } else {
                    "no damaged pages reported".into()
                },
            ),
        ] {
            say!("  {name:<12} {value}");
        }
        let rows = info
            .objects
            .iter()
            .map(|object| vec![format!("  {}", object.name), human::size(object.size), object.sha256[..16].to_owned()]);
        say!("{}\n", table(&["  OBJECT", "STORED", "SHA-256"].map(whole), rows));
    }
    Ok(0)
}
