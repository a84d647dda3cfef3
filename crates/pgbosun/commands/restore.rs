//! `pgbosun restore`: from the repository alone; neither daemon nor history is needed (C22).

pub mod bare;
mod part;
mod tablespaces;
mod target;

use super::{backup::watch, config::service, restore_test};
use crate::{
    cli::{RestoreCommand, RestorePhysical, RestoreTarget},
    exit::Exit,
    local::Context,
    output,
};
use pgbosun_backup::{
    Existing, Plan, Progress, Recovery, Request, Restore, Target, TargetAction, another, find_programs, is_copy, plan,
    plan_beyond, primary_of, recovery_end_command,
    wal::{Confinement, follow_primary, system_identifier, unarchived},
};
use pgbosun_core::{config::Rate, human, wal::WalFile};
use pgbosun_postgres::Server;
use pgbosun_repository::BackupInfo;
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};
use target::request;
use tokio_util::sync::CancellationToken;

pub(super) use tablespaces::mapping;

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
    let request = request(context, &arguments.target).await?;
    let plan = choose(context, &request).await?;
    let Some(to) = &arguments.to else {
        let programs = arguments.program_directory;
        return Box::pin(restore_test::test(context, &request, plan, begun.elapsed(), programs)).await;
    };
    accept_gap(&plan, &arguments.target)?;
    let target = std::path::absolute(to)?;
    if !arguments.beside {
        refuse_anothers(context, &request.cluster, &target)?;
    }
    let existing = existing(&arguments, &target, &plan.info)?;
    let tablespaces = tablespaces::said(&arguments.tablespace)?;
    let in_place = in_place(context, &request.cluster, &arguments, &target, &plan.info)?;
    if arguments.config_files && !(in_place || arguments.standby) {
        return Err(Exit::usage(
            "--config-files needs --in-place or --standby: a copy alongside the original must leave its configuration alone",
        ));
    }
    let confinement = Confinement::of(&plan.info, in_place, arguments.standby, &tablespaces, plan.until);
    let how = (arguments.target_action.as_str(), arguments.standby, in_place);
    let recovery = recovery(context, &request, &plan, how, &confinement)?;
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    let info = plan.info.clone();
    // By itself a plan takes none such.
    if request.backup.is_some()
        && let Some(words) = another::backup(&plan.repository, &info).await?
    {
        tell!("{} {words}", output::red("note:"));
    }
    let restore = Restore {
        servers: context.config.clusters.values().filter_map(|cluster| Server::of(cluster).ok()).collect(),
        original: context.config.clusters.get(&request.cluster).and_then(|cluster| Server::of(cluster).ok()),
        repository: plan.repository.clone(),
        info: info.clone(),
        target: target.clone(),
        existing,
        tablespaces,
        until: plan.until,
        in_place,
        config_files: arguments.config_files,
        recovery,
        max_rate: arguments.rate_limit.map(Rate::bytes),
        progress: Arc::clone(&progress),
        cancel: cancel.clone(),
    };
    // What is wrong with the target is told before a question about its tablespaces.
    restore.check()?;
    if !arguments.discard_wal && !is_copy(&target) {
        refuse_to_discard(context, &request, &info, &target, arguments.standby).await?;
    }
    tablespaces::confirm(&info, &restore.tablespaces, arguments.force)?;
    if let (Some(there), true) = (occupant(&target), arguments.force) {
        let (place, new) = (target.display(), replacement(&info));
        tell!("{} {there} in {place} will be replaced by {new}", output::yellow("note:"));
    }
    let name = plan.repository.name.clone();
    let beside = confinement.places;
    let place = match (arguments.standby, in_place) {
        (true, _) => "as a standby",
        (false, true) => "in the original's place",
        (false, false) => "alongside the original",
    };
    tell!("restoring {} of {} from {name} into {}, {place}", info.label, info.cluster, target.display());
    if plan.target != Target::BackupEnd {
        tell!("it will recover to {} on timeline {}", plan.target, plan.timeline);
    }
    let goes_on = restore.recovery.is_some();
    let held = plan.clone();
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
    let restored = watch(context, &format!("restoring {}", info.label), progress, cancel, work).await;
    let (restored, held_until) = match restored {
        Err(error) if is_damage(&error) => {
            let hint = "\"pgbosun backup list\" shows others; choose one with --backup LABEL";
            return Err(Exit::refused(format!("{}: {}; {hint}", info.label, crate::exit::describe(&error))));
        }
        restored => restored?,
    };
    let took = human::duration(begun.elapsed());
    if context.json {
        output::json(&serde_json::json!({
            "label": info.label, "cluster": info.cluster, "repository": name, "target": target.display().to_string(),
            "in_place": in_place, "recovery_target": plan.target.to_string(), "timeline": plan.timeline,
            "files": restored.files, "bytes": restored.bytes, "kept": restored.kept, "configuration": restored.configuration,
            "gap": plan.gap, "seconds": begun.elapsed().as_secs_f64(), "wal_held_until": held_until,
        }))?;
        return Ok(0);
    }
    let kept =
        if restored.kept > 0 { format!(", {} unchanged", human::count(restored.kept, "file")) } else { String::new() };
    let files = human::count(restored.files, "file");
    say!("{} {files}, {} in {took}{kept}", output::green("restored"), human::size(restored.bytes));
    for line in &restored.configuration {
        say!("{line}");
    }
    if in_place {
        say!("archiving, subscriptions and background jobs continue as its configuration says");
        if info.settings.get("archive_mode").is_some_and(|mode| mode == "off") {
            say!("{}: archive_mode was off when it was backed up: nothing is archived", output::yellow("warning"));
        }
    }
    let programs = find_programs(&info.server_version, arguments.program_directory.as_deref());
    let program = programs.map_or_else(|_| PathBuf::from("pg_ctl"), |directory| directory.join("pg_ctl"));
    match service(&target).filter(|_| in_place) {
        Some(unit) => say!("start it with: sudo systemctl start {unit}"),
        None => {
            // Root cannot start a server, and this process has become the owner of the place.
            let owner = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
            let sudo = owner.filter(|_| pgbosun_history::started_by().is_some());
            let sudo = sudo.map_or_else(String::new, |owner| format!("sudo -u {owner} "));
            let (program, place) = (program.display(), quoted(&target));
            say!("start it with: {sudo}{program} -D {place} -l {} start", quoted(&target.join("startup.log")));
        }
    }
    if goes_on {
        say!("while it recovers, it fetches WAL with this program and configuration");
        if !arguments.standby {
            say!(
                "after recovery it removes its recovery settings from postgresql.auto.conf; a reload before the next restart \
                 logs that they changed, which is harmless"
            );
        }
        if let Some(until) = held_until {
            say!("that WAL is protected from expiry until {}", until.format("%Y-%m-%d %H:%M:%SZ"));
        }
        if beside {
            say!("tablespaces created after the backup will be in its pg_tblspc, not at the original's locations");
        }
    }
    Ok(0)
}

