//! Tables, and which of them need work: a pure function of what the server counts, against each table's own thresholds.

use super::session::MaintenanceSession;
use crate::JobError;
use chrono::{DateTime, TimeDelta, Utc};
use pgbosun_core::human;
use sqlx::FromRow;

/// A table as the server counts it.
#[derive(Clone, Debug, Default, FromRow)]
pub(super) struct TableActivity {
    pub oid: i64,
    /// With its schema, as SQL names it.
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    pub name: String,
    /// Whether it is one of PostgreSQL's own.
    pub system: bool,
    /// Whether it only has partitions, and no rows of its own.
    pub partitioned: bool,
    /// Whether it is the same in every database.
    pub shared: bool,
    /// Whether the role may maintain it: the server only warns where it may not.
    pub allowed: bool,
    /// With indexes and TOAST.
    pub bytes: i64,
    pub rows: f64,
    /// Dead rows, those of its TOAST among them.
    pub dead: f64,
    /// Of the number at which autovacuum would begin.
    pub dead_share: f64,
    /// The same for its TOAST.
    pub toast_share: f64,
    /// Of the insertions at which autovacuum would begin.
    pub inserted_share: f64,
    /// Of the changes at which autovacuum would analyze.
    pub modified_share: f64,
    pub analyzed: Option<DateTime<Utc>>,
    pub has_statistics: bool,
    pub xid: f64,
    /// The age at which the server would vacuum it whatever is configured.
    pub xid_limit: f64,
    pub multixact: f64,
    pub multixact_limit: f64,
}

/// What a table needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Need {
    /// The more, the sooner; from 1 on autovacuum would begin, from 1000 on the server insists soon.
    pub score: f64,
    /// Why.
    pub reason: String,
    /// Whether its rows are to be frozen.
    pub freeze: bool,
    /// Whether dead rows are enough to be one.
    pub dead: bool,
}

/// By what is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure {
    /// From which share of a table's own threshold on it is in need.
    pub share: f64,
    /// How far ahead a freeze is done that the server would insist on.
    pub runway: TimeDelta,
    /// Transactions a day, where known.
    pub transactions: Option<f64>,
    /// Without thresholds.
    pub all: bool,
}

/// The tables of a database.
pub(super) async fn tables(session: &mut MaintenanceSession) -> Result<Vec<TableActivity>, JobError> {
    session.rows("list the tables", include_str!("tables.sql")).await
}

impl TableActivity {
    /// What vacuum has to do, where it has.
    pub fn vacuum(&self, measure: &Measure) -> Option<Need> {
        if self.partitioned {
            return None;
        }
        let freeze = self.freeze(measure);
        let million = |age: f64| format!("{:.1} million", age / 1e6);
        let times = |share: f64| format!("{:.0} % of its threshold", 100.0 * share);
        let share = self.dead_share.max(self.toast_share);
        let dead = share >= measure.share;
        let need = |score, reason| Some(Need { score, reason, freeze: freeze.is_some(), dead });
        if let Some((share, what, age, limit)) = freeze {
            let reason = format!("{what} age {}, the server forces a vacuum at {}", million(age), million(limit));
            return need(1000.0 * share, reason);
        }
        if dead {
            let place = if self.toast_share > self.dead_share { "dead rows, most in TOAST" } else { "dead rows" };
            return need(share, format!("{:.0} {place}, {}", self.dead, times(share)));
        }
        if self.inserted_share >= measure.share {
            return need(self.inserted_share, format!("insertions are {}", times(self.inserted_share)));
        }
        if !self.has_statistics && self.bytes > 0 {
            return need(measure.share, "it was never analyzed".into());
        }
        measure.all.then(|| Need { score: 0.0, reason: "all = true".into(), freeze: false, dead: false })
    }

