//! Client programs of PostgreSQL (`pg_dump`, `pg_restore`) on a server of ours.
//!
//! Invariants: they connect where the connection string says and nowhere else, whatever `PG…` variables we were started with (a
//! `PGHOSTADDR` would take `pg_dump` from a scratch server to the live one: C29), with its TLS; a password goes by the environment
//! (C25).

use crate::{
    Server,
    conninfo::{ChannelBinding, SslMode},
    session,
};
use std::path::Path;
use tokio::process::Command;

impl Server {
    /// A program that connects to a database of the first host, all by its environment.
    pub fn client_program(&self, program: &Path, database: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        let conninfo = &self.conninfo;
        if let Some(host) = conninfo.hosts.first() {
            command.env("PGHOST", &host.name).env("PGPORT", host.port.to_string());
            if let Some(password) = conninfo.password_for(host) {
                command.env("PGPASSWORD", password.expose());
            }
        }
        if let Some(file) = &conninfo.sslrootcert {
            command.env("PGSSLROOTCERT", file);
        }
        if conninfo.channel_binding == ChannelBinding::Disable {
            command.env("PGCHANNELBINDING", "disable");
        }
        command
            .env("PGUSER", &conninfo.user)
            .env("PGDATABASE", database)
            .env("PGSSLMODE", conninfo.sslmode.word())
            .env("PGCONNECT_TIMEOUT", self.connect_timeout.as_secs().max(1).to_string())
            .env("PGAPPNAME", "pgbosun")
            .env("PGOPTIONS", session::options(&conninfo.options));
        command
    }
}

impl SslMode {
    /// As libpq has it.
    fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Conninfo;
    use std::time::Duration;

    #[test]
    fn c25_c29_a_program_connects_where_it_is_told_and_gets_its_password_by_the_environment() {
        let conninfo = Conninfo::parse(r"host=db port=5433 user='o\'x' password=secret sslmode=verify-full").unwrap();
        let server = Server {
            conninfo,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::ZERO,
            lock_timeout: Duration::ZERO,
            session: crate::SessionSettings::Ours,
        };
        let command = server.client_program(Path::new("pg_dump"), "a=b");
        let set = |name: &str| {
            let found = command.as_std().get_envs().find(|(known, _)| *known == name);
            found.and_then(|(_, value)| Some(value?.to_str()?.to_owned()))
        };
        assert_eq!(command.as_std().get_args().count(), 0);
        for (name, value) in [
            ("PGHOST", "db"),
            ("PGPORT", "5433"),
            ("PGUSER", "o'x"),
            ("PGDATABASE", "a=b"),
            ("PGPASSWORD", "secret"),
            ("PGSSLMODE", "verify-full"),
        ] {
            assert_eq!(set(name).as_deref(), Some(value), "{name}");
        }
    }
}
