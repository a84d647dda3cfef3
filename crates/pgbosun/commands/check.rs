//! `pgbosun check`: looks at everything pgbosun needs, and says what to do about what is missing.

mod archiving;

use super::config::lacking;
use crate::{
    exit::Exit,
    local::Context,
    output::{json, say_below, severity},
};
use nix::unistd::{User, geteuid};
use pgbosun_core::{
    config::{Cluster, Config},
    finding::Severity,
    human,
};
use pgbosun_daemon::{
    By, Hearing,
    api::{CheckAnswer, CheckRequest},
    chain, channel, open_history, told_by_mail,
};
use pgbosun_history::{Operators, SchemaState, operators_beside};
use pgbosun_jobs::{log_advice, needs_replication, place};
use pgbosun_notify::MAIL;
use pgbosun_postgres::{Server, replication::Replication};
use pgbosun_repository::{Error as RepositoryError, Repository};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, Row};
use std::time::Duration;
use uuid::Uuid;

/// How long all of it may take where the daemon does it.
const LONGEST: Duration = Duration::from_secs(600);
/// How long a data directory or a repository may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize, Serialize)]
struct Line {
    severity: Severity,
    object: String,
    message: String,
}

#[derive(Default)]
struct Report(Vec<Line>);

impl Report {
    /// The line of a monitoring plugin: how it stands, and figures after the bar (Monitoring Plugins guidelines, 2.6).
    fn headline(&self) -> String {
        let count = |severity| self.0.iter().filter(|line| line.severity == severity).count();
        // Of several the first: clusters come before what is beside them.
        let worst = self.0.iter().min_by_key(|line| std::cmp::Reverse(line.severity));
        let told = worst.filter(|line| line.severity > Severity::Ok);
        let told = told.map_or_else(|| "all is well".to_owned(), |line| format!("{}: {}", line.object, line.message));
        let word = worst.map_or(Severity::Ok, |line| line.severity).as_str().to_uppercase();
        let (critical, warning) = (count(Severity::Critical), count(Severity::Warning));
        let (unknown, ok) = (count(Severity::Unknown), count(Severity::Ok));
        // A bar would begin the figures.
        let told = told.replace('|', "/").lines().next().unwrap_or_default().to_owned();
        format!("PGBOSUN {word} - {told} | critical={critical} warning={warning} unknown={unknown} ok={ok}")
    }

    fn add(&mut self, severity: Severity, object: impl Into<String>, message: impl Into<String>) {
        self.0.push(Line { severity, object: object.into(), message: message.into() });
    }
}

/// Checks, as the daemon where one runs and nothing else is asked for; the exit code is that of the worst line.
///
/// # Errors
/// Where the cluster named is not configured.
pub async fn run(context: &Context, cluster: Option<&str>, here: bool) -> anyhow::Result<u8> {
    if let Some(name) = cluster.filter(|name| !context.is_guest && !context.config.clusters.contains_key(*name)) {
        return Err(Exit::usage(format!("no cluster {name} is configured")));
    }
    let report = match by_the_daemon(context, cluster, here).await {
        Ok(report) => report,
        // Who may not read the configuration has nothing else to check.
        Err(daemon) if context.is_guest => Report(daemon.into_iter().collect()),
        Err(daemon) => {
            let mut report = by_this_process(context, cluster).await?;
            if let Some(line) = daemon {
                report.0.push(line);
                report.add(Severity::Ok, "user", as_this_user());
            }
            report
        }
    };
    let worst = report.0.iter().map(|line| line.severity).max().unwrap_or(Severity::Ok);
    if context.json {
        json(&report.0)?;
    } else {
        say_below(2, &report.headline());
        for line in &report.0 {
            say_below(34, &format!("{} {:<24} {}", severity(line.severity), line.object, line.message));
        }
    }
    Ok(worst.exit_code())
}

