//! Whether settings wait for a restart, are wrong in their files, or changed since the last check
//! (check_pgactivity: pg_settings pending restart, settings; check_postgres: settings_checksum).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::Needs,
    detail::{Detail, Value},
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

options! {
    /// Alerts when settings wait for a restart or are wrong in their files, and reports which ones changed. The values of
    /// settings that may hold a password (`primary_conninfo`, the commands, extension settings with names that suggest it) are
    /// neither reported nor kept.
    pub struct Settings {
        /// How long a change is reported.
        notice: Duration = "\"24h\"";
        /// Settings whose changes are ignored.
        ignore: Vec<String> = "[]";
    }
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Setting {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    setting: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    unit: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    source: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    file: String,
    pending_restart: bool,
    /// Whether `setting` is a digest.
    secret: bool,
    /// Whether the role sees every setting, and every session.
    all_seen: bool,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Mistake {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    file: String,
    line: i32,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    error: String,
}

pub struct Sample {
    settings: Vec<Setting>,
    /// `None` where the role may not read the files.
    mistakes: Option<Vec<Mistake>>,
}

/// What a setting was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSettings {
    told: String,
    secret: bool,
}

/// A setting that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    at: DateTime<Utc>,
    name: String,
    from: Option<KnownSettings>,
    to: Option<KnownSettings>,
}

/// The settings of the last check, and what changed lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    known: Option<BTreeMap<String, KnownSettings>>,
    changed: Vec<Changed>,
}

#[async_trait]
impl Monitor for Settings {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_pgactivity settings and pending restart; pg_settings, pg_file_settings",
        queries: &[
            Query { what: "read pg_settings", sql: include_str!("settings.sql") },
            Query { what: "read pg_file_settings", sql: include_str!("settings_errors.sql") },
        ],
    };
    type Sample = Sample;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let settings = session.rows(&Self::FACTS.queries[0]).await?;
        let grant = "As a superuser: grant select on pg_file_settings and execute on function pg_show_all_file_settings() to \
                     the role.";
        let mistakes = session.rows_if_allowed(&Self::FACTS.queries[1], grant).await?;
        if settings.iter().any(|setting: &Setting| !setting.all_seen) {
            let advice = "As a superuser: grant pg_monitor to the role.";
            let reason = "it is not a member of pg_read_all_settings, or not of pg_read_all_stats";
            session.unseen("sessions and settings", "the role does not see all settings and sessions", advice, reason);
        }
        Ok(Sample { settings, mistakes })
    }

    fn verdict(&self, sample: &Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let pending: Vec<_> = sample.settings.iter().filter(|setting| setting.pending_restart).collect();
        self.remember(sample, memory, baseline.now);
        let mut verdict = Verdict::of(format!(
            "{} not at the default, {} waiting for a restart",
            human::count(sample.settings.len(), "setting"),
            pending.len()
        ));
        verdict.measure(Metric::new("postgres_settings_pending_restart", pending.len() as f64));
        if !pending.is_empty() {
            let names: Vec<_> = pending.iter().map(|setting| setting.name.as_str()).collect();
            verdict.find(
                Finding::new(Severity::Warning, "pending restart", format!("settings wait for a restart: {}", names.join(", ")))
                    .meaning("The server uses the old values until it restarts, perhaps at a moment when nobody expects a change.")
                    .advice("Restart the server at a quiet time, or revert the change."),
            );
        }
        let mistakes = sample.mistakes.as_deref().unwrap_or_default();
        if let Some(first) = mistakes.first() {
            let rows = mistakes.iter().map(|mistake| {
                let place = format!("{}:{}", mistake.file, mistake.line);
                [Value::of(place), Value::of(&mistake.name), Value::of(&mistake.error)]
            });
            verdict.find(
                Finding::new(
                    Severity::Critical,
                    "configuration files",
                    format!("the configuration is wrong: {}", first.error),
                )
                .meaning("With such a file the server may not start, and does not apply other changes.")
                .advice("Fix the lines below, then run select pg_reload_conf() and check pg_file_settings.")
                .detail(Detail::new().table(["file and line", "setting", "what is wrong"], rows)),
            );
        }
        if !memory.changed.is_empty() {
            let names: Vec<_> = memory.changed.iter().map(|change| change.name.as_str()).collect();
            let rows = memory.changed.iter().map(Changed::row);
            verdict.find(
                Finding::new(Severity::Warning, "changed", format!("settings changed: {}", names.join(", ")))
                    .meaning("The server may behave differently from before.")
                    .advice("If nobody meant to change them, the files and pg_db_role_setting show where the change comes from.")
                    .detail(Detail::new().table(["changed", "setting", "from", "to"], rows)),
            );
        }
        verdict
    }
}

