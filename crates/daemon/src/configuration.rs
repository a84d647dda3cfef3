//! Reading the configuration, with everything that this program can be configured to do.

use pgbosun_core::config::{self, Loaded, Page, Problem, Problems, Registry};
use pgbosun_postgres::Conninfo;
use std::path::Path;

fn with_registry<T>(work: impl FnOnce(&Registry<'_>) -> T) -> T {
    let (kinds, stores, channels) =
        (pgbosun_jobs::kinds(), pgbosun_repository::stores(), pgbosun_notify::channel_types());
    work(&Registry { kinds: &kinds, stores: &stores, channels: &channels })
}

/// The reference of all options.
pub fn reference(page: Page) -> String {
    with_registry(|registry| config::reference(registry, page))
}

/// Reads and checks a configuration: the sections, the jobs, and the connection strings.
///
/// # Errors
/// All problems found.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    check_connections(with_registry(|registry| config::load(path, registry))?, path)
}

/// Reads and checks it for whoever needs no secret: files of secrets that cannot be read are no problems.
///
/// # Errors
/// All other problems.
pub fn load_without_secrets(path: &Path) -> Result<Loaded, Problems> {
    check_connections(with_registry(|registry| config::load_without_secrets(path, registry))?, path)
}

fn check_connections(loaded: Loaded, path: &Path) -> Result<Loaded, Problems> {
    let clusters =
        loaded.config.clusters.iter().map(|(name, cluster)| (format!("clusters.{name}"), &cluster.connection));
    let history = loaded.config.history.connection.iter().map(|connection| ("history".to_owned(), connection));
    let mut problems = Vec::new();
    for (section, connection) in clusters.chain(history) {
        let source = loaded.effective.iter().find(|key| key.section == section && key.key == "connection");
        let source = source.map_or_else(|| path.display().to_string(), |key| key.source.clone());
        let mut refuse = |message: String, hint: Option<String>| {
            let key = format!("{section}.connection");
            problems.push(Problem { source: source.clone(), key, value: None, message, hint });
        };
        match Conninfo::parse(connection) {
            Ok(parsed) if parsed.holds_password() && std::env::var_os("PGPASSWORD").is_none() => {
                let hint = "put it in a file of mode 0600 and set password-file to its path, or in .pgpass";
                refuse("a password does not belong here".into(), Some(hint.into()));
            }
            Ok(_) => {}
            Err(error) => refuse(error.to_string(), None),
        }
    }
    if problems.is_empty() { Ok(loaded) } else { Err(Problems(problems)) }
}