/// What holds for the daemon: who it is, and what its unit lets it see and write. Otherwise what there is to say about the daemon.
async fn by_the_daemon(context: &Context, cluster: Option<&str>, here: bool) -> Result<Report, Option<Line>> {
    if here {
        return Err(None);
    }
    let line = |severity, message: String| Some(Line { severity, object: "daemon".into(), message });
    let failed = |error: &anyhow::Error| match crate::exit::describe(error) {
        // One of an earlier version does not know the question.
        words if words.is_empty() => {
            line(Severity::Ok, "answers, but is of an earlier version that cannot run checks".into())
        }
        words => line(Severity::Unknown, words),
    };
    let daemon = match context.daemon().await {
        Ok(Some(daemon)) => daemon,
        Ok(None) => return Err(line(Severity::Warning, "is not running: systemctl enable --now pgbosun".into())),
        Err(error) => return Err(failed(&error)),
    };
    let config = std::path::absolute(&context.config.path).unwrap_or_else(|_| context.config.path.clone());
    let request = CheckRequest { config, cluster: cluster.map(str::to_owned) };
    match daemon.ask(LONGEST, "/check", &request).await {
        Ok(CheckAnswer::Elsewhere(path)) => {
            Err(line(Severity::Ok, format!("answers, but uses another configuration, {}", path.display())))
        }
        Ok(CheckAnswer::Lines(lines)) => {
            let lines = serde_json::from_value(lines).map_err(|error| line(Severity::Unknown, error.to_string()))?;
            let mut report = Report(lines);
            report.add(Severity::Ok, "daemon", "answers, and ran all these checks itself");
            Ok(report)
        }
        Err(error) => Err(failed(&error)),
    }
}

fn as_this_user() -> String {
    let user = User::from_uid(geteuid()).ok().flatten().map_or_else(|| "this user".to_owned(), |user| user.name);
    format!("checked as {user} from a shell: under its unit the daemon may be able to read and write less")
}

async fn by_this_process(context: &Context, cluster: Option<&str>) -> anyhow::Result<Report> {
    let mut report = Report::default();
    // What root read may be closed to whom it became.
    match crate::load(&context.config.path) {
        Ok(loaded) => {
            report.add(Severity::Ok, "configuration", "valid");
            for line in lacking(&loaded.config, &loaded.effective) {
                report.add(Severity::Warning, "unit", line);
            }
        }
        Err(error) => report.add(Severity::Critical, "configuration", crate::exit::describe(&error)),
    }
    for (name, settings) in context.config.clusters.iter().filter(|(name, _)| cluster.is_none_or(|c| c == *name)) {
        match Server::of(settings) {
            Ok(server) => {
                // One that cannot be opened is told of with the repositories.
                let archives = context.config.wal_repositories(name);
                let to: Vec<_> = archives
                    .filter_map(|(known, options)| Repository::open(&context.config, known, options).ok())
                    .collect();
                check_data_directory(&mut report, name, settings).await;
                check_cluster(&mut report, &context.config, name, &server, &to).await;
            }
            Err(error) => report.add(Severity::Critical, name, chain(&error)),
        }
    }
    check_repositories(&mut report, context).await;
    check_outside(&mut report, context).await?;
    Ok(report)
}

/// Whether what the configuration says of the data directory can be.
async fn check_data_directory(report: &mut Report, name: &str, cluster: &Cluster) {
    let Some(directory) = &cluster.data_directory else { return };
    let file = directory.join("global/pg_control");
    match place::at(directory, PATIENCE, move || file.try_exists()).await {
        Err(hung) => report.add(Severity::Critical, name, format!("data-directory: {hung}")),
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            let message =
                format!("data-directory {} is not a data directory: it has no global/pg_control", directory.display());
            report.add(Severity::Critical, name, message);
        }
        Ok(Err(error)) => {
            let message = format!("data-directory {} cannot be read: {error}", directory.display());
            report.add(Severity::Unknown, name, message);
        }
    }
}