    /// Which age comes near its limit: as a share of it.
    fn freeze(&self, measure: &Measure) -> Option<(f64, &'static str, f64, f64)> {
        let days = measure.runway.as_seconds_f64() / 86_400.0;
        let ahead = measure.transactions.map_or(0.0, |rate| rate * days);
        let ages = [
            ("transaction ID", self.xid, self.xid_limit, ahead),
            ("multixact", self.multixact, self.multixact_limit, 0.0),
        ];
        // What was frozen lately is not frozen again, however fast transactions come.
        let near = ages.into_iter().filter(|(_, age, limit, ahead)| {
            *limit > 0.0 && (*age >= 0.9 * limit || (*age >= 0.5 * limit && age + ahead >= *limit))
        });
        near.map(|(what, age, limit, _)| (age / limit, what, age, limit)).max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Why its statistics are to be refreshed, and how urgent it is.
    pub fn analyze(&self, share: f64, all: bool, now: DateTime<Utc>) -> Option<(f64, String)> {
        /// Nobody counts what changed in the partitions of a table.
        const PARENTS: TimeDelta = TimeDelta::days(7);
        if self.partitioned {
            let age = self.analyzed.map(|at| now - at);
            let reason = age.map_or_else(
                || "never analyzed as a whole".to_owned(),
                |age| format!("last analyzed as a whole {} ago", human::span(age)),
            );
            let due = all || age.is_none_or(|age| age > PARENTS);
            return due.then(|| (share, format!("partitioned table, {reason}")));
        }
        if !self.has_statistics && self.bytes > 0 {
            return Some((f64::MAX, "it was never analyzed".into()));
        }
        let reason = || format!("changes are {:.0} % of its threshold", 100.0 * self.modified_share);
        (self.modified_share >= share || all).then(|| (self.modified_share, reason()))
    }

    /// Its size.
    pub const fn size(&self) -> u64 {
        self.bytes.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableActivity {
        TableActivity {
            rows: 1000.0,
            bytes: 8192,
            allowed: true,
            has_statistics: true,
            xid_limit: 200e6,
            multixact_limit: 400e6,
            ..TableActivity::default()
        }
    }

    #[test]
    fn vacuum_by_need_and_freezing_ahead_of_the_server() {
        let measure = Measure { share: 0.5, runway: TimeDelta::days(14), transactions: Some(5e6), all: false };
        assert_eq!(table().vacuum(&measure), None);
        let dead = TableActivity { dead: 300.0, dead_share: 1.2, ..table() }.vacuum(&measure).unwrap();
        assert!(dead.dead && !dead.freeze && dead.reason.contains("300 dead rows, 120 %"), "{dead:?}");
        assert_eq!(TableActivity { dead_share: 0.49, ..table() }.vacuum(&measure), None);
        // 14 days of 5 million transactions are 70 million.
        let ahead = TableActivity { xid: 131e6, ..table() }.vacuum(&measure).unwrap();
        assert!(ahead.freeze && ahead.score > dead.score, "{ahead:?}");
        assert_eq!(TableActivity { xid: 129e6, ..table() }.vacuum(&measure), None);
        let unknown = Measure { transactions: None, ..measure };
        assert_eq!(TableActivity { xid: 131e6, ..table() }.vacuum(&unknown), None);
        assert!(TableActivity { xid: 181e6, ..table() }.vacuum(&unknown).unwrap().freeze);
        let fresh = TableActivity { has_statistics: false, ..table() };
        assert_eq!(fresh.vacuum(&measure).unwrap().reason, "it was never analyzed");
        assert_eq!(TableActivity { bytes: 0, ..fresh }.vacuum(&measure), None);
        let busy = Measure { transactions: Some(50e6), ..measure };
        assert_eq!(TableActivity { xid: 90e6, ..table() }.vacuum(&busy), None, "frozen lately");
        let toast = TableActivity { dead: 9.0, toast_share: 2.0, ..table() }.vacuum(&measure).unwrap();
        assert!(toast.reason.contains("most in TOAST"), "{toast:?}");
        assert!(table().vacuum(&Measure { all: true, ..measure }).is_some());
        assert!(TableActivity { partitioned: true, ..table() }.vacuum(&Measure { all: true, ..measure }).is_none());
    }

    #[test]
    fn partitioned_tables_are_analyzed_once_a_week() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(100);
        let parent = |days| TableActivity { partitioned: true, analyzed: Some(now - TimeDelta::days(days)), ..table() };
        assert!(parent(6).analyze(0.5, false, now).is_none());
        assert!(parent(8).analyze(0.5, false, now).is_some());
        assert!(TableActivity { modified_share: 0.6, ..table() }.analyze(0.5, false, now).is_some());
        assert!(table().analyze(0.5, false, now).is_none());
    }
}
