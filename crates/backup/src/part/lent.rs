//! A login role that is lent to another role for one load.
//!
//! Invariants (C36): who takes a role by SET ROLE or SET SESSION AUTHORIZATION gets his own rights back by RESET, and every function
//! that a check, a default or a trigger calls can say that. So the session logs in as a role that never had any rights but those of
//! the one whose code runs. Its password is random, reaches the server as a verifier only, and serves for some minutes.

use super::quoted;
use crate::Error;
use pgbosun_core::{config::Secret, human};
use pgbosun_postgres::{Server, conninfo::Host, password_verifier};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::net::Ipv4Addr;
use uuid::Uuid;

/// What the names of all of them begin with.
const PREFIX: &str = "pgbosun_load_";

/// Such a role, until it is removed.
#[derive(Debug)]
pub(super) struct LentRole {
    admin: Server,
    name: String,
    password: Secret,
}

impl LentRole {
    /// A new one with the rights of a role, or with none.
    pub async fn create(admin: &Server, of: Option<&str>) -> Result<Self, Error> {
        let id = || Uuid::new_v4().simple().to_string();
        let lent = Self { admin: admin.clone(), name: format!("{PREFIX}{}", id()), password: Secret::new(id()) };
        let mut connection = admin.connect().await?;
        remove_leftovers(&mut connection).await?;
        let until: String = sqlx::query_scalar("select (pg_catalog.now() + '10 minutes'::pg_catalog.interval)::text")
            .fetch_one(&mut connection)
            .await
            .map_err(Error::query("read the server's time"))?;
        let member = of.map(|role| format!(" in role {}", quoted(role))).unwrap_or_default();
        let statement = format!(
            "create role {} login connection limit 4 password '{}' valid until '{until}'{member}",
            lent.name,
            password_verifier(&lent.password)
        );
        execute(&mut connection, statement, "create a login role for the load").await?;
        let _ = connection.close().await;
        Ok(lent)
    }

    /// A database of the server as this role.
    pub async fn session(&self, database: &str) -> Result<Server, Error> {
        let mut server = self.admin.clone();
        server.conninfo = server.conninfo.with_database(database).as_user(&self.name, Some(self.password.clone()));
        // Sockets often let in only who has an account of that name on the machine, and each refusal is a failed login in the
        // server's log: the loopback goes first.
        let loopback = self.loopback().await?.map(|host| server.at(&host));
        let mut refused = None;
        for server in loopback.into_iter().chain([server]) {
            match server.connect().await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    return Ok(server);
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(Error::Refused(format!(
            "the server rejects the temporary login role of this load ({}); either let such roles in by password in \
             pg_hba.conf (\"host {database} all 127.0.0.1/32 scram-sha-256\"), or name with --role a role whose password is in \
             the password file, or write a file with --to and load it yourself",
            refused.as_ref().map_or_else(String::new, |error| human::chain(error))
        )))
    }

    /// The server on this machine's loopback, where a socket was named and it listens there too: then nobody else does.
    async fn loopback(&self) -> Result<Option<Host>, Error> {
        let Some(port) = self.admin.conninfo.hosts.first().filter(|host| host.socket().is_some()).map(|host| host.port)
        else {
            return Ok(None);
        };
        let mut connection = self.admin.connect().await?;
        let listens: String = sqlx::query_scalar("select pg_catalog.current_setting('listen_addresses')")
            .fetch_one(&mut connection)
            .await
            .map_err(Error::query("read where the server listens"))?;
        let _ = connection.close().await;
        Ok(loopback_in(&listens).map(|address| Host { name: address.to_string(), port }))
    }

    /// Ends its sessions and removes it. One that cannot be removed is of no use to anybody a few minutes later, and a later load
    /// tries again.
    pub async fn remove(self, database: &str, of: Option<&str>) {
        if let Err(error) = self.try_remove(database, of).await {
            let name = &self.name;
            tracing::warn!("the login role {name} of this load was not removed, drop it: {}", human::chain(&error));
        }
    }

    /// What foreign code made as this role in the database goes to the one it was lent to.
    async fn try_remove(&self, database: &str, of: Option<&str>) -> Result<(), Error> {
        let mut connection = self.admin.connect().await?;
        sqlx::query(
            "select pg_catalog.pg_terminate_backend(pid, 5000) from pg_catalog.pg_stat_activity \
             where usename operator(pg_catalog.=) $1",
        )
        .bind(&self.name)
        .execute(&mut connection)
        .await
        .map_err(Error::query("end the sessions of the load"))?;
        let drop_role = format!("drop role {}", self.name);
        let removed = execute(&mut connection, drop_role.clone(), "remove the login role of the load").await;
        if let (Err(_), Some(heir)) = (&removed, of) {
            let mut server = self.admin.clone();
            server.conninfo = server.conninfo.with_database(database);
            let mut inside = server.connect().await?;
            let heir = quoted(heir);
            let pass_on = format!("reassign owned by {name} to {heir}; drop owned by {name}", name = self.name);
            execute(&mut inside, pass_on, "reassign what the login role of the load created").await?;
            let _ = inside.close().await;
            return execute(&mut connection, drop_role, "remove the login role of the load").await;
        }
        removed
    }
}

/// The address of the loopback in `listen_addresses`.
fn loopback_in(addresses: &str) -> Option<Ipv4Addr> {
    addresses.split(',').find_map(|address| match address.trim() {
        "*" | "0.0.0.0" | "localhost" => Some(Ipv4Addr::LOCALHOST),
        address => address.parse().ok().filter(Ipv4Addr::is_loopback),
    })
}

/// Roles of loads that were killed; their passwords have run out long ago. One that cannot be removed is in nobody's way.
async fn remove_leftovers(connection: &mut PgConnection) -> Result<(), Error> {
    let left: Vec<String> = sqlx::query_scalar(
        "select rolname::pg_catalog.text from pg_catalog.pg_roles where pg_catalog.starts_with(rolname, $1) \
         and rolvaliduntil operator(pg_catalog.<) pg_catalog.now() - '1 day'::pg_catalog.interval \
         and not exists (select from pg_catalog.pg_stat_activity where usename operator(pg_catalog.=) rolname)",
    )
    .bind(PREFIX)
    .fetch_all(&mut *connection)
    .await
    .map_err(Error::query("look up login roles of earlier loads"))?;
    for name in left {
        if let Err(error) = execute(connection, format!("drop role {}", quoted(&name)), "remove a login role").await {
            tracing::warn!(role = %name, "login role of an earlier load not removed: {}", human::chain(&error));
        }
    }
    Ok(())
}

async fn execute(connection: &mut PgConnection, statement: String, what: &'static str) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop).map_err(Error::query(what))
}
