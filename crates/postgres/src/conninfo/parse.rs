//! The two written forms, and what they mean together with libpq's defaults.

use super::{ChannelBinding, Conninfo, Host, SslMode, files};
use crate::{session, tls};
use pgbosun_core::config::Secret;
use std::{collections::BTreeMap, path::PathBuf};

pub(super) type Settings = BTreeMap<String, String>;

/// Keys that are used, and keys of libpq that are accepted because they change nothing here.
const KEYS: [&str; 32] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "service",
    "sslmode",
    "sslrootcert",
    "channel_binding",
    "target_session_attrs",
    "options",
    "application_name",
    "fallback_application_name",
    "connect_timeout",
    "client_encoding",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
    "sslsni",
    "gssencmode",
    "ssl_min_protocol_version",
    "require_auth",
    "requirepeer",
    "sslcert",
    "sslkey",
    "sslcrl",
    "sslcrldir",
];

/// What these promise we cannot keep, unless their value is one of those: key, variable of libpq, values, what would do.
const PROMISES: [(&str, Option<&str>, &[&str], &str); 9] = [
    (
        "channel_binding",
        Some("PGCHANNELBINDING"),
        &["disable", "prefer"],
        "pgbosun's own connections do not support channel binding (values: disable, prefer or require); use \
         sslmode=verify-full with sslrootcert to verify the server, and leave channel_binding=prefer",
    ),
    (
        "require_auth",
        Some("PGREQUIREAUTH"),
        &[],
        "use sslmode=verify-full with sslrootcert to verify the server instead",
    ),
    ("requirepeer", Some("PGREQUIREPEER"), &[], "protect the directory of the socket instead"),
    ("gssencmode", Some("PGGSSENCMODE"), &["disable", "prefer"], "pgbosun does not support GSSAPI; use TLS (sslmode)"),
    (
        "ssl_min_protocol_version",
        Some("PGSSLMINPROTOCOLVERSION"),
        &["TLSv1", "TLSv1.1", "TLSv1.2"],
        "pgbosun supports TLS 1.2 and 1.3; set the minimum on the server",
    ),
    ("sslcert", None, &[], "pgbosun cannot log in with a client certificate; use a password"),
    ("sslkey", None, &[], "pgbosun cannot log in with a client certificate; use a password"),
    ("sslcrl", Some("PGSSLCRL"), &[], "pgbosun does not read revocation lists"),
    ("sslcrldir", Some("PGSSLCRLDIR"), &[], "pgbosun does not read revocation lists"),
];

/// Refuses what would be believed to hold, and does not.
pub(super) fn check_promises(settings: &Settings) -> Result<(), String> {
    for (key, variable, kept, instead) in PROMISES {
        let value = settings.get(key).cloned().or_else(|| std::env::var(variable?).ok());
        if let Some(value) = value.filter(|value| !value.is_empty() && !kept.contains(&value.as_str())) {
            return Err(format!("{key}={value} cannot be honoured: {instead}"));
        }
    }
    Ok(())
}

pub(super) fn settings(text: &str) -> Result<Settings, String> {
    let text = text.trim();
    let settings = match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => uri(rest)?,
        None => key_values(text)?,
    };
    match settings.keys().find(|key| !KEYS.contains(&key.as_str())) {
        Some(key) => {
            let near = pgbosun_core::config::nearest(key, KEYS);
            Err(match near {
                Some(near) => format!("unknown key \"{key}\"; did you mean \"{near}\"?"),
                None => format!("unknown key \"{key}\"; known: {}", KEYS.join(", ")),
            })
        }
        None => Ok(settings),
    }
}

fn key_values(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("\"{rest}\" has no \"=\""))?;
        let (value, after) = value(after.trim_start())?;
        settings.insert(key.trim().to_owned(), value);
        rest = after.trim_start();
    }
    Ok(settings)
}

/// One value, plain or in single quotes, with `\` before `'` and `\`; and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if quoted { Err("a quote is not closed".into()) } else { Ok((value, "")) }
}

