//! The settings that every session of ours begins with, whatever a role, a database or a file of the server sets (C39).
//!
//! Invariants: who owns a database can set most of these for it (`alter database … set`), and what a connection asks for when it
//! begins goes before that. `pg_temp` comes last in the search path, since it comes first where it is not named. The SQL that users
//! write themselves, and nothing else, runs in a session as their server makes it ([`SessionSettings::AsTheServerHasIt`]).
//!
//! Left as they are: `session_preload_libraries`, which only a superuser can set, and `role`, which administrators set for login
//! roles: it takes rights away and gives none. For a database its owner can set it, to blind us; that does not count.

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

/// The rights of the role we log in as, where whoever owns the database has others used in it; an administrator who wants that sets it for
/// the role, or in the connection string.
const ROLE: &str = "select /* pgbosun */ pg_catalog.set_config('role', 'none', false)
     from (select coalesce(pg_catalog.bool_or(s.setrole = 0), false) as of_database,
                  coalesce(pg_catalog.bool_or(r.rolname = session_user), false) as of_role
           from pg_catalog.pg_db_role_setting s
           left join pg_catalog.pg_roles r on r.oid = s.setrole
           cross join pg_catalog.unnest(s.setconfig) setting
           where pg_catalog.left(setting, 5) = 'role='
             and s.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))) found
     where current_user <> session_user and of_database and not of_role; ";

/// Messages in English, where the role may choose.
const LANGUAGE: &str = "select /* pgbosun */ pg_catalog.set_config('lc_messages', 'C', false) \
     where pg_catalog.current_setting('is_superuser') = 'on'";

/// A database of SQL_ASCII holds any bytes, and the server refuses to call them UTF-8: they come as they are (`lossy`).
const ENCODING: &str = "select /* pgbosun */ pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) \
     where pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'; ";

/// Limits that older servers do not know: asked for in a statement, or by a connection when the version is known.
pub(crate) fn limits_of(version: u32) -> &'static [(&'static str, &'static str)] {
    const LIMITS: [(&str, &str); 2] = [("idle_session_timeout", "0"), ("transaction_timeout", "0")];
    match version {
        170_000.. => &LIMITS,
        140_000.. => &LIMITS[..1],
        _ => &[],
    }
}

/// What a session of ours begins with and could not ask for when it connected. `asked` are the settings of its connection string.
pub(crate) async fn settle(connection: &mut PgConnection, asked: &[(String, String)]) -> Result<(), sqlx::Error> {
    let limits = limits_of(connection.server_version_num().unwrap_or_default());
    let statements: String = limits.iter().map(|(name, value)| format!("set {name} = {value}; ")).collect();
    let role = if asked.iter().any(|(name, _)| name == "role") { "" } else { ROLE };
    sqlx::raw_sql(AssertSqlSafe(statements + ENCODING + role + LANGUAGE)).execute(connection).await.map(drop)
}

/// Makes settings by a statement, where what the connection asked for was not passed on.
pub(crate) async fn make(connection: &mut PgConnection, settings: &[(String, String)]) -> Result<(), sqlx::Error> {
    let calls = (0..settings.len()).map(|at| format!("pg_catalog.set_config(${}, ${}, false)", 2 * at + 1, 2 * at + 2));
    let statement = format!("select /* pgbosun */ {}", calls.collect::<Vec<_>>().join(", "));
    let query = settings
        .iter()
        .fold(sqlx::query(AssertSqlSafe(statement)), |query, (name, value)| query.bind(name).bind(value));
    query.execute(connection).await.map(drop)
}

/// The settings as libpq's `options`, behind those of the connection string.
pub(crate) fn options(asked: &[(String, String)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
    let asked = asked.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let words = asked.chain(SETTINGS).map(|(name, value)| format!("-c {name}={}", escaped(value)));
    words.collect::<Vec<_>>().join(" ")
}

/// The settings in libpq's `options` (PostgreSQL: `pg_split_opts`, `process_postgres_switches`), or the word that is none.
pub(crate) fn asked(text: &str) -> Result<Vec<(String, String)>, String> {
    let (mut words, mut word, mut escaped) = (Vec::new(), None::<String>, false);
    for letter in text.chars() {
        match letter {
            '\\' if !escaped => escaped = true,
            _ if letter.is_ascii_whitespace() && !escaped => words.extend(word.take()),
            _ => {
                word.get_or_insert_default().push(letter);
                escaped = false;
            }
        }
    }
    words.extend(word);
    let (mut words, mut settings) = (words.into_iter(), Vec::new());
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") if word == "-c" => words.next(),
            rest => rest.map(str::to_owned),
        };
        let pair = setting.as_deref().and_then(|setting| setting.split_once('='));
        let (name, value) = pair.ok_or_else(|| format!("options: \"{word}\" is not of the form \"-c name=value\""))?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c39_options_are_escaped_and_ours_come_last() {
        let options = options(&[("search_path".into(), "trap".into())]);
        assert!(options.starts_with("-c search_path=trap -c search_path=pg_catalog,pg_temp "), "{options}");
        assert!(options.contains(r"-c default_transaction_isolation=read\ committed "), "{options}");
    }

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let read = |text: &str| {
            asked(text).map(|all| all.into_iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>())
        };
        assert_eq!(read("").unwrap(), Vec::<String>::new());
        assert_eq!(
            read(r" -c work_mem=1MB  -cgeqo=off --lock-timeout=3 -c a=b\ c=d\\").unwrap(),
            ["work_mem:1MB", "geqo:off", "lock_timeout:3", r"a:b c=d\"]
        );
        for wrong in ["-c", "-B 5", "x", "-c work_mem", "--"] {
            assert!(read(wrong).unwrap_err().contains("-c name=value"), "{wrong}");
        }
    }
}
