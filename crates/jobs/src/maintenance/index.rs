//! Indexes, and which of them are bloated: a pure function of the estimate, the baseline and, where pgstattuple is installed,
//! what it measures.
//!
//! Invariant: an index that was built anew by us is judged by what it took then, so that a wrong estimate does not have it
//! built anew week after week.

use super::session::MaintenanceSession;
use crate::JobError;
use pgbosun_core::human;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

/// An index as the server knows it.
#[derive(Clone, Debug, Default, FromRow)]
pub(super) struct Index {
    pub oid: i64,
    /// The table it belongs to.
    pub table: i64,
    /// With its schema, as SQL names it.
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    pub name: String,
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    pub table_name: String,
    /// The table whose TOAST it belongs to.
    #[sqlx(try_from = "pgbosun_postgres::MaybeLossy")]
    pub toast_of: Option<String>,
    /// Whether it is one of a catalogue's.
    pub system: bool,
    /// Whether it is the same in every database.
    pub shared: bool,
    pub btree: bool,
    pub valid: bool,
    /// Whether it holds a constraint that REINDEX CONCURRENTLY cannot keep meanwhile.
    pub exclusion: bool,
    /// Whether the role may build it anew.
    pub allowed: bool,
    /// Of its table, without indexes and TOAST.
    pub table_bytes: i64,
    pub bytes: i64,
    pub rows: f64,
    pub fillfactor: f64,
    pub tablespace: i64,
    /// Whether the role may not see the statistics of its table.
    pub unseen: bool,
    /// What it would take if it were built anew, where statistics tell.
    pub estimate: Option<f64>,
}

/// What an index took for each row at its best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RebuiltSize {
    /// Bytes for each row.
    pub bytes_per_row: f64,
    /// Whether that was right after it was built anew.
    pub rebuilt: bool,
}

/// What pgstattuple measures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Density {
    pub leaf_pages: i64,
    pub internal_pages: i64,
    pub empty_pages: i64,
    pub deleted_pages: i64,
    /// How full leaves are, percent; NaN where there are none.
    pub avg_leaf_density: f64,
}

impl Density {
    /// The query that measures an index, with pgstattuple in this schema.
    pub fn query(schema: &str, oid: i64) -> String {
        format!(
            "select pg_catalog.concat_ws(' ', leaf_pages, internal_pages, empty_pages, deleted_pages, avg_leaf_density) \
             from {schema}.pgstatindex({oid}::oid::regclass)"
        )
    }

    /// Its answer.
    pub fn read(answer: &str) -> Option<Self> {
        let figures: Vec<f64> = answer.split(' ').filter_map(|figure| figure.parse().ok()).collect();
        let [leaf, internal, empty, deleted, avg_leaf_density] = figures.try_into().ok()?;
        let pages = |figure: f64| figure as i64;
        Some(Self {
            leaf_pages: pages(leaf),
            internal_pages: pages(internal),
            empty_pages: pages(empty),
            deleted_pages: pages(deleted),
            avg_leaf_density,
        })
    }
}

/// How much of an index is waste.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bloat {
    pub bytes: f64,
    /// Of its size.
    pub share: f64,
    /// How that is known.
    pub source: &'static str,
}

impl Bloat {
    fn of(size: f64, needed: f64, source: &'static str) -> Self {
        let bytes = (size - needed).max(0.0);
        Self { bytes, share: if size > 0.0 { bytes / size } else { 0.0 }, source }
    }

    /// `41 % bloat, 120 MiB (estimated)`.
    pub fn told(&self) -> String {
        format!("{:.0} % bloat, {} ({})", 100.0 * self.share, human::size(self.bytes as u64), self.source)
    }
}

/// The indexes of a database of at least this size.
pub(super) async fn indexes(session: &mut MaintenanceSession, minimum: u64) -> Result<Vec<Index>, JobError> {
    let minimum = i64::try_from(minimum).unwrap_or(i64::MAX);
    session.rows_of("list the indexes", include_str!("indexes.sql"), minimum).await
}

impl Index {
    /// What it takes for each row.
    pub fn bytes_per_row(&self) -> Option<f64> {
        (self.rows >= 1.0).then(|| self.bytes as f64 / self.rows)
    }