fn uri(rest: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let mut put = |key: &str, value: &str| -> Result<(), String> {
        if !value.is_empty() {
            settings.insert(key.to_owned(), percent_decoded(value)?);
        }
        Ok(())
    };
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    put("user", user)?;
    put("password", password)?;
    put("dbname", database)?;
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((name, port)) => (name, port.trim_start_matches(':')),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(name);
        ports.push(port);
    }
    put("host", &names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        put("port", &ports.join(","))?;
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').ok_or_else(|| format!("\"{parameter}\" has no \"=\""))?;
        put(key, value)?;
    }
    Ok(settings)
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
            let digits = std::str::from_utf8(&pair).unwrap_or_default();
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "a \"%\" is not followed by two hex digits")?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| "a \"%\" sequence is not UTF-8".into())
}

pub(super) fn resolve(mut settings: Settings) -> Result<Conninfo, String> {
    let mut get = |key: &str, variable: &str| {
        settings.remove(key).or_else(|| std::env::var(variable).ok()).filter(|value| !value.is_empty())
    };
    let user = get("user", "PGUSER").or_else(login_name).ok_or("no user, and the login name is unknown")?;
    let names = get("hostaddr", "PGHOSTADDR").or_else(|| get("host", "PGHOST"));
    let names = names.unwrap_or_else(|| "/var/run/postgresql".into());
    let ports = get("port", "PGPORT").unwrap_or_default();
    let (sslmode, sslrootcert) = trust(get("sslmode", "PGSSLMODE"), get("sslrootcert", "PGSSLROOTCERT"))?;
    let primary_only = match get("target_session_attrs", "PGTARGETSESSIONATTRS").as_deref() {
        None | Some("any") => false,
        Some("read-write" | "primary") => true,
        Some(word) => return Err(format!("target_session_attrs \"{word}\": any, read-write or primary")),
    };
    let channel_binding = match get("channel_binding", "PGCHANNELBINDING").as_deref() {
        Some("disable") => ChannelBinding::Disable,
        _ => ChannelBinding::Prefer,
    };
    Ok(Conninfo {
        hosts: hosts(&names, &ports)?,
        database: get("dbname", "PGDATABASE").unwrap_or_else(|| user.clone()),
        sslmode,
        sslrootcert,
        channel_binding,
        primary_only,
        options: session::asked(&get("options", "PGOPTIONS").unwrap_or_default())?,
        password: get("password", "PGPASSWORD").map(Secret::new),
        passfile: get("passfile", "PGPASSFILE").map(PathBuf::from),
        own: false,
        user,
    })
}

/// How far TLS is checked, and against what: as libpq does, where a file of root certificates makes `require` check like `verify-ca`.
/// Unlike libpq, which wants a file then, `verify-full` without one trusts the system's authorities; `verify-ca` would take anybody's
/// certificate so.
fn trust(mode: Option<String>, file: Option<String>) -> Result<(SslMode, Option<PathBuf>), String> {
    let of_the_system = file.as_deref() == Some(tls::SYSTEM);
    let mode = match mode.as_deref() {
        None if of_the_system => SslMode::VerifyFull,
        Some("verify-full") => SslMode::VerifyFull,
        Some(weak) if of_the_system => {
            return Err(format!("sslmode={weak} with sslrootcert=system verifies nothing; use sslmode=verify-full"));
        }
        Some("disable") => SslMode::Disable,
        None | Some("prefer" | "allow") => SslMode::Prefer,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some(word) => return Err(format!("unknown sslmode \"{word}\"")),
    };
    let file = file.map(PathBuf::from).or_else(files::root_certificates);
    match (mode, file) {
        (SslMode::Require, Some(file)) => Ok((SslMode::VerifyCa, Some(file))),
        (SslMode::VerifyCa, None) => {
            Err("sslmode=verify-ca needs sslrootcert, a file with the authority's certificate".into())
        }
        (SslMode::VerifyFull, None) => Ok((mode, Some(tls::SYSTEM.into()))),
        (mode, file) => Ok((mode, file)),
    }
}

fn hosts(names: &str, ports: &str) -> Result<Vec<Host>, String> {
    let names: Vec<&str> = names.split(',').collect();
    let ports: Vec<&str> = ports.split(',').collect();
    if ports.len() > 1 && ports.len() != names.len() {
        return Err(format!("{} ports for {} hosts", ports.len(), names.len()));
    }
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let port = match ports.get(index).or(ports.first()) {
                None | Some(&"") => 5432,
                Some(port) => port.trim().parse().map_err(|_| format!("\"{port}\" is not a port"))?,
            };
            Ok(Host { name: name.trim().to_owned(), port })
        })
        .collect()
}

fn login_name() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}
