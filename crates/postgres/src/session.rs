//! The settings that every session of ours begins with, whatever a role, a database or a file of the server sets (C39).
//!
//! Invariants: who owns a database can set most of these for it (`alter database … set`), and what a connection asks for when it
//! begins goes before that. `pg_temp` comes last in the search path, since it comes first where it is not named. The SQL that users
//! write themselves, and nothing else, runs in a session as their server makes it ([`SessionSettings::AsTheServerHasIt`]).
//!
//! Left as they are: `session_preload_libraries`, which only a superuser can set, and `role`, which administrators set for login
//! roles: it takes rights away and gives none.

use sqlx::{AssertSqlSafe, PgConnection};

/// What a session begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionSettings {
    /// Our settings, for our own SQL.
    Ours,
    /// The settings of the server, the database and the role, for SQL of the user's own.
    AsTheServerHasIt,
}

/// What servers of all supported versions know and any role may set, without limits of time.
pub(crate) const SETTINGS: [(&str, &str); 17] = [
    ("search_path", "pg_catalog,pg_temp"),
    ("local_preload_libraries", ""),
    ("row_security", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("client_min_messages", "warning"),
    ("exit_on_error", "off"),
    ("standard_conforming_strings", "on"),
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("lc_numeric", "C"),
];

/// Messages in English, where the role may choose.
const LANGUAGE: &str = "select pg_catalog.set_config('lc_messages', 'C', false) \
     where pg_catalog.current_setting('is_superuser') = 'on'";

/// Limits that older servers do not know: asked for in a statement, or by a connection when the version is known.
pub(crate) fn limits_of(version: u32) -> &'static [(&'static str, &'static str)] {
    const LIMITS: [(&str, &str); 2] = [("idle_session_timeout", "0"), ("transaction_timeout", "0")];
    match version {
        170_000.. => &LIMITS,
        140_000.. => &LIMITS[..1],
        _ => &[],
    }
}

/// What a session of ours begins with and could not ask for when it connected.
pub(crate) async fn settle(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let limits = limits_of(connection.server_version_num().unwrap_or_default());
    let statements: String = limits.iter().map(|(name, value)| format!("set {name} = {value}; ")).collect();
    sqlx::raw_sql(AssertSqlSafe(statements + LANGUAGE)).execute(connection).await.map(drop)
}

/// The settings as libpq's `options`, behind those of the connection string.
pub(crate) fn options(asked: Option<&str>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
    let ours = SETTINGS.iter().map(|(name, value)| format!("-c {name}={}", escaped(value)));
    asked.map(str::to_owned).into_iter().chain(ours).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c39_options_are_escaped_and_ours_come_last() {
        let options = options(Some("-c search_path=trap"));
        assert!(options.starts_with("-c search_path=trap -c search_path=pg_catalog,pg_temp "), "{options}");
        assert!(options.contains(r"-c default_transaction_isolation=read\ committed "), "{options}");
    }
}