/// C17: nothing is restored over what the configuration calls another cluster's.
fn refuse_anothers(context: &Context, cluster: &str, target: &Path) -> anyhow::Result<()> {
    let others = context.config.clusters.iter().filter(|(name, _)| *name != cluster);
    for (name, data) in others.filter_map(|(name, other)| Some((name, other.data_directory.as_ref()?))) {
        if is_same(data, target) {
            let words = format!(
                "{} is the data directory of cluster {name}: to put a copy there, use --beside",
                target.display()
            );
            return Err(Exit::refused(words));
        }
    }
    Ok(())
}

/// Whether two paths lead to one place.
fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// C30: whether it takes the original's place. Where nothing was said it does where the original had its data.
fn in_place(
    context: &Context,
    cluster: &str,
    arguments: &RestorePhysical,
    target: &Path,
    info: &BackupInfo,
) -> anyhow::Result<bool> {
    if arguments.in_place || arguments.beside || arguments.standby {
        return Ok(arguments.in_place);
    }
    let configured = context.config.clusters.get(cluster).and_then(|cluster| cluster.data_directory.as_ref());
    let its_place = configured.is_some_and(|configured| is_same(configured, target));
    if its_place && std::io::stdin().is_terminal() {
        let question = format!(
            "{} is the data directory of {cluster}: {} will take the original's place and archive as it did (for a copy that \
             does not, use --beside)",
            target.display(),
            replacement(info)
        );
        output::confirm(&question, arguments.force, "--force")?;
    }
    Ok(its_place)
}