    /// How bloated it is, as far as is known without reading it.
    pub fn bloat(&self, baseline: Option<RebuiltSize>) -> Option<Bloat> {
        let size = self.bytes as f64;
        let grown = |baseline: RebuiltSize, source| Bloat::of(size, baseline.bytes_per_row * self.rows, source);
        match (baseline.filter(|_| self.rows >= 1.0), self.estimate) {
            (Some(baseline), _) if baseline.rebuilt => Some(grown(baseline, "since it was rebuilt")),
            (Some(baseline), None) => Some(grown(baseline, "compared with its best")),
            (Some(baseline), Some(estimate)) => {
                let (seen, estimated) =
                    (grown(baseline, "compared with its best"), Bloat::of(size, estimate, "estimated"));
                Some(if seen.share > estimated.share { seen } else { estimated })
            }
            (None, Some(estimate)) => Some(Bloat::of(size, estimate, "estimated")),
            (None, None) => None,
        }
    }

    /// The same as measured.
    pub fn measured(&self, density: &Density) -> Bloat {
        let pages = density.leaf_pages + density.internal_pages + density.empty_pages + density.deleted_pages + 1;
        let full = if density.avg_leaf_density.is_finite() { density.avg_leaf_density / 100.0 } else { 0.0 };
        let needed =
            density.leaf_pages as f64 * (full / self.fillfactor).min(1.0) + density.internal_pages as f64 + 1.0;
        let size = self.bytes as f64;
        Bloat::of(size, size * needed / pages as f64, "measured by pgstattuple")
    }

    /// Bytes read and written to build it: its table is read twice.
    pub fn work(&self) -> f64 {
        self.bytes as f64 + 2.0 * self.table_bytes as f64
    }

    /// What is known of it from now on: the best it was seen at, or how it was built.
    pub fn baseline(&self, before: Option<RebuiltSize>) -> Option<RebuiltSize> {
        let now = self.bytes_per_row()?;
        match before {
            Some(known) if known.bytes_per_row <= now => Some(known),
            _ => Some(RebuiltSize { bytes_per_row: now, rebuilt: before.is_some_and(|known| known.rebuilt) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn index(bytes: i64, rows: f64, estimate: Option<f64>) -> Index {
        Index { bytes, rows, estimate, fillfactor: 0.9, btree: true, valid: true, ..Index::default() }
    }

    #[test]
    fn estimate_baseline_and_measurement() {
        let bloated = index(100 * MIB, 1e6, Some(40.0 * MIB as f64));
        assert_eq!(bloated.bloat(None).unwrap().told(), "60 % bloat, 60.0 MiB (estimated)");
        // It was built anew and was no smaller: the estimate is wrong, and it stays as it is.
        let rebuilt = RebuiltSize { bytes_per_row: 100.0 * MIB as f64 / 1e6, rebuilt: true };
        assert_eq!(bloated.bloat(Some(rebuilt)).unwrap().share, 0.0);
        // Without an estimate only what it was before tells.
        let gin = index(100 * MIB, 1e6, None);
        assert_eq!(gin.bloat(None), None);
        let best = RebuiltSize { bytes_per_row: 25.0 * MIB as f64 / 1e6, rebuilt: false };
        assert_eq!(gin.bloat(Some(best)).unwrap().told(), "75 % bloat, 75.0 MiB (compared with its best)");
        let dense = Density {
            leaf_pages: 12_700,
            internal_pages: 50,
            empty_pages: 0,
            deleted_pages: 50,
            avg_leaf_density: 89.0,
        };
        assert!(bloated.measured(&dense).share < 0.05, "{:?}", bloated.measured(&dense));
        let read = Density::read("12700 50 0 50 89").unwrap();
        assert_eq!((read.leaf_pages, read.deleted_pages), (12_700, 50));
        assert!(Density::read("0 0 0 0 NaN").is_some_and(|density| density.avg_leaf_density.is_nan()));
        let loose = Density { avg_leaf_density: 45.0, ..dense };
        assert!((bloated.measured(&loose).share - 0.5).abs() < 0.03);
    }

    #[test]
    fn the_best_is_remembered() {
        let first = index(100, 10.0, None).baseline(None).unwrap();
        assert_eq!(first, RebuiltSize { bytes_per_row: 10.0, rebuilt: false });
        assert_eq!(index(200, 10.0, None).baseline(Some(first)).unwrap(), first);
        assert_eq!(index(50, 10.0, None).baseline(Some(first)).unwrap().bytes_per_row, 5.0);
        assert_eq!(index(50, 0.0, None).baseline(Some(first)), None);
    }
}
