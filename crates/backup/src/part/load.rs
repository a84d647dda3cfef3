//! What was dumped goes into a live database, all of it or nothing.
//!
//! Invariants (C36): checks, defaults, generated columns, index expressions and triggers are code of whoever owned the table. They
//! run with that role's rights, or with those of a role that somebody named, in a session that has no others to go back to
//! (`lent`). `pg_restore` loads, not `psql`: what the dump holds is sent to the server, and is never a command to this machine
//! (CVE-2025-8714, CVE-2025-8715), whatever version wrote it.

use super::{DumpWhat, Part, lent::LentRole, owners, quoted, run, tables};
use crate::Error;
use pgbosun_postgres::Server;
use sqlx::Connection;
use std::{collections::BTreeSet, path::Path};
use tokio_util::sync::CancellationToken;

/// A database of a live server, and who loads.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub server: Server,
    /// The database.
    pub database: String,
    /// Who; by default the role that owns what was dumped.
    pub role: Option<String>,
}

/// Who loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedAs {
    /// The role.
    pub role: String,
    /// It is a superuser, so the code that ran may do everything.
    pub superuser: bool,
}

/// How the session that loads gets the rights of a role.
struct Login {
    server: Server,
    /// It has to take the role.
    takes_role: bool,
    lent: Option<LentRole>,
}

impl Load {
    /// Tries what can be tried before anything is recovered, which may take hours.
    ///
    /// # Errors
    /// What will not do, and what would.
    pub async fn rehearse(&self, what: &DumpWhat) -> Result<(), Error> {
        let server = self.primary().await?;
        self.check_database(&server).await?;
        let owners = owners_now(&server, what).await;
        if owners.len() > 1 {
            loader(self.role.as_deref(), &owners)?;
        }
        if let Some(role) = &self.role {
            self.login(&server, role).await?.end(&self.database, role).await;
        } else if superuser(&server, &server.conninfo.user).await? == Some(true) {
            // Whose it is will be known later; another role's rights have to be lent then.
            let lent = LentRole::create(&server, None).await?;
            let entered = lent.session(&self.database).await;
            lent.remove(&self.database, None).await;
            entered?;
        }
        let mut inside = server.clone();
        inside.conninfo = inside.conninfo.with_database(&self.database);
        let mut connection = inside.connect().await?;
        let (schema, table) = match &what.only {
            None => return Ok(()),
            Some(Part::Schema(schema)) => (schema, None),
            Some(Part::Table { schema, table }) => (schema, Some(table)),
        };
        let found = sqlx::query_as(include_str!("place.sql")).bind(schema).bind(table).bind(&self.role);
        let found: (bool, bool, bool) =
            found.fetch_one(&mut connection).await.map_err(Error::query("check the target of the load"))?;
        let _ = connection.close().await;
        let database = &self.database;
        Err(Error::Refused(match (table, found) {
            (Some(table), (_, true, _)) => {
                format!(
                    "{schema}.{table} already exists in database {database}: rename it, or load into another database"
                )
            }
            (Some(_), (false, ..)) => format!("database {database} has no schema {schema}: create it there"),
            (Some(_), (.., false)) => {
                let role = self.role.as_deref().unwrap_or_default();
                format!(
                    "{role} may not create tables in schema {schema} of database {database}: grant create on the schema"
                )
            }
            // Every database has it, and pg_dump knows.
            (None, (true, ..)) if schema != "public" => {
                format!(
                    "schema {schema} already exists in database {database}: rename it, or load into another database"
                )
            }
            _ => return Ok(()),
        }))
    }

    async fn check_database(&self, server: &Server) -> Result<(), Error> {
        let mut connection = server.connect().await?;
        let there = sqlx::query_scalar(
            "select exists (select from pg_catalog.pg_database where datname operator(pg_catalog.=) $1)",
        );
        let there: Result<bool, _> = there.bind(&self.database).fetch_one(&mut connection).await;
        let _ = connection.close().await;
        match there.map_err(Error::query("look up the database"))? {
            true => Ok(()),
            false => {
                Err(Error::Refused(format!("there is no database {} on the server: create it first", self.database)))
            }
        }
    }

