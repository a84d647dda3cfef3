//! Roles that got power (CIS PostgreSQL Benchmark: excessive administrative privileges).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use pgbosun_core::{
    config::Needs,
    detail::Detail,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

options! {
    /// Reports when a role becomes superuser, or gets another far-reaching privilege: replication, bypassrls, createrole, the
    /// predefined roles that read and write all data or files of the server.
    pub struct Superusers {
        /// How long it is reported.
        notice: Duration = "\"7d\"";
        /// Roles that may have any of these.
        ignore: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct Role {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    powers: String,
}

/// What each role could do at the last check, and who got more since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    known: Option<BTreeMap<String, String>>,
    news: BTreeMap<String, (DateTime<Utc>, String)>,
}

#[async_trait]
impl Monitor for Superusers {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "security",
        checks: 1,
        needs: Needs::Cluster,
        source: "CIS PostgreSQL Benchmark 4: privileges",
        queries: &[Query { what: "list the roles", sql: include_str!("superusers.sql") }],
    };
    type Sample = Vec<Role>;
    type Memory = Memory;

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        session.rows(&Self::FACTS.queries[0]).await
    }

    fn verdict(&self, sample: &Self::Sample, memory: &mut Memory, baseline: &Baseline) -> Verdict {
        let now: BTreeMap<_, _> = sample
            .iter()
            .filter(|role| !role.powers.is_empty() && !self.ignore.contains(&role.name))
            .map(|role| (role.name.clone(), role.powers.clone()))
            .collect();
        if let Some(known) = &memory.known {
            let has = |powers: Option<&String>, power: &str| {
                powers.is_some_and(|powers| powers.split(", ").any(|known| known == power))
            };
            for (name, powers) in &now {
                let new: Vec<_> = powers.split(", ").filter(|power| !has(known.get(name), power)).collect();
                if !new.is_empty() {
                    memory.news.insert(name.clone(), (baseline.now, new.join(", ")));
                }
            }
        }
        let notice = chrono::Duration::from_std(self.notice).unwrap_or_default();
        memory.news.retain(|name, (at, _)| baseline.now - *at < notice && now.contains_key(name));
        let superusers = now.values().filter(|powers| powers.starts_with("superuser")).count();
        let mut verdict = Verdict::of(format!(
            "{}, {} with far-reaching privileges",
            human::count(superusers, "superuser"),
            human::count(now.len(), "role")
        ));
        verdict.measure(Metric::new("postgres_superusers", superusers as f64));
        for (name, (at, powers)) in &memory.news {
            let severity = if powers.starts_with("superuser") { Severity::Critical } else { Severity::Warning };
            verdict.find(
                Finding::new(severity, name, format!("role {name} got {powers}"))
                    .meaning("Whoever logs in as this role can do more than before, up to everything.")
                    .advice("If this was not intended, revoke it (ALTER ROLE, REVOKE), and find out who did it.")
                    .detail(Detail::new().time("first seen", *at)),
            );
        }
        memory.known = Some(now);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_more_is_told_until_it_is_taken_back() {
        let monitor = Superusers { notice: Duration::from_secs(86_400), ignore: Vec::new() };
        let mut memory = Memory::default();
        let mut check = |powers: &str, hour: i64| {
            let role = |name: &str, powers: &str| Role { name: name.into(), powers: powers.into() };
            let baseline =
                Baseline { now: DateTime::UNIX_EPOCH + chrono::Duration::hours(hour), ..Baseline::default() };
            let sample = vec![role("postgres", "superuser, replication"), role("app", powers)];
            let findings = monitor.verdict(&sample, &mut memory, &baseline).findings;
            findings.into_iter().map(|finding| finding.summary).collect::<Vec<_>>()
        };
        assert!(check("", 0).is_empty(), "what is there at the first look is not new");
        assert_eq!(check("createrole", 1), ["role app got createrole"]);
        assert_eq!(check("superuser, createrole", 2), ["role app got superuser"]);
        assert_eq!(check("superuser, createrole", 25).len(), 1);
        assert!(check("superuser, createrole", 26).is_empty());
        assert!(check("", 27).is_empty());
        assert_eq!(check("superuser", 28).len(), 1);
        assert!(check("", 29).is_empty(), "taken back");
    }
}
