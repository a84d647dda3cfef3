//! The restore test on a schedule: proof that a backup restores, how long it takes, and how much would be lost.

mod trend;

use super::{bulk_token, table_name::TableName};
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_backup::{Catalogue, Query, Recovery, Request, RestoreTest, RestoreTestResult, Target, plan, reachable};
use pgbosun_core::{
    clock,
    config::{self, Config, KnownNames, RawValue, Refusal, RepositoryName, Setting},
    detail::Detail,
    finding::{Finding, Severity},
    human, options,
    outcome::{Outcome, Record, RestoreTestRecord},
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use trend::Trend;
use uuid::Uuid;

options! {
    /// Restores a good backup into a scratch server on a private socket, recovers it with the archived WAL, reads every
    /// row of every table, runs the configured queries, measures each phase, and removes everything again.
    pub struct RestoreTestJob {
        /// The repository to restore from; by default any of them, tried in the order of their names.
        repository: Option<RepositoryName>;
        /// Which good backup to restore: the newest (`newest`) or one picked at random (`random`).
        backup: Choice = "\"newest\"";
        /// How far to recover: as far as the archive goes (`latest`), to a random moment (`random`), or only to the end
        /// of the backup (`backup-end`). Without archived WAL it is the end of the backup.
        target: Distance = "\"latest\"";
        /// Queries to run on the restored server: `[{ database = "app", sql = "select count(*) > 0 from orders", expect =
        /// "true" }]`. Each returns one value; without `expect` any value will do.
        queries: Queries;
        /// Check the structure of all tables and indexes with `pg_amcheck`, where it is installed.
        amcheck: bool = "true";
        /// A table that something writes to every minute, for example a job of kind `heartbeat`, with the time in its
        /// column `at`: `app.pgbosun.heartbeat` (database, schema, table). In the recovered state its newest row may be
        /// no older than two minutes.
        heartbeat: Option<TableName>;
        /// A table to dump from the restored server at the end, as you would to recover a dropped table:
        /// `app.public.orders`. The time it takes is measured, for reports of kind `report.drill`.
        extract: Option<TableName>;
        /// Where to put the scratch server, with room for the whole cluster; `restore-test` in the state directory by
        /// default.
        scratch_directory: Option<PathBuf>;
        /// Where the server's programs are, if not in the usual place for their version.
        program_directory: Option<PathBuf>;
        /// How long the scratch server may take to recover.
        recovery_timeout: Duration = "\"1h\"";
        /// The recovery time objective: a test that takes longer raises an alert, and so does a trend that will reach it
        /// within 30 days.
        recovery_time_objective: Option<Duration>;
        /// The recovery point objective: an older recovered state raises an alert.
        recovery_point_objective: Option<Duration>;
    }
}

pgbosun_core::words! {
    /// Which backup is tested.
    pub enum Choice {
        /// The newest.
        Newest = "newest",
        /// Any.
        Random = "random",
    }
}

pgbosun_core::words! {
    /// How far a test recovers.
    pub enum Distance {
        /// To the end of the archive.
        Latest = "latest",
        /// To any moment that can be reached.
        Random = "random",
        /// Not beyond the backup.
        BackupEnd = "backup-end",
    }
}

pgbosun_core::word_settings! {
    Choice: "\"newest\" or \"random\"";
    Distance: "\"latest\", \"random\" or \"backup-end\"";
}

/// Questions to a restored server.
#[derive(Clone, Debug, Default)]
pub struct Queries(Vec<Query>);

impl Setting for Queries {
    const EXPECTS: &'static str = "a list such as [{ database = \"app\", sql = \"select 1\", expect = \"1\" }]";
    const OPTIONAL: bool = true;

    fn read(value: &RawValue, _: &KnownNames) -> Result<Self, Refusal> {
        let refused = || Refusal::expected(Self::EXPECTS);
        let items = value.as_array().ok_or_else(refused)?.iter().map(|item| {
            let fields = item.as_dict()?;
            let text = |key: &str| fields.get(key).and_then(|value| value.as_str().map(str::to_owned));
            let known = fields.keys().all(|key| ["database", "sql", "expect"].contains(&key.as_str()));
            known.then_some(Query { database: text("database")?, sql: text("sql")?, expect: text("expect") })
        });
        items.collect::<Option<Vec<_>>>().map(Self).ok_or_else(refused)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

#[async_trait]
impl Job for RestoreTestJob {
    fn writes(&self, config: &Config, _job: &config::Job) -> Vec<PathBuf> {
        vec![self.scratch_directory(config)]
    }

    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mut tested = Tested::none(self.target, self.extract.is_some());
        let (started_at, begun) = (clock::now(), Instant::now());
        let done = Box::pin(self.test(context, &mut tested, begun)).await;
        if let (Err(error), false) = (&done, context.cancel.is_cancelled()) {
            // What cannot be restored was tested too: nobody may take the last test that passed for the last test.
            let (cluster, _) = context.cluster()?;
            context.ledger.add(Record::RestoreTest(tested.failed(cluster, started_at, begun.elapsed(), error)));
        }
        done
    }
}

/// What a test is about, as far as it came.
struct Tested {
    repository: String,
    label: String,
    target: String,
    /// Whether a table was to be taken out.
    extracts: bool,
}

impl Tested {
    fn none(target: Distance, extracts: bool) -> Self {
        let target = match target {
            Distance::Latest => Target::Latest.to_string(),
            Distance::Random => "a random moment".into(),
            Distance::BackupEnd => Target::BackupEnd.to_string(),
        };
        Self { repository: "none".into(), label: "none".into(), target, extracts }
    }

    fn failed(self, cluster: &str, started_at: DateTime<Utc>, took: Duration, error: &JobError) -> RestoreTestRecord {
        RestoreTestRecord {
            id: Uuid::now_v7(),
            cluster: cluster.to_owned(),
            repository: self.repository,
            label: self.label,
            started_at,
            total_seconds: took.as_secs_f64(),
            target: self.target,
            recovered_to: started_at,
            find_seconds: 0.0,
            restore_seconds: 0.0,
            recovery_seconds: 0.0,
            check_seconds: 0.0,
            // What did not restore gave no table either.
            extracted: self.extracts.then_some(false),
            extract_seconds: None,
            recovery_point_age_seconds: 0.0,
            databases: 0,
            tables: 0,
            rows: 0,
            passed: false,
            detail: human::chain(error),
        }
    }
}

impl RestoreTestJob {
    fn scratch_directory(&self, config: &Config) -> PathBuf {
        self.scratch_directory.clone().unwrap_or_else(|| config.daemon.state_directory.join("restore-test"))
    }

    async fn test(&self, context: &JobContext, tested: &mut Tested, begun: Instant) -> Result<Outcome, JobError> {
        let (cluster, _) = context.cluster()?;
        let named: Vec<_> = self.repository.iter().cloned().collect();
        let request = self.request(context, cluster, &named).await?;
        let plan = {
            let request = request.clone();
            context.in_bulk(async move { plan(&request).await }).await?
        };
        let label = plan.info.label.clone();
        let name = plan.repository.name.clone();
        let target = plan.target.to_string();
        (tested.repository, tested.label, tested.target) = (name.clone(), label.clone(), target.clone());
        if context.dry_run {
            let summary = format!("would restore {label} of {cluster} from {name} and recover it to {target}");
            return Ok(Outcome { summary, ..Outcome::default() });
        }
        let program =
            std::env::current_exe().map_err(|error| JobError::lasting("cannot find this program").because(error))?;
        let (cancel, _guard) = bulk_token(context);
        let test = RestoreTest {
            restore_command: Recovery::command(&program, &context.config.path, &request, &plan.confinement()),
            plan,
            find: begun.elapsed(),
            queries: self.queries.0.clone(),
            amcheck: self.amcheck,
            extract: self.extract.as_ref().map(|table| (table.database.clone(), table.quoted())),
            heartbeat: self.heartbeat.as_ref().map(|table| (table.database.clone(), table.quoted())),
            scratch_directory: self.scratch_directory(&context.config),
            program_directory: self.program_directory.clone(),
            recovery_timeout: self.recovery_timeout,
            progress: Arc::clone(&context.progress),
            cancel,
        };
        let result = context.in_bulk(async move { test.run().await }).await?;
        let trend = Trend::read(context.state.as_ref()).with(result.started_at, result.total);
        Ok(Outcome {
            summary: format!(
                "{}{label} restored, recovered to {target} and checked in {}: {}, {}, {}; the recovered \
                 state is {} old",
                result.faults.first().map_or_else(String::new, |fault| format!("problem found: {fault}; ")),
                human::duration(result.total),
                human::count(result.databases, "database"),
                human::count(result.tables, "table"),
                human::count(result.rows, "row"),
                human::duration(result.recovery_point_age)
            ),
            findings: self.judge(&label, &result, &trend),
            records: vec![Record::RestoreTest(record(cluster, &name, &label, &target, &result))],
            state: Some(trend.state()),
            ..Outcome::default()
        })
    }

    /// The objectives of a cluster: recovery time and recovery point, from its first job that has any.
    pub(crate) fn objectives(config: &Config, cluster: &str) -> (Option<Duration>, Option<Duration>) {
        let jobs = config.options_of::<Self>(cluster);
        let both = jobs.map(|job| (job.recovery_time_objective, job.recovery_point_objective));
        both.fold((None, None), |(time, point), (t, p)| (time.or(t), point.or(p)))
    }

    async fn request(
        &self,
        context: &JobContext,
        cluster: &str,
        named: &[RepositoryName],
    ) -> Result<Request, JobError> {
        let repositories = context.repositories(named)?;
        let mut request = Request {
            cluster: cluster.to_owned(),
            repositories,
            only: self.repository.as_ref().map(|only| only.0.clone()),
            backup: None,
            target: (self.target == Distance::BackupEnd).then_some(Target::BackupEnd),
            timeline: None,
            exclusive: false,
        };
        let chance = Uuid::new_v4().as_u128();
        if self.backup == Choice::Random {
            let mut labels = Vec::new();
            for repository in &request.repositories {
                let catalogue = Catalogue::read(repository, Some(cluster)).await?;
                let good = catalogue.entries().iter().filter(|entry| entry.health().is_good());
                labels.extend(good.map(|entry| entry.info.label.clone()));
            }
            let index = (chance % labels.len().max(1) as u128) as usize;
            request.backup = labels.into_iter().nth(index);
        }
        if self.target == Distance::Random {
            let window = {
                let request = request.clone();
                context.in_bulk(async move { reachable(&request).await }).await?
            };
            // No person means a moment that is drawn, so nobody is asked which timeline is meant.
            request.timeline = window.map(|window| window.timeline);
            // The end itself cannot be a target: the server must see a later transaction.
            request.target = window.and_then(|window| {
                let width = (window.to - window.from).num_milliseconds() - 1;
                let offset = (width > 0).then_some((chance >> 64) as i64 & i64::MAX).map(|chance| chance % width)?;
                Some(Target::Time(window.from + chrono::TimeDelta::milliseconds(offset + 1)))
            });
        }
        Ok(request)
    }

    fn judge(&self, label: &str, result: &RestoreTestResult, trend: &Trend) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |object: &str, severity, summary: String, meaning: &str, advice: &str, detail: Detail| {
            findings.push(Finding::new(severity, object, summary).meaning(meaning).advice(advice).detail(detail));
        };
        if !result.faults.is_empty() {
            find(
                "contents",
                Severity::Critical,
                format!("backup {label} can be restored, but something in it is wrong"),
                "After a disaster this data would be missing or wrong.",
                "Check what is named below in the live cluster, then take and test a new backup.",
                result.faults.join("\n").into(),
            );
        }
        let phases = phases(result);
        const SHORTEN: &str = "Find out which phase takes the time. A faster disk, more frequent backups (less WAL to \
             replay) or a smaller cluster would help.";
        match self.recovery_time_objective {
            Some(limit) if result.total > limit => find(
                "recovery time",
                Severity::Critical,
                format!("restoring takes {} (objective {})", human::duration(result.total), human::duration(limit)),
                "After a disaster the database would be down for longer than was agreed.",
                SHORTEN,
                phases.clone(),
            ),
            Some(limit) => {
                if let Some(days) = trend.days_until(limit).filter(|days| *days <= 30.0) {
                    find(
                        "recovery time trend",
                        Severity::Warning,
                        format!("restoring will take longer than {} in {days:.0} days", human::duration(limit)),
                        "The tests take longer and longer; the objective will be missed soon.",
                        SHORTEN,
                        phases.clone().text(trend.told()),
                    );
                }
            }
            None => {}
        }
        if let Some(limit) = self.recovery_point_objective.filter(|limit| result.recovery_point_age > *limit) {
            find(
                "recovery point",
                Severity::Critical,
                format!(
                    "what can be restored is {} old (objective {})",
                    human::duration(result.recovery_point_age),
                    human::duration(limit)
                ),
                "After a disaster more work would be lost than was agreed.",
                "Archive WAL, lower archive_timeout, or receive WAL as it is written (receive-wal).",
                phases,
            );
        }
        findings
    }
}

/// How long each phase of a test took.
pub(super) fn phases(result: &RestoreTestResult) -> Detail {
    Detail::new()
        .fact("find", human::duration(result.find))
        .fact("fetch", human::duration(result.restore))
        .fact("recover", human::duration(result.recovery))
        .fact("check", human::duration(result.check))
}

fn record(cluster: &str, repository: &str, label: &str, target: &str, result: &RestoreTestResult) -> RestoreTestRecord {
    RestoreTestRecord {
        id: Uuid::now_v7(),
        cluster: cluster.to_owned(),
        repository: repository.to_owned(),
        label: label.to_owned(),
        started_at: result.started_at,
        total_seconds: result.total.as_secs_f64(),
        target: target.to_owned(),
        recovered_to: result.recovered_to,
        find_seconds: result.find.as_secs_f64(),
        restore_seconds: result.restore.as_secs_f64(),
        recovery_seconds: result.recovery.as_secs_f64(),
        check_seconds: result.check.as_secs_f64(),
        extracted: result.extract.map(|took| took.is_ok()),
        extract_seconds: result.extract.and_then(Result::ok).map(|took| took.as_secs_f64()),
        recovery_point_age_seconds: result.recovery_point_age.as_secs_f64(),
        databases: result.databases,
        tables: result.tables,
        rows: result.rows,
        passed: result.faults.is_empty(),
        detail: result.faults.iter().chain(&result.checked).cloned().collect::<Vec<_>>().join("\n"),
    }
}
