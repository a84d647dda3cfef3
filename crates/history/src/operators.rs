//! Operators: edited in `dba_ops`, cached in the journal for when that database is down.

use crate::{Actor, Delivery, Error, Journal};
use pgbosun_postgres::{Server, conninfo::Host};
use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions, Connection, Postgres, SqliteExecutor,
    postgres::{PgArguments, PgListener, PgPoolOptions},
    sqlite::SqliteConnectOptions,
};
use std::{collections::BTreeMap, path::Path};
use tokio::time::timeout;

/// The channel on which the trigger of `dba_ops` tells.
const CHANNEL: &str = "pgbosun_operators";

const OPERATORS: &str = "select o.group_name, o.email, o.name, coalesce(o.active and g.active, true) as active
     from dba_ops.operators o join dba_ops.operator_groups g using (group_name)
     order by o.group_name, o.email";
const GROUPS: &str =
    "select group_name, description, coalesce(active, true) as active from dba_ops.operator_groups order by 1";
/// With the schema as it should be the server takes each of them.
pub(crate) const STATEMENTS: [&str; 2] = [OPERATORS, GROUPS];

/// Who is told about a group's alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Operator {
    /// Group.
    pub group_name: String,
    /// Address.
    pub email: String,
    /// Person.
    pub name: Option<String>,
    /// Whether they are told at present.
    pub active: bool,
}

/// A group in `dba_ops`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct OperatorGroup {
    /// Name.
    pub group_name: String,
    /// What it cares for.
    pub description: Option<String>,
    /// Whether anybody of it is told.
    pub active: bool,
}

/// Who is told, as `dba_ops` has it: active addresses by group, whose name may be in capitals there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operators(BTreeMap<String, Vec<String>>);

impl Operators {
    /// A group that is switched off has nobody, whoever is in it.
    pub fn new(operators: &[Operator], groups: &[OperatorGroup]) -> Self {
        let mut told = Self::default();
        for group in groups.iter().filter(|group| !group.active) {
            told.add(&group.group_name, None);
        }
        for operator in operators {
            told.add(&operator.group_name, operator.active.then_some(operator.email.as_str()));
        }
        told
    }

    /// Who of a group is told, which may be nobody; `None` where no operator was ever named for it.
    pub fn of(&self, group: &str) -> Option<&[String]> {
        self.0.get(&group.to_lowercase()).map(Vec::as_slice)
    }

    fn add(&mut self, group: &str, email: Option<&str>) {
        let told = self.0.entry(group.to_lowercase()).or_default();
        if let Some(email) = email.filter(|email| !told.iter().any(|known| known.eq_ignore_ascii_case(email))) {
            told.push(email.to_owned());
        }
    }

    /// The groups of which nobody is told.
    fn silent(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, told)| told.is_empty()).map(|(group, _)| group.as_str()).collect()
    }
}

/// The operators that a journal holds; the setting names the groups of which nobody is told.
async fn cached(executor: impl SqliteExecutor<'_>) -> Result<Option<Operators>, Error> {
    let rows: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "select s.value, o.group_name, o.email from settings s left join operator_cache o on true
         where s.name = 'operators-cached' order by 2, 3",
    )
    .fetch_all(executor)
    .await
    .map_err(Error::journal("read the operators"))?;
    let Some((silent, ..)) = rows.first() else { return Ok(None) };
    let mut operators = Operators::default();
    // An earlier version wrote no list.
    for group in serde_json::from_str::<Vec<String>>(silent).unwrap_or_default() {
        operators.add(&group, None);
    }
    for (_, group, email) in &rows {
        if let Some(group) = group {
            operators.add(group, email.as_deref());
        }
    }
    Ok(Some(operators))
}