impl Settings {
    fn remember(&self, sample: &Sample, memory: &mut Memory, now: DateTime<Utc>) {
        let known = |setting: &Setting| KnownSettings {
            told: format!("{}{} ({})", setting.setting, setting.unit, setting.origin()),
            secret: setting.secret,
        };
        let known: BTreeMap<_, _> = sample
            .settings
            .iter()
            .filter(|setting| !self.ignore.contains(&setting.name))
            .map(|setting| (setting.name.clone(), known(setting)))
            .collect();
        if let Some(before) = &memory.known {
            let names: std::collections::BTreeSet<_> = before.keys().chain(known.keys()).collect();
            for name in names.into_iter().filter(|name| before.get(*name) != known.get(*name)) {
                let (from, to) = (before.get(name).cloned(), known.get(name).cloned());
                memory.changed.retain(|change| change.name != *name);
                memory.changed.push(Changed { at: now, name: name.clone(), from, to });
            }
        }
        let notice = chrono::Duration::from_std(self.notice).unwrap_or_default();
        memory.changed.retain(|change| now - change.at < notice);
        memory.known = Some(known);
    }
}

impl Changed {
    /// The change, without its values where they may hold a password.
    fn row(&self) -> [Value; 4] {
        let secret = [&self.from, &self.to].into_iter().flatten().any(|known| known.secret);
        let word = |value: &Option<KnownSettings>| match value {
            _ if secret => "(secret)".to_owned(),
            None => "its default".to_owned(),
            Some(known) => known.told.clone(),
        };
        [self.at.into(), Value::of(&self.name), Value::of(word(&self.from)), Value::of(word(&self.to))]
    }
}

impl Setting {
    fn origin(&self) -> &str {
        if self.file.is_empty() { &self.source } else { &self.file }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_what_is_wrong_and_what_changed() {
        let monitor = Settings { notice: Duration::from_secs(3600), ignore: vec!["search_path".into()] };
        let setting = |name: &str, value: &str, pending_restart| Setting {
            name: name.into(),
            setting: value.into(),
            unit: String::new(),
            source: "configuration file".into(),
            file: "/etc/postgresql.conf".into(),
            pending_restart,
            secret: false,
            all_seen: true,
        };
        let mut memory = Memory::default();
        let mut check = |settings, mistakes, minute: i64| {
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute), ..Baseline::default() };
            let verdict = monitor.verdict(&Sample { settings, mistakes }, &mut memory, &baseline);
            verdict.findings.into_iter().map(|finding| (finding.object, finding.severity)).collect::<Vec<_>>()
        };
        assert!(check(vec![setting("work_mem", "4096", false)], None, 0).is_empty());
        let changed = check(vec![setting("work_mem", "8192", false), setting("search_path", "x", false)], None, 5);
        assert_eq!(changed, [("changed".into(), Severity::Warning)]);
        assert_eq!(check(vec![setting("work_mem", "8192", false)], None, 30).len(), 1);
        assert!(check(vec![setting("work_mem", "8192", false)], Some(Vec::new()), 66).is_empty());
        let mistake = Mistake { name: "x".into(), file: "f".into(), line: 1, error: "unrecognized parameter".into() };
        let worse = check(vec![setting("work_mem", "8192", true)], Some(vec![mistake]), 67);
        assert_eq!(worse.len(), 2, "{worse:?}");
    }
    #[test]
    fn a_password_is_neither_told_nor_kept() {
        let query = include_str!("settings.sql");
        for name in ["primary_conninfo", "archive_command", "restore_command", "ssl_passphrase_command"] {
            assert!(query.contains(&format!("'{name}'")), "{name}");
        }
        let monitor = Settings { notice: Duration::from_secs(3600), ignore: Vec::new() };
        let sample = |digest: &str| Sample {
            settings: vec![Setting {
                name: "primary_conninfo".into(),
                setting: digest.into(),
                unit: String::new(),
                source: "configuration file".into(),
                file: "/etc/postgresql.conf".into(),
                pending_restart: false,
                secret: true,
                all_seen: false,
            }],
            mistakes: None,
        };
        // What an earlier version remembered goes.
        let before = r#"{"known": {"primary_conninfo": "password=hush (f)"}, "changed": []}"#;
        let mut memory: Memory = serde_json::from_str(before).unwrap_or_default();
        assert_eq!(memory, Memory::default());
        let verdict = monitor.verdict(&sample("00c0ffee00c0ffee"), &mut memory, &Baseline::default());
        assert!(verdict.findings.is_empty());
        for settings in [sample("feed0000feed0000"), Sample { settings: Vec::new(), mistakes: None }] {
            let finding = monitor.verdict(&settings, &mut memory, &Baseline::default()).findings.remove(0);
            assert_eq!(finding.summary, "settings changed: primary_conninfo");
            let told = finding.detail.to_string();
            assert!(told.ends_with("1970-01-01 00:00:00 UTC  primary_conninfo  (secret)  (secret)"), "{told}");
        }
    }
}