/// A path as one word of a shell, for a command to copy.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// C34: recovery ends early only where somebody said that it may. That something may be replaced (`--force`) does not say that.
pub(super) fn accept_gap(plan: &Plan, target: &RestoreTarget) -> anyhow::Result<()> {
    let Some(gap) = &plan.gap else { return Ok(()) };
    if target.accept_gap {
        tell!("{}: {gap}", output::yellow("warning"));
    }
    output::confirm(gap, target.accept_gap, "--accept-gap")
}

/// Whether it is the backup that is not as it was written.
fn is_damage(error: &anyhow::Error) -> bool {
    let known = error.downcast_ref::<pgbosun_backup::Error>();
    matches!(known, Some(pgbosun_backup::Error::Repository(pgbosun_repository::Error::Damaged { .. })))
}

/// Finds what serves a request, away from this runtime's threads.
pub(super) async fn choose(context: &Context, request: &Request) -> anyhow::Result<Plan> {
    let (wanted, server) = (request.clone(), context.config.clusters.get(&request.cluster).map(Server::of));
    let asked = server.as_ref().and_then(|server| server.as_ref().ok()).cloned();
    let planned = context.bulk.spawn(async move {
        // C41: the servers that answer have a say in which line is live.
        if let Some(server) = asked {
            follow_primary(&server, &wanted.cluster, &wanted.repositories).await;
        }
        plan(&wanted).await
    });
    let planned = planned.await?;
    let (reason, system_id, server) = match (planned, server) {
        (Err(pgbosun_backup::Error::Beyond { reason, system_id }), Some(server)) => (reason, system_id, server?),
        (planned, _) => return Ok(planned?),
    };
    tell!("asking {} to archive the WAL it has written since", request.cluster);
    let wanted = request.clone();
    Ok(context.bulk.spawn(async move { plan_beyond(&wanted, &server, &system_id, reason).await }).await??)
}

/// How the restored server recovers; `None` where the WAL in the backup is all that is needed. What takes the original's place needs a
/// timeline of its own: the archive has what the original wrote on this one (C2, C43).
fn recovery(
    context: &Context,
    request: &Request,
    plan: &Plan,
    (action, standby, in_place): (&str, bool, bool),
    confinement: &Confinement,
) -> anyhow::Result<Option<Recovery>> {
    if plan.target == Target::Latest && !standby && action != TargetAction::Promote.to_string() {
        return Err(Exit::usage(format!(
            "--target-action {action} needs a target, such as --target-time or --immediate: without one PostgreSQL ends recovery \
             with the last WAL and accepts writes"
        )));
    }
    let own_wal = plan.info.object(pgbosun_repository::ObjectKind::Wal).is_some();
    let is_enough = match plan.target {
        Target::BackupEnd => true,
        Target::Immediate => own_wal,
        _ => false,
    };
    if is_enough && !standby && !in_place && action == TargetAction::Promote.to_string() {
        return Ok(None);
    }
    let program = std::env::current_exe()?;
    // A standby goes on for years, and asks whoever has the file.
    let only = request.only.clone().filter(|_| !standby);
    let request = &Request { only, ..request.clone() };
    Ok(Some(Recovery {
        restore_command: Recovery::command(&program, &context.config.path, request, confinement),
        target: if plan.target == Target::BackupEnd { Target::Immediate } else { plan.target.clone() },
        timeline: plan.timeline,
        exclusive: request.exclusive,
        action: action.parse().unwrap_or(TargetAction::Promote),
        // A standby that is promoted may be one again.
        end_command: if standby { String::new() } else { recovery_end_command(&program) },
        standby,
    }))
}