async fn check_cluster(report: &mut Report, config: &Config, name: &str, server: &Server, to: &[Repository]) {
    let mut connection = match server.connect().await {
        Ok(connection) => connection,
        Err(error) => return report.add(Severity::Critical, name, chain(&error)),
    };
    let row = sqlx::query(include_str!("check/server.sql")).fetch_one(&mut connection).await;
    let _ = connection.close().await;
    let row = match row {
        Ok(row) => row,
        Err(error) => return report.add(Severity::Critical, name, chain(&error)),
    };
    let text = |column: &str| row.try_get::<String, _>(column).unwrap_or_default();
    let number = |column: &str| row.try_get::<i32, _>(column).unwrap_or_default();
    let yes = |column: &str| row.try_get::<bool, _>(column).unwrap_or_default();
    report.add(Severity::Ok, name, format!("PostgreSQL {} answers as {}", text("version"), text("role")));
    if number("version_num") < 150_000 {
        report.add(Severity::Critical, name, "physical backups need PostgreSQL 15 or later");
    }
    if !yes("may_look") {
        let message = format!(
            "role {0} sees neither all sessions nor all settings, which monitors need: GRANT pg_monitor TO {0}",
            text("role")
        );
        report.add(Severity::Warning, name, message);
    }
    if text("wal_level") == "minimal" {
        report.add(Severity::Critical, name, "wal_level is minimal: set it to replica and restart the server");
    }
    if !yes("data_checksums") {
        let message =
            "data checksums are off: damaged pages go unnoticed (pg_checksums --enable while the server is stopped)";
        report.add(Severity::Warning, name, message);
    }
    if let Some(advice) = log_advice(config, name, &text("log_destination"), &text("log_line_prefix")) {
        report.add(Severity::Ok, name, advice);
    }
    if needs_replication(config, name) {
        if !yes("may_replicate") {
            let message =
                format!("role {0} may not replicate, which backups need: ALTER ROLE {0} REPLICATION", text("role"));
            report.add(Severity::Critical, name, message);
        }
        if number("max_wal_senders") < 2 {
            report.add(Severity::Critical, name, "max_wal_senders is below 2: a backup needs two");
        }
        if number("max_replication_slots") < 1 {
            report.add(
                Severity::Critical,
                name,
                "max_replication_slots is 0: a backup needs a temporary slot to keep its WAL",
            );
        }
        check_replication(report, name, server).await;
    }
    match server.system_id().await {
        Ok(system_id) => archiving::check(report, config, name, server, &system_id, to).await,
        Err(error) => report.add(Severity::Critical, name, chain(&error)),
    }
}

async fn check_replication(report: &mut Report, name: &str, server: &Server) {
    let identified = async { Replication::connect(&server.conninfo, server.connect_timeout).await?.identify().await };
    match identified.await {
        Ok(identity) => {
            let message =
                format!("replication works: system identifier {}, timeline {}", identity.system_id, identity.timeline);
            report.add(Severity::Ok, name, message);
        }
        Err(error) => {
            let message =
                format!("no replication connection: {}; pg_hba.conf needs a line for \"replication\"", chain(&error));
            report.add(Severity::Critical, name, message);
        }
    }
}