    /// Loads an archive of `pg_dump` whose objects belong to `owners`.
    pub(super) async fn run(
        &self,
        programs: &Path,
        archive: &Path,
        owners: &[String],
        cancel: &CancellationToken,
    ) -> Result<LoadedAs, Error> {
        let role = loader(self.role.as_deref(), owners)?;
        let server = self.primary().await?;
        let login = self.login(&server, &role).await?;
        let mut command = login.server.client_program(&programs.join("pg_restore"), &self.database);
        command.args(["--single-transaction", "--exit-on-error", "--dbname", ""]);
        if login.takes_role {
            command.arg("--role").arg(&role);
        }
        let superuser = superuser(&server, &role).await? == Some(true);
        if !superuser {
            command.args(["--no-owner", "--no-publications", "--no-subscriptions"]);
            if owners != [role.clone()] {
                command.arg("--no-privileges");
            }
        }
        let loaded = tokio::select! {
            loaded = run(command.arg(archive), "pg_restore") => loaded,
            () = cancel.cancelled() => Err(Error::Cancelled),
        };
        login.end(&self.database, &role).await;
        let failed = |source: Error| Error::Load {
            database: self.database.clone(),
            role: role.clone(),
            source: Box::new(source),
        };
        loaded.map_err(|error| if matches!(error, Error::Cancelled) { error } else { failed(error) })?;
        Ok(LoadedAs { role, superuser })
    }

    async fn primary(&self) -> Result<Server, Error> {
        Ok(crate::member(&self.server, false).await?.0)
    }

    async fn login(&self, server: &Server, role: &str) -> Result<Login, Error> {
        let Some(superuser) = superuser(server, role).await? else {
            return Err(Error::Refused(format!(
                "the cluster has no role {role}: create it, or name one that is there with --role"
            )));
        };
        let user = &server.conninfo.user;
        if superuser || user == role {
            return Ok(Login { server: server.clone(), takes_role: user != role, lent: None });
        }
        // A role whose password is in the password file needs nothing lent.
        let mut itself = server.clone();
        itself.conninfo = itself.conninfo.with_database(&self.database).as_user(role, None);
        let known = itself.conninfo.hosts.iter().any(|host| itself.conninfo.password_for(host).is_some());
        if known && let Ok(connection) = itself.connect().await {
            let _ = connection.close().await;
            return Ok(Login { server: itself, takes_role: false, lent: None });
        }
        let lent = LentRole::create(server, Some(role)).await?;
        match lent.session(&self.database).await {
            Ok(server) => Ok(Login { server, takes_role: true, lent: Some(lent) }),
            Err(error) => {
                lent.remove(&self.database, Some(role)).await;
                Err(error)
            }
        }
    }
}

impl Login {
    async fn end(self, database: &str, role: &str) {
        if let Some(lent) = self.lent {
            lent.remove(database, Some(role)).await;
        }
    }
}

/// Whose that is now which is to be restored: what belongs to several will hardly have been one's then. Nobody's where it is not
/// there any more, or cannot be checked.
async fn owners_now(server: &Server, what: &DumpWhat) -> Vec<String> {
    let mut source = server.clone();
    source.conninfo = source.conninfo.with_database(&what.database);
    let Ok(mut connection) = source.connect().await else { return Vec::new() };
    let found = match &what.only {
        None => owners(&mut connection, None).await,
        Some(Part::Schema(schema)) => owners(&mut connection, Some(schema)).await,
        Some(Part::Table { schema, table }) => {
            let found = tables(&mut connection, &format!("{}.{}", quoted(schema), quoted(table))).await;
            found.map(|found| found.into_iter().map(|table| table.owner).collect())
        }
    };
    let _ = connection.close().await;
    let found: BTreeSet<_> = found.unwrap_or_default().into_iter().collect();
    found.into_iter().collect()
}

/// Who loads: the one that was named, else whose it all is.
fn loader(named: Option<&str>, owners: &[String]) -> Result<String, Error> {
    match (named, owners) {
        (Some(role), _) => Ok(role.to_owned()),
        (None, [owner]) => Ok(owner.clone()),
        (None, owners) => Err(Error::Refused(format!(
            "the restored objects belong to {}: --role NAME loads all of them as one role, which then owns them; with a \
             superuser as NAME they keep their owners, and their code runs with all rights",
            owners.join(", ")
        ))),
    }
}

/// Whether a role is a superuser; `None` where there is no such role.
async fn superuser(server: &Server, role: &str) -> Result<Option<bool>, Error> {
    let mut connection = server.connect().await?;
    let asked = "select rolsuper from pg_catalog.pg_roles where rolname operator(pg_catalog.=) $1";
    let found = sqlx::query_scalar(asked).bind(role).fetch_optional(&mut connection).await;
    let _ = connection.close().await;
    found.map_err(Error::query("look up the role that loads"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c36_the_owner_loads_and_of_several_one_that_is_named() {
        let owners = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(loader(None, &owners(&["app"])).unwrap(), "app");
        assert_eq!(loader(Some("clerk"), &owners(&["app", "web"])).unwrap(), "clerk");
        let refused = loader(None, &owners(&["app", "web"])).unwrap_err().to_string();
        assert!(refused.contains("belong to app, web: --role NAME"), "{refused}");
    }
}