/// The operators as a daemon of this state directory last read them, beside it; `None` where none ever did.
///
/// # Errors
/// [`Error::Open`] where there is no journal to read, and [`Error::Journal`].
pub async fn operators_beside(directory: &Path) -> Result<Option<Operators>, Error> {
    let path = directory.join("journal.sqlite");
    let options = SqliteConnectOptions::new().filename(&path).read_only(true).disable_statement_logging();
    let opened = options.connect().await;
    let mut connection = opened.map_err(|error| Error::Open { path, source: error.into() })?;
    let operators = cached(&mut connection).await;
    // What was read is read.
    let _ = connection.close().await;
    operators
}

impl Journal {
    /// The operators as last read from `dba_ops`; `None` where that never happened.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn cached_operators(&self) -> Result<Option<Operators>, Error> {
        cached(&self.readers).await
    }

    /// Keeps the operators as read from `dba_ops`.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn cache_operators(&self, operators: Vec<Operator>, groups: &[OperatorGroup]) -> Result<(), Error> {
        let silent = serde_json::json!(Operators::new(&operators, groups).silent()).to_string();
        self.write(move |connection| {
            Box::pin(async move {
                let failed = Error::journal("keep the operators");
                sqlx::query("delete from operator_cache").execute(&mut *connection).await.map_err(&failed)?;
                for operator in operators.iter().filter(|operator| operator.active) {
                    sqlx::query("insert or ignore into operator_cache (group_name, email, name) values (?, ?, ?)")
                        .bind(&operator.group_name)
                        .bind(&operator.email)
                        .bind(&operator.name)
                        .execute(&mut *connection)
                        .await
                        .map_err(&failed)?;
                }
                sqlx::query("insert or replace into settings (name, value) values ('operators-cached', ?)")
                    .bind(silent)
                    .execute(connection)
                    .await
                    .map(drop)
                    .map_err(failed)
            })
        })
        .await
    }
}

impl Delivery {
    /// Every operator; one is active only where the group is too.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses.
    pub async fn operators(&mut self) -> Result<Vec<Operator>, Error> {
        let read = sqlx::query_as(OPERATORS).fetch_all(self.connection().await?).await;
        read.map_err(Error::dba_ops("read the operators"))
    }

    /// Every group.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses.
    pub async fn operator_groups(&mut self) -> Result<Vec<OperatorGroup>, Error> {
        let read = sqlx::query_as(GROUPS).fetch_all(self.connection().await?).await;
        read.map_err(Error::dba_ops("read the operator groups"))
    }

    /// Adds an operator, or makes one active again; false where the group does not exist. Who does it is written down.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses.
    pub async fn add_operator(
        &mut self,
        actor: &Actor,
        group: &str,
        email: &str,
        name: Option<&str>,
    ) -> Result<bool, Error> {
        let query = sqlx::query(
            "insert into dba_ops.operators (group_name, email, name)
             (select group_name, $2, $3 from dba_ops.operator_groups where lower(group_name) = lower($1)
              order by group_name = $1 desc limit 1)
             on conflict (group_name, lower(email)) do update
             set active = true, name = coalesce(excluded.name, operators.name)",
        );
        self.change(actor, "add an operator", query.bind(group).bind(email).bind(name)).await
    }

    /// Removes an operator from a group; false where there was none.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses.
    pub async fn remove_operator(&mut self, actor: &Actor, group: &str, email: &str) -> Result<bool, Error> {
        let query = sqlx::query(
            "delete from dba_ops.operators where lower(group_name) = lower($1) and lower(email) = lower($2)",
        );
        self.change(actor, "remove an operator", query.bind(group).bind(email)).await
    }

    /// Adds a group; false where it exists.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach or refuses.
    pub async fn add_operator_group(
        &mut self,
        actor: &Actor,
        group: &str,
        description: Option<&str>,
    ) -> Result<bool, Error> {
        let query = sqlx::query(
            "insert into dba_ops.operator_groups (group_name, description)
             select $1, $2 where not exists (select from dba_ops.operator_groups where lower(group_name) = lower($1))
             on conflict do nothing",
        );
        self.change(actor, "add an operator group", query.bind(group).bind(description)).await
    }

