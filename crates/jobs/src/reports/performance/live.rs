//! What the server says of itself at the moment of the report.

use crate::{JobError, monitors::Query, reports::overview::ServerOverview};
use chrono_tz::Tz;
use pgbosun_core::{
    human,
    report::{KeyFigure, ReportSection, ReportTable},
};
use pgbosun_postgres::{Database, Error, Server};
use sqlx::{Connection, FromRow, PgConnection};

/// Tables shown.
const SHOWN: usize = 10;

/// What the server says, or why it does not.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Why nothing is known.
    pub silent: Option<String>,
    pub about: Option<ServerOverview>,
    bloat: Vec<(String, Bloat)>,
    /// Tables whose statistics the role may not read.
    unseen: i64,
    /// Whether statements are counted in some database.
    pub statements: bool,
}

#[derive(Clone, Debug, FromRow)]
struct Bloat {
    #[sqlx(try_from = "pgbosun_postgres::Lossy")]
    name: String,
    bytes: f64,
    wasted: f64,
    unseen: i64,
}

const BLOAT: Query = Query {
    what: "estimate bloat",
    sql: concat!(
        include_str!("../../monitors/health/bloat_estimate.sql"),
        include_str!("../../monitors/health/bloat.sql")
    ),
};

/// Asks.
pub(super) async fn ask(server: &Server) -> Live {
    let mut live = Live::default();
    if let Err(error) = fill(server, &mut live).await {
        live.silent = Some(human::chain(&error));
    }
    live
}

async fn fill(server: &Server, live: &mut Live) -> Result<(), JobError> {
    let mut connection = server.connect().await?;
    live.about = Some(ServerOverview::read(&mut connection).await?);
    let databases = rows(&mut connection, "list the databases", pgbosun_postgres::DATABASES).await?;
    let _ = connection.close().await;
    for Database { name, .. } in Database::at_work(databases) {
        let mut target = server.clone();
        target.conninfo = target.conninfo.with_database(&name);
        let Ok(mut connection) = target.connect().await else { continue };
        let found: Vec<Bloat> = rows(&mut connection, BLOAT.what, BLOAT.sql).await.unwrap_or_default();
        live.unseen += found.first().map_or(0, |row| row.unseen);
        // There is one row at least, which may tell of no table.
        let told = found.into_iter().filter(|bloat| !bloat.name.is_empty());
        live.bloat.extend(told.map(|bloat| (name.clone(), bloat)));
        let asked = "select 1 from pg_catalog.pg_extension where extname = 'pg_stat_statements'";
        let there: Vec<(i32,)> = rows(&mut connection, "look for pg_stat_statements", asked).await.unwrap_or_default();
        live.statements |= !there.is_empty();
        let _ = connection.close().await;
    }
    live.bloat.sort_by(|a, b| b.1.wasted.total_cmp(&a.1.wasted));
    Ok(())
}

async fn rows<T>(connection: &mut PgConnection, what: &str, sql: &'static str) -> Result<Vec<T>, JobError>
where
    T: for<'r> FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    let rows = sqlx::query_as(sql).fetch_all(connection).await;
    Ok(rows.map_err(|source| Error::Query { what: what.into(), source })?)
}

impl Live {
    /// Uptime and version.
    pub fn section(&self, zone: Tz) -> ReportSection {
        let mut section = ReportSection::new("Server");
        let Some(about) = &self.about else {
            let reason = self.silent.as_deref().unwrap_or("no answer");
            section.note = Some(format!("The server could not be queried: {reason}."));
            return section;
        };
        let mut figure = |label: &str, value: String| section.figures.push(KeyFigure::new(label, value));
        figure("version", about.version.clone());
        figure("role", about.role().into());
        figure("up since", about.up(zone));
        figure("databases", format!("{}, {}", about.databases, about.size()));
        section
    }

    /// Tables that take more room than they need.
    pub fn bloat(&self) -> ReportSection {
        let mut section = ReportSection::new("Table bloat");
        let unseen = match self.unseen {
            0 => None,
            unseen => {
                Some(format!("{} not visible to this role: grant pg_read_all_data.", human::count(unseen, "table")))
            }
        };
        if self.bloat.is_empty() {
            section.note = Some(match (&self.silent, unseen) {
                (Some(reason), _) => format!("The server could not be queried: {reason}."),
                (None, Some(unseen)) => format!("No table is known to be bloated; {unseen}"),
                (None, None) => "No table of more than 8 MB is estimated to be more than 30 % waste.".into(),
            });
            return section;
        }
        section.note = unseen;
        let most = self.bloat[0].1.wasted.max(1.0);
        let title = "Estimated from statistics: space that rewriting the table would save";
        let mut table = ReportTable::new(title, &["table", "size", "waste", "share"]);
        for (database, bloat) in self.bloat.iter().take(SHOWN) {
            let cells = [
                format!("{database}: {}", bloat.name),
                human::size(bloat.bytes as u64),
                human::size(bloat.wasted as u64),
                format!("{:.0} %", 100.0 * bloat.wasted / bloat.bytes.max(1.0)),
            ];
            table.row(cells, Some(bloat.wasted / most));
        }
        section.tables.push(table);
        section
    }
}
