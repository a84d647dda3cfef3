//! The schema `dba_ops`: made and brought up to date, looked at, and made anew where something was taken out of it.
//!
//! Invariant: nothing is written into a schema that lacks a table or column of ours: what is delivered meanwhile would be lost once
//! somebody puts it back from a copy.

use crate::{Error, deliver, operators};
use pgbosun_postgres::{Foreign, Server};
use sqlx::{AssertSqlSafe, Connection, PgConnection, migrate::MigrateError};

/// How a history database stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The schema is not there.
    Absent,
    /// It is of an earlier version of this program.
    Older,
    /// It is whole, with so many operators.
    Whole(i64),
}

/// C39: a connection to the history database, in which `dba_ops` and all in it is ours or a superuser's.
pub(crate) async fn connect(server: &Server) -> Result<PgConnection, Error> {
    let mut connection = server.connect().await?;
    match Foreign::find(&mut connection, "dba_ops", None).await? {
        Some(foreign) => Err(foreign.into()),
        None => Ok(connection),
    }
}

/// Brings the schema `dba_ops` up to date; returns how many migrations it has.
///
/// On a connection of its own: a migration that fails leaves its advisory lock with the connection, and both end here.
/// Operators that scripts kept in tables of the same names are taken over: those tables stay, as `operators_of_scripts` and
/// `operator_groups_of_scripts`.
///
/// # Errors
/// Where the server is out of reach, the role may not create the schema, or the schema is newer than this program or lacks something.
pub async fn migrate(server: &Server) -> Result<usize, Error> {
    let mut connection = connect(server).await?;
    alone(&mut connection).await?;
    migrate_by(&mut connection).await?;
    let _ = connection.close().await;
    Ok(migrator().iter().count())
}

/// One at a time changes the schema, and what is done around the migrations is within: they themselves have a lock of sqlx's. Given
/// free with the connection.
async fn alone(connection: &mut PgConnection) -> Result<(), Error> {
    // "pgbosun", as a number.
    let lock = sqlx::query("select pg_catalog.pg_advisory_lock(31629446281622894)");
    lock.execute(connection).await.map(drop).map_err(Error::dba_ops("wait for others that change dba_ops"))
}

async fn migrate_by(connection: &mut PgConnection) -> Result<(), Error> {
    let state = inspect(connection).await?;
    let done: Result<(), Error> = async {
        let failed = Error::dba_ops("take over the existing operators");
        sqlx::raw_sql(include_str!("takeover/before.sql")).execute(&mut *connection).await.map_err(&failed)?;
        migrator().run_direct(None, &mut *connection, false).await.map_err(refused)?;
        sqlx::raw_sql(include_str!("takeover/after.sql")).execute(&mut *connection).await.map_err(&failed)?;
        Ok(())
    }
    .await;
    if done.is_err() {
        let undone = sqlx::raw_sql(include_str!("takeover/undo.sql")).execute(&mut *connection).await;
        if let Err(error) = undone {
            tracing::warn!("the operators of the scripts remain in dba_ops.operators_to_take_over: {error}");
        }
    }
    done?;
    // Where it was there already, that was seen.
    if matches!(state, SchemaState::Whole(_)) { Ok(()) } else { whole(connection).await }
}

/// Makes the schema anew beside what is left of it, which keeps its rows under the name that is returned. Groups and operators are
/// taken over; the rest comes from the journals of the daemons that deliver into it.
///
/// # Errors
/// Where it lacks nothing or is of another version, the server is out of reach, or the role may not rename it.
pub async fn rebuild(server: &Server) -> Result<String, Error> {
    let mut connection = connect(server).await?;
    alone(&mut connection).await?;
    match inspect(&mut connection).await {
        Err(Error::Lacking(_)) => {}
        Ok(_) => return Err(Error::NothingLacks),
        Err(error) => return Err(error),
    }
    let failed = Error::dba_ops("set the schema dba_ops aside");
    let mut transaction = connection.begin().await.map_err(&failed)?;
    // The tables of operators are laid where those of scripts would lie: the migrations take them over.
    sqlx::raw_sql(include_str!("takeover/aside.sql")).execute(&mut *transaction).await.map_err(&failed)?;
    let aside = sqlx::query_scalar("select pg_catalog.current_setting('pgbosun.aside')");
    let aside: String = aside.fetch_one(&mut *transaction).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    migrate_by(&mut connection).await?;
    let _ = connection.close().await;
    Ok(aside)
}