    /// Changes a row in the name of a person, whom the trigger on the table writes down; whether there was one.
    async fn change(
        &mut self,
        actor: &Actor,
        what: &'static str,
        query: sqlx::query::Query<'_, Postgres, PgArguments>,
    ) -> Result<bool, Error> {
        let failed = Error::dba_ops(what);
        let mut transaction = self.connection().await?.begin().await.map_err(&failed)?;
        sqlx::query("select pg_catalog.set_config('pgbosun.actor', $1, true), pg_catalog.set_config('pgbosun.origin', $2, true)")
            .bind(&actor.name)
            .bind(&actor.origin)
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let done = query.execute(&mut *transaction).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(done.rows_affected() > 0)
    }
}

/// Hears of changes of operators and groups, however they are made.
pub struct OperatorNews(PgListener);

impl OperatorNews {
    /// Listens on a connection of its own.
    ///
    /// # Errors
    /// Where `dba_ops` is out of reach.
    pub async fn listen(server: &Server) -> Result<Self, Error> {
        let mut last = Error::Closed;
        for host in &server.conninfo.hosts {
            match timeout(server.connect_timeout, Self::listen_at(server, host)).await {
                Ok(Ok(news)) => return Ok(news),
                Ok(Err(error)) => last = error,
                Err(_) => last = pgbosun_postgres::Error::slow_to_connect(host, server.connect_timeout).into(),
            }
        }
        Err(last)
    }

    async fn listen_at(server: &Server, host: &Host) -> Result<Self, Error> {
        let failed = Error::dba_ops("listen for changes of operators");
        let (options, mark) = server.options(host).await?;
        let place = (server.clone(), host.clone(), mark);
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(server.connect_timeout).after_connect(
            move |connection, _| {
                let (server, host, mark) = place.clone();
                Box::pin(async move {
                    server
                        .settle(&host, mark, connection)
                        .await
                        .map_err(|error| sqlx::Error::Configuration(error.into()))
                })
            },
        );
        let pool = pool.connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&pool).await.map_err(&failed)?;
        // A connection that is lost is ours to make anew.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.map_err(&failed)?;
        Ok(Self(listener))
    }

    /// Returns when something changed.
    ///
    /// # Errors
    /// Where the connection is lost; what was said since then is missed.
    pub async fn wait(&mut self) -> Result<(), Error> {
        let heard = self.0.try_recv().await.map_err(Error::dba_ops("listen for changes of operators"))?;
        heard.map(drop).ok_or(Error::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_group_that_is_switched_off_or_has_nobody_active_is_told_to_nobody() {
        let operator = |group: &str, email: &str, active| Operator {
            group_name: group.into(),
            email: email.into(),
            name: None,
            active,
        };
        let group = |name: &str, active| OperatorGroup { group_name: name.into(), description: None, active };
        let operators = vec![
            operator("Database", "anna@example.com", true),
            operator("database", "Anna@example.com", true),
            operator("security", "away@example.com", false),
        ];
        let groups = [("Database", true), ("database", true), ("security", true), ("system", false), ("new", true)];
        let groups = groups.map(|(name, active)| group(name, active));
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::open(directory.path()).await.unwrap();
        assert_eq!(journal.cached_operators().await.unwrap(), None);
        journal.cache_operators(operators.clone(), &groups).await.unwrap();
        let cached = journal.cached_operators().await.unwrap().unwrap();
        let beside = operators_beside(directory.path()).await.unwrap().unwrap();
        for told in [Operators::new(&operators, &groups), cached, beside] {
            let of = |group: &str| told.of(group).map(<[String]>::len);
            let counts = ["database", "security", "System", "new"].map(of);
            assert_eq!(counts, [Some(1), Some(0), Some(0), None], "{told:?}");
        }
        // What an earlier version kept.
        journal.set_setting("operators-cached", Some("yes")).await.unwrap();
        let cached = journal.cached_operators().await.unwrap().unwrap();
        assert_eq!((cached.of("DATABASE").map(<[String]>::len), cached.of("system")), (Some(1), None));
    }
}