async fn check_repositories(report: &mut Report, context: &Context) {
    let Ok(repositories) = context.repositories(None) else {
        return report.add(Severity::Warning, "repositories", "none is configured: backups have nowhere to go");
    };
    for repository in repositories {
        let object = format!("repository {}", repository.name);
        let asked = async {
            repository.check_signing()?;
            repository.identities()?;
            repository.prepare().await?;
            let stays = repository.try_to_write().await?;
            let (backups, damaged) = repository.backups(None).await?;
            let free = repository.storage.free_bytes().await?;
            Ok::<_, RepositoryError>((backups, damaged, free, stays))
        };
        let Ok(asked) = tokio::time::timeout(PATIENCE, asked).await else {
            let message = format!("did not answer within {}", human::duration(PATIENCE));
            report.add(Severity::Critical, object, message);
            continue;
        };
        if let Ok(Some(exposed)) = repository.storage.exposed().await {
            report.add(Severity::Warning, object.clone(), exposed);
        }
        match asked {
            Ok((_, damaged, _, Some(error))) if damaged.is_empty() => {
                let message = format!("writable, but nothing can be removed, which retention needs: {}", chain(&error));
                report.add(Severity::Warning, object, message);
            }
            Ok((backups, damaged, free, None)) if damaged.is_empty() => {
                let newest = backups.last().map_or(0, |info| info.stored_bytes);
                let enough = free.is_none_or(|free| free > newest);
                let free = free.map_or_else(String::new, |free| format!(", {} free", human::size(free)));
                let message = format!("writable, {}{free}", human::count(backups.len(), "backup"));
                match enough {
                    true => report.add(Severity::Ok, object, message),
                    false => {
                        let message = format!(
                            "{message}: too little for another backup like the newest ({})",
                            human::size(newest)
                        );
                        report.add(Severity::Critical, object, message);
                    }
                }
            }
            Ok((_, damaged, ..)) => {
                let untrusted = damaged.iter().filter(|error| matches!(error, RepositoryError::Untrusted { .. }));
                let (untrusted, all) = (untrusted.count(), damaged.len());
                if all > untrusted {
                    let message = format!("{} with a damaged backup.json", human::count(all - untrusted, "backup"));
                    report.add(Severity::Critical, object.clone(), message);
                }
                if untrusted > 0 {
                    let message = format!(
                        "{} not signed by a trusted key (\"pgbosun backup list\" says which): they are ignored, and \
                         retention removes nothing until they are signed (\"pgbosun backup sign\") or removed",
                        human::count(untrusted, "backup")
                    );
                    report.add(Severity::Critical, object, message);
                }
            }
            Err(error) => report.add(Severity::Critical, object, chain(&error)),
        }
    }
}

async fn check_outside(report: &mut Report, context: &Context) -> anyhow::Result<()> {
    let config = &context.config;
    if config.mail.is_none() && config.channels.is_empty() {
        report.add(
            Severity::Warning,
            "mail",
            "neither [mail] nor a channel is configured: nobody is notified of alerts",
        );
    }
    let mail = config.mail.iter().map(|_| MAIL);
    for name in mail.chain(config.channels.keys().map(String::as_str)) {
        let object = if name == MAIL { name.to_owned() } else { format!("channel {name}") };
        match channel(config, name) {
            Ok(Some(channel)) => match channel.probe().await {
                Ok(receipt) => report.add(Severity::Ok, object, receipt.detail),
                Err(error) => report.add(Severity::Critical, object, chain(&error)),
            },
            Ok(None) => {}
            Err(error) => report.add(Severity::Critical, object, chain(&error)),
        }
    }
    let mut known = Some(Operators::default());
    match open_history(&context.config, Uuid::nil()) {
        Ok(None) => report.add(Severity::Ok, "history", "only in the local journal"),
        Ok(Some(delivery)) => match delivery.schema_state().await {
            Ok(SchemaState::Whole(operators)) => {
                known = Some(pgbosun_daemon::operators(config).await?.0);
                report.add(
                    Severity::Ok,
                    "history",
                    format!("dba_ops answers, {}", human::count(operators, "operator")),
                );
            }
            Ok(SchemaState::Absent) => {
                let message =
                    "answers, but has no schema dba_ops yet: the daemon creates it, or run \"pgbosun migrate\"";
                report.add(Severity::Ok, "history", message);
            }
            Ok(SchemaState::Older) => {
                known = operators_beside(&config.daemon.state_directory).await.ok().flatten();
                let message = "dba_ops is of an earlier version: the daemon upgrades it, or run \"pgbosun migrate\"";
                report.add(Severity::Ok, "history", message);
            }
            Err(error) => {
                // As the daemon does.
                known = operators_beside(&config.daemon.state_directory).await.ok().flatten();
                report.add(Severity::Critical, "history", chain(&error));
            }
        },
        Err(error) => report.add(Severity::Critical, "history", chain(&error)),
    }
    let operators = known.unwrap_or_default();
    for group in told_by_mail(config) {
        let hearing = Hearing::of(&operators, config, group);
        let severity = match hearing.by {
            By::Nobody => Severity::Critical,
            By::FailSafe(_) | By::AlertGroup(_) | By::Channels(_) => Severity::Ok,
            By::Operators | By::Configuration => continue,
        };
        let instead = hearing.instead().unwrap_or_default();
        report.add(severity, format!("group {group}"), format!("has no recipients of its own: {instead}"));
    }
    Ok(())
}
