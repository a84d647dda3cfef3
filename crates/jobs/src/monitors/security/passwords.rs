//! Passwords that are kept in a form that is too weak (PostgreSQL 18 warns of md5 passwords; CIS PostgreSQL Benchmark).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    finding::{Finding, Severity},
    human,
    metric::Metric,
    options,
};

options! {
    /// Alerts when passwords are stored as md5. Only a superuser may see that; with any other role the monitor is UNKNOWN, and
    /// says what to grant.
    pub struct Passwords {
        /// Roles that may have one.
        ignore: Vec<String> = "[]";
    }
}

#[derive(sqlx::FromRow)]
pub struct Role {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
}

#[async_trait]
impl Monitor for Passwords {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "51 6 * * *",
        group: "security",
        checks: 1,
        needs: Needs::Cluster,
        source: "PostgreSQL 18, release notes: md5 passwords are deprecated",
        queries: &[Query { what: "look how passwords are stored", sql: include_str!("passwords.sql") }],
    };
    /// `None` where the role may not see it.
    type Sample = Option<Vec<Role>>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let grant = "As a superuser: grant select on pg_authid to the role, which lets it see what is stored of all passwords; or \
                     turn this monitor off: enabled = false.";
        session.rows_if_allowed(&Self::FACTS.queries[0], grant).await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let Some(roles) = sample else {
            return Verdict::of("not checked: the role may not read it");
        };
        let weak = roles.iter().filter(|role| !self.ignore.contains(&role.name)).map(|role| role.name.as_str());
        let weak: Vec<_> = weak.collect();
        let mut verdict = Verdict::of(format!("{} stored as md5", human::count(weak.len(), "password")));
        verdict.measure(Metric::new("postgres_md5_passwords", weak.len() as f64));
        if !weak.is_empty() {
            verdict.find(
                Finding::new(
                    Severity::Warning,
                    "md5",
                    format!("{} stored as md5", human::count(weak.len(), "password")),
                )
                .meaning("Whoever gets hold of what is stored can log in with it; a later version of PostgreSQL will refuse such passwords.")
                .advice("Set password_encryption = scram-sha-256, and have these roles set their passwords again.")
                .detail(weak.join("\n")),
            );
        }
        verdict
    }
}
