//! `pgbosun wal list`: what is archived, where it has gaps, and what each backup needs of it.

use crate::{
    local::Context,
    output::{bold, green, json, red, table, text, whole, yellow},
};
use pgbosun_backup::wal::Archive;
use pgbosun_core::human;
use pgbosun_repository::{BackupInfo, ObjectKind, Repository};

/// Lists.
///
/// # Errors
/// Where a repository cannot be asked.
pub async fn run(context: &Context, cluster: Option<&str>, repository: Option<&str>) -> anyhow::Result<u8> {
    let cluster = context.cluster(cluster)?;
    let mut listed = Vec::new();
    let mut unbroken = true;
    for repository in context.repositories(repository)? {
        let (backups, _) = repository.backups(Some(&cluster)).await?;
        for system_id in repository.system_ids(&cluster).await? {
            let own: Vec<_> = backups.iter().filter(|info| info.system_id == system_id).collect();
            let size = own.first().map_or(16 << 20, |info| info.wal_segment_size);
            let archive = Archive::read(std::slice::from_ref(&repository), &cluster, &system_id, size).await?;
            unbroken &= is_unbroken(&archive);
            if context.json {
                listed.push(as_json(&repository, &system_id, &archive, &own));
            } else {
                show(&repository, &system_id, &archive, &own);
            }
        }
    }
    if context.json {
        json(&listed)?;
    }
    Ok(if unbroken { 0 } else { 1 })
}

/// Whether the archive has what makes a backup consistent, and how far it goes on from there.
fn serves(archive: &Archive, info: &BackupInfo) -> (bool, u64) {
    let timeline = archive.lineage.towards(info.timeline);
    (archive.lacks(info).is_none(), archive.way(timeline, archive.onward(timeline, info)).count() as u64)
}

/// Whether everything is there once. A history that is encrypted and cannot be opened here says nothing against it.
fn is_unbroken(archive: &Archive) -> bool {
    archive.conflicts.is_empty()
        && archive.untrusted.is_empty()
        && archive.gaps().is_empty()
        && archive.unread.iter().all(|(_, error)| error.is_sealed())
}

fn show(repository: &Repository, system_id: &str, archive: &Archive, backups: &[&BackupInfo]) {
    let count = archive.segments.len();
    say!(
        "{} system identifier {system_id}: {}, {} stored",
        bold(&repository.name),
        human::count(count, "segment"),
        human::size(archive.stored_bytes)
    );
    let timelines = archive.timelines();
    let rows = timelines.iter().flat_map(|timeline| {
        archive.coverage(*timeline).into_iter().map(move |stretch| {
            vec![timeline.to_string(), stretch.first.to_string(), stretch.last.to_string(), stretch.count.to_string()]
        })
    });
    say!("{}", table(&["TIMELINE", "FROM", "TO", "SEGMENTS"].map(whole), rows));
    for (first, missing) in archive.gaps() {
        say!(
            "{} timeline {}: {} missing from {first} on",
            red("gap"),
            first.timeline,
            human::count(missing, "segment")
        );
    }
    for conflict in &archive.conflicts {
        say!("{} {conflict} exists with different contents", red("conflict"));
    }
    for (timeline, error) in &archive.unread {
        let told = human::chain(error);
        if error.is_sealed() {
            say!("{} history of timeline {timeline}: {told}; gaps before it are not detected", yellow("not read"));
        } else {
            say!("{} history of timeline {timeline}: {told}", red("not read"));
        }
    }
    // Of an archive from before signing was set up there are many of a kind.
    if let Some((_, reason)) = archive.untrusted.first() {
        say!("{} {}: {reason}", red("not trusted"), human::count(archive.untrusted.len(), "file"));
    }
    let rows = backups.iter().map(|info| {
        let (own, beyond) = serves(archive, info);
        let kept = info.object(ObjectKind::Wal).is_some();
        vec![
            info.label.clone(),
            format!("{} to {}", info.start_lsn, info.stop_lsn),
            match (kept, own) {
                (true, _) => "in the backup".into(),
                (false, true) => green("archived"),
                (false, false) => red("missing"),
            },
            match beyond {
                0 => "no recovery beyond it".into(),
                beyond => format!("{} beyond it", human::count(beyond, "segment")),
            },
        ]
    });
    if !backups.is_empty() {
        say!("{}", table(&[whole("BACKUP"), text("NEEDS"), text("ITS WAL"), text("RECOVERY")], rows));
    }
    say!("");
}

fn as_json(repository: &Repository, system_id: &str, archive: &Archive, backups: &[&BackupInfo]) -> serde_json::Value {
    let gaps = archive.gaps();
    let timelines: Vec<_> = archive
        .timelines()
        .into_iter()
        .map(|timeline| {
            let stretches: Vec<_> = archive
                .coverage(timeline)
                .iter()
                .map(
                    |s| serde_json::json!({"first": s.first.to_string(), "last": s.last.to_string(), "count": s.count}),
                )
                .collect();
            let of_timeline = gaps.iter().filter(|(first, _)| first.timeline == timeline);
            let gaps: Vec<_> = of_timeline
                .map(|(first, missing)| serde_json::json!({"first": first.to_string(), "count": missing}))
                .collect();
            serde_json::json!({"timeline": timeline, "stretches": stretches, "gaps": gaps})
        })
        .collect();
    let backups: Vec<_> = backups
        .iter()
        .map(|info| {
            let (archived, beyond) = serves(archive, info);
            serde_json::json!({
                "label": info.label, "start_lsn": info.start_lsn, "stop_lsn": info.stop_lsn,
                "own_wal": info.object(ObjectKind::Wal).is_some(), "archived": archived, "segments_beyond": beyond,
            })
        })
        .collect();
    serde_json::json!({
        "repository": repository.name, "system_id": system_id, "segments": archive.segments.len(),
        "stored_bytes": archive.stored_bytes, "timelines": timelines, "conflicts": archive.conflicts, "backups": backups,
        "unread_histories": archive.unread.iter().map(|(timeline, _)| timeline).collect::<Vec<_>>(),
        "untrusted": archive.untrusted.iter().map(|(file, _)| file.to_string()).collect::<Vec<_>>(),
    })
}
