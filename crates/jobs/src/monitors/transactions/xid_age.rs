//! How far transaction numbers are from their end, and who keeps vacuum from freezing (check_postgres: txn_wraparound;
//! check_pgactivity: max_freeze_age, oldest_xmin; limits far below those of check_postgres, since freezing takes long).

use crate::{
    Baseline, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Query, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::Needs,
    detail::{Detail, Value},
    finding::Finding,
    human,
    metric::Metric,
    options,
};
use std::collections::BTreeMap;

options! {
    /// Alerts long before a database runs out of transaction or multixact IDs, and names its oldest tables and what holds
    /// freezing back: a session, a prepared transaction, a replication slot, a standby.
    pub struct XidAge {
        /// Warns above this age of the oldest transaction or multixact that is not frozen. Autovacuum steps in at
        /// `autovacuum_freeze_max_age` (200 million), and the server refuses writes near 2.1 billion.
        warning_age: u32 = "500000000";
        /// Critical above this age.
        critical_age: u32 = "1000000000";
    }
}

#[derive(sqlx::FromRow)]
pub struct Database {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    xid: i64,
    multixact: i64,
}

#[derive(sqlx::FromRow)]
pub struct Holder {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    kind: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    who: String,
    held: i64,
}

#[derive(sqlx::FromRow)]
pub struct OldTable {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    xid: i64,
    multixact: i64,
    bytes: Option<i64>,
}

impl OldTable {
    fn row(&self) -> [Value; 4] {
        let Self { name, xid, multixact, bytes } = self;
        let size = human::size(bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default());
        [Value::of(name), Value::of(xid), Value::of(multixact), Value::of(size)]
    }
}

pub struct Sample {
    databases: Vec<Database>,
    holders: Vec<Holder>,
    /// The oldest tables of the databases that are old.
    tables: BTreeMap<String, Vec<OldTable>>,
}

/// Databases of which the oldest tables are looked up at most.
const LOOKED_UP: usize = 3;

#[async_trait]
impl Monitor for XidAge {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "*/5 * * * *",
        group: "database",
        checks: 1,
        needs: Needs::Cluster,
        source: "check_postgres txn_wraparound, check_pgactivity max_freeze_age and oldest_xmin",
        queries: &[
            Query { what: "read the age of the databases", sql: include_str!("xid_age.sql") },
            Query { what: "find out who holds the horizon back", sql: include_str!("xid_holders.sql") },
            Query { what: "list the oldest tables of an old database", sql: include_str!("xid_tables.sql") },
        ],
    };
    type Sample = Sample;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Sample, JobError> {
        let databases: Vec<Database> = session.rows(&Self::FACTS.queries[0]).await?;
        let holders = session.rows(&Self::FACTS.queries[1]).await?;
        let mut tables = BTreeMap::new();
        let old = databases.iter().filter(|one| one.xid.max(one.multixact) > i64::from(self.warning_age));
        for Database { name, .. } in old.take(LOOKED_UP) {
            // One that nobody may connect to has them all the same, and its age is told without.
            if let Ok(Some(found)) = session.within(name, &Self::FACTS.queries[2], &[]).await {
                tables.insert(name.clone(), found);
            }
        }
        Ok(Sample { databases, holders, tables })
    }

    fn verdict(&self, sample: &Sample, (): &mut (), baseline: &Baseline) -> Verdict {
        let oldest = sample.databases.iter().max_by_key(|database| database.xid.max(database.multixact));
        let millions = |age: i64| format!("{} million", age / 1_000_000);
        let mut verdict = Verdict::of(oldest.map_or_else(String::new, |oldest| {
            format!("the oldest is {}, at {} transactions", oldest.name, millions(oldest.xid))
        }));
        let holders: Vec<_> = sample
            .holders
            .iter()
            .map(|holder| [Value::of(holder.held), Value::of(format!("{} {}", holder.kind, holder.who))])
            .collect();
        for Database { name, xid, multixact } in &sample.databases {
            verdict.measure(Metric::new("postgres_database_xid_age", *xid as f64).of("database", name));
            verdict.measure(Metric::new("postgres_database_multixact_age", *multixact as f64).of("database", name));
            let tables = sample.tables.get(name).into_iter().flatten();
            let tables: Vec<_> = tables.map(OldTable::row).collect();
            for (what, age) in [("transactions", *xid), ("multixacts", *multixact)] {
                let object = format!("{what} of {name}");
                let severity = baseline.above(&object, age as f64, self.warning_age.into(), self.critical_age.into());
                let advice = match sample.holders.first() {
                    Some(holder) if holder.held > i64::from(self.warning_age) / 2 => format!(
                        "End what holds freezing back, first the {} {}; then vacuum the oldest tables.",
                        holder.kind, holder.who
                    ),
                    _ => "Let vacuum freeze the oldest tables: vacuumdb --freeze, with vacuum_cost_delay = 0.".into(),
                };
                verdict.find(
                    Finding::new(severity, object, format!("{name} has unfrozen {what} of age {}", millions(age)))
                        .meaning("At 2.1 billion the server refuses all writes, and freezing takes hours.")
                        .advice(advice)
                        .detail(
                            Detail::new()
                                .table(["transactions", "held back by"], holders.clone())
                                .table(["table", "transactions old", "multixacts old", "size"], tables.clone()),
                        ),
                );
            }
        }
        if let Some(holder) = sample.holders.first() {
            verdict.measure(Metric::new("postgres_oldest_xmin_age", holder.held as f64));
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
        let check = |xid, multixact, held| {
            let database = Database { name: "app".into(), xid, multixact };
            let holder = Holder { kind: "replication slot".into(), who: "old, in use by nobody".into(), held };
            let table = OldTable { name: "public.old".into(), xid, multixact, bytes: Some(8192) };
            let tables = BTreeMap::from([("app".to_owned(), vec![table])]);
            let sample = Sample { databases: vec![database], holders: vec![holder], tables };
            monitor.verdict(&sample, &mut (), &Baseline::default()).findings
        };
        assert!(check(500_000_000, 0, 1).is_empty());
        let found = check(600_000_000, 0, 590_000_000);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
        assert!(found[0].advice.contains("replication slot old"), "{}", found[0].advice);
        assert!(found[0].detail.to_string().contains("public.old         600000000"), "{}", found[0].detail);
        let found = check(1_100_000_000, 600_000_000, 1);
        assert_eq!(
            found.iter().map(|finding| finding.severity).collect::<Vec<_>>(),
            [Severity::Critical, Severity::Warning]
        );
        assert!(found[0].advice.contains("vacuumdb"));
    }
}
