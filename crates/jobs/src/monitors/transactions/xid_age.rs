//! How far transaction numbers are from their end, and who keeps vacuum from freezing (check_postgres: txn_wraparound;
//! check_pgactivity: max_freeze_age, oldest_xmin; limits far below those of check_postgres, since freezing takes long).

use crate::{
    JobError,
    monitors::{Facts, Look, Monitor, Query, Verdict, View},
};
use async_trait::async_trait;
use pgbosun_core::{config::Needs, figure::Figure, finding::Finding, options};

options! {
    /// Alerts long before a database runs out of transaction or multixact numbers, and names who holds freezing back: a
    /// session, a prepared transaction, a replication slot, a standby.
    pub struct XidAge {
        /// Warns above this age of the oldest transaction or multixact that is not frozen. Autovacuum begins at
        /// `autovacuum_freeze_max_age` (200 million), and the server refuses writes near 2.1 billion.
        warning_age: u32 = "500000000";
        /// Critical above this age.
        critical_age: u32 = "1000000000";
    }
}

#[derive(sqlx::FromRow)]
pub struct Database {
    name: String,
    xid: i64,
    multixact: i64,
}

#[derive(sqlx::FromRow)]
pub struct Holder {
    kind: String,
    who: String,
    held: i64,
}

pub struct Sample {
    databases: Vec<Database>,
    holders: Vec<Holder>,
}

#[async_trait]
impl Monitor for XidAge {
    const FACTS: Facts = Facts {
        every: "*/5 * * * *",
        group: "database",
        looks: 1,
        needs: Needs::Cluster,
        source: "check_postgres txn_wraparound, check_pgactivity max_freeze_age and oldest_xmin",
        queries: &[
            Query { what: "read the age of the databases", sql: include_str!("xid_age.sql") },
            Query { what: "look for who holds the horizon", sql: include_str!("xid_holders.sql") },
        ],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, look: &mut Look<'_>) -> Result<Sample, JobError> {
        let databases = look.rows(&Self::FACTS.queries[0]).await?;
        Ok(Sample { databases, holders: look.rows(&Self::FACTS.queries[1]).await? })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), view: &View) -> Verdict {
        let oldest = sample.databases.iter().max_by_key(|database| database.xid.max(database.multixact));
        let millions = |age: i64| format!("{} million", age / 1_000_000);
        let mut verdict = Verdict::of(oldest.map_or_else(String::new, |oldest| {
            format!("oldest is {}, {} transactions", oldest.name, millions(oldest.xid))
        }));
        let holders: Vec<_> = sample
            .holders
            .iter()
            .map(|holder| format!("held back by {} transactions: {} {}", holder.held, holder.kind, holder.who))
            .collect();
        for Database { name, xid, multixact } in &sample.databases {
            verdict.measure(Figure::new("postgres_database_xid_age", *xid as f64).of("database", name));
            verdict.measure(Figure::new("postgres_database_multixact_age", *multixact as f64).of("database", name));
            for (what, age) in [("transactions", *xid), ("multixacts", *multixact)] {
                let object = format!("{what} of {name}");
                let severity = view.above(&object, age as f64, self.warning_age.into(), self.critical_age.into());
                let advice = match sample.holders.first() {
                    Some(holder) if holder.held > i64::from(self.warning_age) / 2 => format!(
                        "End what holds freezing back, first the {} {}; then vacuum the oldest tables.",
                        holder.kind, holder.who
                    ),
                    _ => "Let vacuum freeze the oldest tables: vacuumdb --freeze, with vacuum_cost_delay = 0.".into(),
                };
                verdict.find(
                    Finding::new(
                        severity,
                        object,
                        format!("{name} has {what} {} old that are not frozen", millions(age)),
                    )
                    .meaning("At 2.1 billion the server refuses all writes, and freezing takes hours.")
                    .advice(advice)
                    .detail(holders.join("\n")),
                );
            }
        }
        if let Some(holder) = sample.holders.first() {
            verdict.measure(Figure::new("postgres_oldest_xmin_age", holder.held as f64));
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    #[test]
    fn the_holder_is_named() {
        let monitor = XidAge { warning_age: 500_000_000, critical_age: 1_000_000_000 };
        let look = |xid, multixact, held| {
            let database = Database { name: "app".into(), xid, multixact };
            let holder = Holder { kind: "replication slot".into(), who: "old, in use by nobody".into(), held };
            let sample = Sample { databases: vec![database], holders: vec![holder] };
            monitor.verdict(&sample, &mut (), &View::default()).findings
        };
        assert!(look(500_000_000, 0, 1).is_empty());
        let found = look(600_000_000, 0, 590_000_000);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
        assert!(found[0].advice.contains("replication slot old"), "{}", found[0].advice);
        let found = look(1_100_000_000, 600_000_000, 1);
        assert_eq!(
            found.iter().map(|finding| finding.severity).collect::<Vec<_>>(),
            [Severity::Critical, Severity::Warning]
        );
        assert!(found[0].advice.contains("vacuumdb"));
    }
}
