//! The files libpq reads beside the string: `pg_service.conf` and `.pgpass`.

use super::{Host, parse::Settings};
use pgbosun_core::config::Secret;
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

fn home() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    std::env::var_os("HOME").map(PathBuf::from).or_else(|| user.map(|user| user.dir))
}

/// The settings of one service, from the first file that defines it.
pub(super) fn service(name: &str) -> Result<Settings, String> {
    let places: Vec<PathBuf> = match std::env::var_os("PGSERVICEFILE") {
        Some(file) => vec![file.into()],
        None => home()
            .map(|home| home.join(".pg_service.conf"))
            .into_iter()
            .chain(["/etc/postgresql-common/pg_service.conf".into(), "/etc/pg_service.conf".into()])
            .collect(),
    };
    for place in &places {
        let Ok(text) = std::fs::read_to_string(place) else { continue };
        let mut inside = false;
        let mut found = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                inside = section == name;
                if inside {
                    found = Some(Settings::new());
                }
            } else if let (true, Some(settings), Some((key, value))) = (inside, &mut found, line.split_once('=')) {
                settings.insert(key.trim().to_owned(), value.trim().to_owned());
            }
        }
        if let Some(settings) = found {
            return Ok(settings);
        }
    }
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    Err(format!("service \"{name}\" is in none of {}", places.join(", ")))
}

/// The password for a login from the password file, which like libpq we ignore where others may read it.
pub(super) fn pgpass(file: Option<&Path>, host: &Host, database: &str, user: &str) -> Option<Secret> {
    let file = file.map(Path::to_owned).or_else(|| home().map(|home| home.join(".pgpass")))?;
    let metadata = std::fs::metadata(&file).ok()?;
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!(file = %file.display(), "password file is open to others and therefore not used: chmod 0600 it");
        return None;
    }
    let name = if host.name.starts_with('/') { "localhost" } else { host.name.as_str() };
    let port = host.port.to_string();
    let wanted = [name, &port, database, user];
    let text = std::fs::read_to_string(&file).ok()?;
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let matches = |(field, wanted): (&String, &&str)| field == "*" || field == wanted;
        (fields.len() == 5 && fields.iter().zip(&wanted).all(matches)).then(|| Secret::new(fields[4].clone()))
    })
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => {
                let c = if c == '\\' { chars.next() } else { Some(c) };
                if let Some(field) = fields.last_mut() {
                    field.extend(c);
                }
            }
        }
    }
    fields
}
