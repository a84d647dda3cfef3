//! The files libpq reads beside the string: `pg_service.conf`, `.pgpass`, `.postgresql/root.crt`.

use super::{Host, parse::Settings};
use pgbosun_core::config::Secret;
use std::{
    fmt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

fn home() -> Option<PathBuf> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    std::env::var_os("HOME").map(PathBuf::from).or_else(|| user.map(|user| user.dir))
}

/// The root certificates that libpq looks for where none are named.
pub(super) fn root_certificates() -> Option<PathBuf> {
    home().map(|home| home.join(".postgresql/root.crt")).filter(|file| file.exists())
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
    Err(format!("service \"{name}\" is not in any of {}", places.join(", ")))
}

/// A password file that is not used, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredPasswordFile {
    file: PathBuf,
    why: String,
}

impl fmt::Display for IgnoredPasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the password file {} is ignored: {}", self.file.display(), self.why)
    }
}

/// The text of the password file. Like libpq we ignore one that others may read (documentation, "The Password File").
pub(super) fn password_file(named: Option<&Path>) -> Result<String, IgnoredPasswordFile> {
    let Some(file) = named.map(Path::to_owned).or_else(|| home().map(|home| home.join(".pgpass"))) else {
        return Ok(String::new());
    };
    let ignored = |why: String| Err(IgnoredPasswordFile { file: file.clone(), why });
    match std::fs::metadata(&file) {
        // Nobody has to have one.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(String::new()),
        Err(error) => ignored(error.to_string()),
        Ok(found) if !found.is_file() => ignored("it is not a regular file".into()),
        Ok(found) if found.mode() & 0o077 != 0 => ignored(format!(
            "its mode {:04o} gives others access; chmod 0600 {}",
            found.mode() & 0o7777,
            file.display()
        )),
        Ok(_) => std::fs::read_to_string(&file).or_else(|error| ignored(error.to_string())),
    }
}

/// The password for a login from the text of a password file.
pub(super) fn password_in(text: &str, host: &Host, database: &str, user: &str) -> Option<Secret> {
    let name = if host.name.starts_with('/') { "localhost" } else { host.name.as_str() };
    let port = host.port.to_string();
    let wanted = [name, &port, database, user];
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