/// How the schema stands, without changing anything.
pub(crate) async fn state(server: &Server) -> Result<SchemaState, Error> {
    let mut connection = connect(server).await?;
    let state = inspect(&mut connection).await;
    let _ = connection.close().await;
    state
}

async fn inspect(connection: &mut PgConnection) -> Result<SchemaState, Error> {
    let failed = Error::dba_ops("inspect dba_ops");
    let (writes, there, begun): (bool, bool, bool) = sqlx::query_as(
        "select not pg_catalog.pg_is_in_recovery(), pg_catalog.to_regclass('dba_ops._sqlx_migrations') is not null,
             pg_catalog.to_regclass('dba_ops.instances') is not null",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(&failed)?;
    match (writes, there, begun) {
        (false, ..) => return Err(Error::TakesNoWrites),
        // Without it nobody knows what the other tables are.
        (_, false, true) => return Err(Error::Lacking("table dba_ops._sqlx_migrations".to_owned())),
        (_, false, false) => return Ok(SchemaState::Absent),
        _ => {}
    }
    let version = sqlx::query_scalar("select pg_catalog.max(version) from dba_ops._sqlx_migrations");
    let version: Option<i64> = version.fetch_one(&mut *connection).await.map_err(&failed)?;
    let ours = migrator().iter().map(|migration| migration.version).max();
    match version.cmp(&ours) {
        std::cmp::Ordering::Less => return Ok(SchemaState::Older),
        std::cmp::Ordering::Greater => return Err(Error::Newer(version.unwrap_or_default())),
        std::cmp::Ordering::Equal => whole(connection).await?,
    }
    let operators = sqlx::query_scalar("select pg_catalog.count(*) from dba_ops.operators");
    Ok(SchemaState::Whole(operators.fetch_one(connection).await.map_err(&failed)?))
}

fn migrator() -> sqlx::migrate::Migrator {
    let mut migrator = sqlx::migrate!("../../migrations/dba_ops");
    migrator.create_schema("dba_ops");
    migrator.dangerous_set_table_name("dba_ops._sqlx_migrations");
    migrator
}

fn refused(error: MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::Newer(version),
        error => error.into(),
    }
}

/// Sees whether the server takes every statement that reads or writes there, which it does where every table and column is there.
async fn whole(connection: &mut PgConnection) -> Result<(), Error> {
    // A schema, table, column, function, the key of an ON CONFLICT, or a column's type.
    const GONE: [&str; 6] = ["3F000", "42P01", "42703", "42883", "42P10", "42804"];
    let mut lacking = Vec::new();
    for statement in deliver::statements().chain(operators::STATEMENTS) {
        // Not by sqlx's own prepare, which remembers what it has prepared before; planned, which asks for the keys too, and not executed.
        let nulls = (1..=9).take_while(|number| statement.contains(&format!("${number}"))).map(|_| "null");
        let nulls = nulls.collect::<Vec<_>>().join(", ");
        let arguments = if nulls.is_empty() { String::new() } else { format!("({nulls})") };
        let prepared = format!(
            "prepare pgbosun_whole as {statement}; explain /* pgbosun */ execute pgbosun_whole{arguments}; deallocate pgbosun_whole"
        );
        match sqlx::raw_sql(AssertSqlSafe(prepared)).execute(&mut *connection).await {
            Ok(_) => {}
            Err(sqlx::Error::Database(refusal)) if refusal.code().is_some_and(|code| GONE.contains(&&*code)) => {
                lacking.push(refusal.message().to_owned());
                // Where the plan failed, and not the words.
                let _ = sqlx::raw_sql("deallocate pgbosun_whole").execute(&mut *connection).await;
            }
            Err(error) => return Err(Error::dba_ops("inspect dba_ops")(error)),
        }
    }
    lacking.dedup();
    if lacking.is_empty() { Ok(()) } else { Err(Error::Lacking(lacking.join("; "))) }
}