/// C31: what was committed last is not done away with in silence.
async fn refuse_to_discard(
    context: &Context,
    request: &Request,
    info: &BackupInfo,
    target: &Path,
    standby: bool,
) -> anyhow::Result<()> {
    let (repositories, data) = (request.repositories.clone(), target.to_owned());
    let (cluster, system_id) = (info.cluster.clone(), info.system_id.clone());
    let search = context.bulk.spawn(async move { unarchived(&data, &repositories, &cluster, &system_id).await });
    let Some(found) = search.await?? else { return Ok(()) };
    let names: Vec<_> = found.files.iter().map(ToString::to_string).collect();
    let what = format!(
        "the last commits are only in {}, not in the archive: {}, with {} up to {}",
        target.join("pg_wal").display(),
        names.join(", "),
        human::count(found.transactions, "transaction"),
        found.last.format("%Y-%m-%d %H:%M:%SZ"),
    );
    // A standby that joins its cluster anew follows whoever is primary: what that one has not is given up already.
    let server = context.config.clusters.get(&request.cluster).and_then(|cluster| Server::of(cluster).ok());
    if standby && let Some(primary) = primary_of(&info.system_id, server.as_ref()).await {
        tell!(
            "{} {what}. The standby will follow the primary at {primary}: what the primary does not have is lost",
            output::yellow("note:")
        );
        return Ok(());
    }
    let unknown = match found.files.first() {
        Some(file @ WalFile::History(_)) => format!(
            ". The archive does not know its timeline ({file}): if the server was promoted only for a test, push none of its \
             files"
        ),
        _ => String::new(),
    };
    Err(Exit::refused(format!(
        "{what}. To keep them, archive each of these files, in this order, with \"pgbosun wal push --cluster {} FILE\"; a \
         restore to the end of their timeline then has them. Do not start this server after that. To lose them, \
         use --discard-wal{unknown}",
        info.cluster,
    )))
}

/// C17: what is there is replaced only when somebody said so.
fn existing(arguments: &RestorePhysical, target: &Path, info: &BackupInfo) -> anyhow::Result<Existing> {
    let there = occupant(target);
    let occupied = there.is_some();
    match (arguments.delta && occupied, arguments.force) {
        (true, force) => {
            let place = target.display();
            output::confirm(
                &format!(
                    "{} will go over {} in {place}: everything that differs from the backup will be replaced or removed",
                    replacement(info),
                    there.as_deref().unwrap_or("what is")
                ),
                force,
                "--force",
            )?;
            Ok(Existing::Delta)
        }
        (false, true) => Ok(Existing::Replace),
        (false, false) => Ok(Existing::Refuse),
    }
}

/// What a restore brings: which backup, and how old.
fn replacement(info: &BackupInfo) -> String {
    format!("backup {} of {}, taken {}", info.label, info.cluster, output::ago(info.finished_at))
}

/// What lies in a directory, in words; none where nothing does.
fn occupant(target: &Path) -> Option<String> {
    let entries = std::fs::read_dir(target).map_or(0, Iterator::count);
    match (entries, std::fs::read_to_string(target.join("PG_VERSION"))) {
        (0, _) => None,
        (_, Ok(version)) => {
            let identifier = system_identifier(target).unwrap_or_else(|_| "unknown".to_owned());
            Some(format!("the data directory of PostgreSQL {}, system identifier {identifier},", version.trim()))
        }
        (many, Err(_)) => Some(human::count(many, "file")),
    }
}
