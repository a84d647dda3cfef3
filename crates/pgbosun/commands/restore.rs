//! `pgbosun restore`: from the repository alone; neither daemon nor history is needed (C22).

mod part;

use super::{backup::watch, restore_test};
use crate::{
    cli::{RestoreCommand, RestorePhysical, RestoreTarget},
    exit::Exit,
    local::Context,
    output,
};
use chrono::{DateTime, Utc};
use pgbosun_backup::{Action, Existing, Plan, Progress, Recovery, Request, Restore, Target, plan};
use pgbosun_core::human;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Runs one of them.
///
/// # Errors
/// Whatever keeps it from being done.
pub async fn run(context: &Context, command: RestoreCommand) -> anyhow::Result<u8> {
    match command {
        RestoreCommand::Physical(arguments) => Box::pin(physical(context, *arguments)).await,
        RestoreCommand::Table(arguments) => Box::pin(part::run(context, part::Kind::Table, *arguments)).await,
        RestoreCommand::Schema(arguments) => Box::pin(part::run(context, part::Kind::Schema, *arguments)).await,
        RestoreCommand::Database(arguments) => Box::pin(part::run(context, part::Kind::Database, *arguments)).await,
    }
}

async fn physical(context: &Context, arguments: RestorePhysical) -> anyhow::Result<u8> {
    let begun = Instant::now();
    let request = request(context, &arguments.target)?;
    let plan = choose(context, &request).await?;
    let Some(to) = &arguments.to else {
        let programs = arguments.program_directory;
        return Box::pin(restore_test::test(context, &request.cluster, plan, begun.elapsed(), programs)).await;
    };
    // C34
    if let Some(gap) = &plan.gap {
        output::confirm(gap, arguments.force)?;
    }
    let target = std::path::absolute(to)?;
    let existing = existing(&arguments, &target)?;
    let recovery =
        recovery(context, &request, &plan, &arguments.target_action, arguments.standby, arguments.keep_archiving)?;
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    let info = plan.info.clone();
    let restore = Restore {
        repository: plan.repository.clone(),
        info: info.clone(),
        target: target.clone(),
        existing,
        tablespaces: arguments
            .tablespace
            .iter()
            .map(|pair| mapping(pair))
            .collect::<anyhow::Result<BTreeMap<_, _>>>()?,
        keep_archiving: arguments.keep_archiving,
        recovery,
        max_rate: arguments.rate_limit.map(|rate| rate.as_u64()),
        progress: Arc::clone(&progress),
        cancel: cancel.clone(),
    };
    let name = plan.repository.name.clone();
    eprintln!("restoring {} of {} from {name} into {}", info.label, info.cluster, target.display());
    if plan.target != Target::BackupEnd {
        eprintln!("it will recover to {} on timeline {}", plan.target, plan.timeline);
    }
    let (held, goes_on) = (plan.clone(), restore.recovery.is_some());
    let work = async move {
        let lease = held.hold("a restore").await?;
        let done = lease.during(restore.run()).await;
        // C32: the server fetches WAL when it is started.
        let until = if goes_on && done.is_ok() {
            lease.leave().await
        } else {
            lease.end().await;
            None
        };
        done.map(|done| (done, until))
    };
    let restored = watch(context, &info.label, progress, cancel, work).await;
    let (restored, held_until) = match restored {
        Err(error) if is_damage(&error) => {
            let hint = "\"pgbosun backup list\" shows others, which --backup LABEL takes";
            return Err(Exit::refused(format!("{}: {}; {hint}", info.label, crate::exit::describe(&error))));
        }
        restored => restored?,
    };
    let took = human::duration(begun.elapsed());
    if context.json {
        output::json(&serde_json::json!({
            "label": info.label, "cluster": info.cluster, "repository": name, "target": target,
            "recovery-target": plan.target.to_string(), "timeline": plan.timeline,
            "files": restored.files, "bytes": restored.bytes, "kept": restored.kept, "configuration": restored.configuration,
            "seconds": begun.elapsed().as_secs_f64(), "wal-held-until": held_until,
        }))?;
        return Ok(0);
    }
    let kept = if restored.kept > 0 { format!(", {} files were right already", restored.kept) } else { String::new() };
    println!("{} {} files, {} in {took}{kept}", output::green("restored"), restored.files, human::size(restored.bytes));
    for line in &restored.configuration {
        println!("{line}");
    }
    if !arguments.keep_archiving && !arguments.standby {
        println!(
            "archive_mode is off in the copy (postgresql.auto.conf), so that it cannot archive over the original's WAL"
        );
    }
    let major = info.server_version.split('.').next().unwrap_or_default();
    println!("start it with: /usr/lib/postgresql/{major}/bin/pg_ctl -D {} start", target.display());
    println!(
        "beside the original it needs a port and a log of its own: add -o \"-c port=PORT -c log_directory=log\" to that"
    );
    if plan.target != Target::BackupEnd {
        println!("it fetches WAL with this program and configuration while it recovers");
        if let Some(until) = held_until {
            println!("expiry leaves that WAL until {}", until.format("%Y-%m-%d %H:%M:%SZ"));
        }
        if !arguments.keep_archiving && !arguments.standby {
            println!(
                "tablespaces that were created after the backup will lie in its pg_tblspc, not at the original's places"
            );
        }
    }
    Ok(0)
}

