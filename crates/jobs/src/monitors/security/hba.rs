//! Who is let in by which line of `pg_hba.conf` (CIS PostgreSQL Benchmark 5: no trust; reference 000: drift).

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
    human, options,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

options! {
    /// Alerts when lines of `pg_hba.conf` let anyone on the network in without a password, or allow passwords in clear text;
    /// when lines are wrong; and reports which lines changed.
    pub struct Hba {
        /// How long a change is reported.
        notice: Duration = "\"7d\"";
    }
}

#[derive(sqlx::FromRow)]
pub struct Rule {
    line: i32,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    kind: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    database: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    users: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    address: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    netmask: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    method: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    options: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    error: String,
}

impl Rule {
    fn words(&self) -> String {
        let words =
            [&self.kind, &self.database, &self.users, &self.address, &self.netmask, &self.method, &self.options];
        words.into_iter().filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Whether it is about others than this machine.
    fn is_remote(&self) -> bool {
        let here = self.address.starts_with("127.")
            || self.address == "::1"
            || self.address == "localhost"
            || self.address == "samehost";
        self.kind != "local" && !here
    }
}

/// How it is told that lines are the same in another order.
const MOVED: &str = "~ the order of the lines";

/// The lines of the last check, and what changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    lines: Option<Vec<String>>,
    news: Vec<(DateTime<Utc>, String)>,
}

#[async_trait]
impl Monitor for Hba {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "security",
        checks: 1,
        needs: Needs::Cluster,
        source: "CIS PostgreSQL Benchmark 5; pg_hba_file_rules",
        queries: &[Query { what: "read pg_hba_file_rules", sql: include_str!("hba.sql") }],
    };
    /// `None` where the role may not read it.
    type Sample = Option<Vec<Rule>>;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let grant = "As a superuser: grant select on pg_hba_file_rules and execute on function pg_hba_file_rules() to the role.";
        session.rows_if_allowed(&Self::FACTS.queries[0], grant).await
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let Some(rules) = sample else {
            return Verdict::of("not checked: the role may not read it");
        };
        let mut verdict = Verdict::of(human::count(rules.len(), "line"));
        let lines = |which: &dyn Fn(&&Rule) -> bool| {
            let rows = rules.iter().filter(which).map(|rule| [Value::of(rule.line), Value::of(rule.words())]);
            Detail::new().table(["line", "what it says"], rows)
        };
        let weak = |rule: &&Rule| rule.error.is_empty() && rule.is_remote() && rule.method == "trust";
        let open = |rule: &&Rule| {
            rule.error.is_empty() && rule.kind != "hostssl" && rule.is_remote() && rule.method == "password"
        };
        if rules.iter().any(|rule| weak(&rule)) {
            verdict.find(
                Finding::new(Severity::Critical, "trust", "pg_hba.conf lets others in without a password")
                    .meaning("Anyone who can reach the port can log in as anyone, superusers included.")
                    .advice("Use scram-sha-256 instead of trust, then run select pg_reload_conf().")
                    .detail(lines(&weak)),
            );
        }
        if rules.iter().any(|rule| open(&rule)) {
            verdict.find(
                Finding::new(Severity::Warning, "password", "pg_hba.conf allows passwords in the clear")
                    .meaning("Anyone who can listen on the network can read them.")
                    .advice("Use scram-sha-256 instead of password, and hostssl instead of host.")
                    .detail(lines(&open)),
            );
        }
        let wrong: Vec<_> = rules.iter().filter(|rule| !rule.error.is_empty()).collect();
        if let Some(first) = wrong.first() {
            let told = wrong.iter().map(|rule| [Value::of(rule.line), Value::of(&rule.error)]);
            verdict.find(
                Finding::new(Severity::Critical, "mistakes", format!("pg_hba.conf is wrong: {}", first.error))
                    .meaning("The server keeps using the old lines, and does not start with these.")
                    .advice("Fix the lines below, then run select pg_reload_conf().")
                    .detail(Detail::new().table(["line", "what is wrong"], told)),
            );
        }
        self.remember(rules, memory, baseline.now);
        if !memory.news.is_empty() {
            let told = memory.news.iter().map(|(at, line)| [(*at).into(), Value::of(line)]);
            let summary = match memory.news.iter().filter(|(_, line)| line != MOVED).count() {
                0 => "lines of pg_hba.conf were moved".to_owned(),
                changed if changed == memory.news.len() => {
                    format!("{} of pg_hba.conf changed", human::count(changed, "line"))
                }
                changed => format!("{} of pg_hba.conf changed, and others were moved", human::count(changed, "line")),
            };
            verdict.find(
                Finding::new(Severity::Warning, "changed", summary)
                    .meaning("People or programs that could not log in before may be able to now.")
                    .advice("If this was not intended, find out who did it.")
                    .detail(Detail::new().table(["seen", "change"], told)),
            );
        }
        verdict
    }
}

impl Hba {
    fn remember(&self, rules: &[Rule], memory: &mut Memory, now: DateTime<Utc>) {
        let lines: Vec<_> = rules.iter().map(Rule::words).collect();
        if let Some(known) = &memory.lines {
            let gone = known.iter().filter(|line| !lines.contains(line)).map(|line| format!("- {line}"));
            let new = lines.iter().filter(|line| !known.contains(line)).map(|line| format!("+ {line}"));
            // The first line that fits decides.
            let stayed = known.iter().filter(|line| lines.contains(line));
            let moved = !stayed.eq(lines.iter().filter(|line| known.contains(line)));
            let moved = moved.then(|| MOVED.to_owned());
            memory.news.extend(gone.chain(new).chain(moved).map(|line| (now, line)));
        }
        let notice = chrono::Duration::from_std(self.notice).unwrap_or_default();
        memory.news.retain(|(at, _)| now - *at < notice);
        memory.lines = Some(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_wrong_and_changed() {
        let monitor = Hba { notice: Duration::from_secs(3600) };
        let mut memory = Memory::default();
        let mut check = |rules: &[(&str, &str, &str)], minute: i64| {
            let rule = |(line, (kind, address, method)): (usize, &(&str, &str, &str))| Rule {
                line: i32::try_from(line).unwrap(),
                kind: (*kind).into(),
                database: "all".into(),
                users: "all".into(),
                address: (*address).into(),
                netmask: String::new(),
                method: (*method).into(),
                options: String::new(),
                error: String::new(),
            };
            let rules = rules.iter().enumerate().map(rule).collect();
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::minutes(minute), ..Baseline::default() };
            let findings = monitor.verdict(&Some(rules), &mut memory, &baseline).findings;
            findings.into_iter().map(|finding| finding.object).collect::<Vec<_>>()
        };
        let good = [("local", "", "trust"), ("host", "127.0.0.1", "trust"), ("host", "all", "scram-sha-256")];
        assert!(check(&good, 0).is_empty());
        assert_eq!(
            check(&[("host", "10.0.0.0", "trust"), ("host", "all", "password")], 1),
            ["trust", "password", "changed"]
        );
        assert_eq!(check(&good, 2), ["changed"]);
        assert!(check(&good, 70).is_empty());
        assert_eq!(check(&[good[0], good[2], good[1]], 71), ["changed"], "the first that fits decides");
    }
}