/// Whether it is the backup that is not as it was written.
fn is_damage(error: &anyhow::Error) -> bool {
    let known = error.downcast_ref::<pgbosun_backup::Error>();
    matches!(known, Some(pgbosun_backup::Error::Repository(pgbosun_repository::Error::Damaged { .. })))
}

/// What was asked for. C20: a time without a zone is refused.
fn request(context: &Context, target: &RestoreTarget) -> anyhow::Result<Request> {
    let refused = |error: String| Exit::usage(error);
    let chosen = match target {
        RestoreTarget { target_time: Some(time), .. } => Some(Target::Time(parse_time(time)?)),
        RestoreTarget { target_lsn: Some(lsn), .. } => Some(Target::Lsn(lsn.parse().map_err(refused)?)),
        RestoreTarget { target_xid: Some(xid), .. } => Some(Target::Xid(*xid)),
        RestoreTarget { target_name: Some(name), .. } => Some(Target::Name(name.clone())),
        RestoreTarget { immediate: true, .. } => Some(Target::Immediate),
        RestoreTarget { latest: true, .. } => Some(Target::Latest),
        _ => None,
    };
    Ok(Request {
        cluster: context.cluster(target.cluster.as_deref())?,
        repositories: context.repositories(target.repository.as_deref())?,
        backup: target.backup.clone(),
        target: chosen,
        timeline: target.timeline,
        exclusive: target.target_exclusive,
    })
}

/// A moment with its zone, in the forms people and PostgreSQL write it.
fn parse_time(text: &str) -> anyhow::Result<DateTime<Utc>> {
    let text = text.trim();
    // chrono wants minutes in an offset, PostgreSQL writes +01.
    let bare_hours = text.len() > 3
        && text
            .get(text.len() - 3..)
            .is_some_and(|end| end.starts_with(['+', '-']) && end[1..].bytes().all(|byte| byte.is_ascii_digit()));
    let whole = if bare_hours && text.contains(':') { format!("{text}:00") } else { text.replace(" UTC", "Z") };
    let formats = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z", "%Y-%m-%dT%H:%M%#z"];
    let parsed = DateTime::parse_from_rfc3339(&whole.replacen(' ', "T", 1))
        .ok()
        .or_else(|| formats.iter().find_map(|format| DateTime::parse_from_str(&whole, format).ok()));
    parsed.map(|time| time.with_timezone(&Utc)).ok_or_else(|| {
        Exit::usage(format!(
            "--target-time {text}: write a time with its zone, such as \"2026-11-21 08:30:00+01\" or 2026-11-21T07:30:00Z"
        ))
    })
}

/// Finds what serves a request, away from this runtime's threads.
pub(super) async fn choose(context: &Context, request: &Request) -> anyhow::Result<Plan> {
    let request = request.clone();
    Ok(context.bulk.spawn(async move { plan(&request).await }).await??)
}

/// How the restored server recovers; `None` where the WAL in the backup is all that is needed.
fn recovery(
    context: &Context,
    request: &Request,
    plan: &Plan,
    action: &str,
    standby: bool,
    in_place: bool,
) -> anyhow::Result<Option<Recovery>> {
    let own_wal = plan.info.object(pgbosun_repository::ObjectKind::Wal).is_some();
    match plan.target {
        Target::BackupEnd if !standby => return Ok(None),
        Target::Immediate if own_wal && !standby => return Ok(None),
        _ => {}
    }
    let program = std::env::current_exe()?;
    Ok(Some(Recovery {
        restore_command: Recovery::command(&program, &context.config.path, &request.cluster, !standby && !in_place),
        target: plan.target.clone(),
        timeline: plan.timeline,
        exclusive: request.exclusive,
        action: action.parse().unwrap_or(Action::Promote),
        standby,
    }))
}

/// C17: what is there is replaced only when somebody said so.
fn existing(arguments: &RestorePhysical, target: &Path) -> anyhow::Result<Existing> {
    let occupied = std::fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
    if !occupied {
        return Ok(Existing::Refuse);
    }
    match (arguments.delta, arguments.force) {
        (true, force) => {
            let place = target.display();
            output::confirm(
                &format!("everything in {place} that differs from the backup is replaced or removed"),
                force,
            )?;
            Ok(Existing::Delta)
        }
        (false, true) => Ok(Existing::Replace),
        (false, false) => Ok(Existing::Refuse),
    }
}

fn mapping(pair: &str) -> anyhow::Result<(String, PathBuf)> {
    match pair.split_once('=') {
        Some((old, new)) if new.starts_with('/') => Ok((old.to_owned(), new.into())),
        _ => Err(Exit::usage(format!("--tablespace {pair}: write OLD=NEW with absolute paths"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c20_times_need_a_zone() {
        let utc = |text: &str| parse_time(text).unwrap().to_rfc3339();
        for text in [
            "2026-11-21 08:30:00+01",
            "2026-11-21 08:30:00+01:00",
            "2026-11-21 08:30:00+0100",
            "2026-11-21T07:30:00Z",
            "2026-11-21 07:30:00 UTC",
            "2026-11-21 07:30:00.000Z",
            "2026-11-21 08:30+01",
        ] {
            assert_eq!(utc(text), "2026-11-21T07:30:00+00:00", "{text}");
        }
        for text in ["2026-11-21 08:30:00", "2026-11-21", "yesterday", "08:30+01"] {
            assert!(parse_time(text).unwrap_err().to_string().contains("zone"), "{text}");
        }
    }
}
