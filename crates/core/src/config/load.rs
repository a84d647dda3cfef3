//! Loading: layers, names, sections, cross-checks; every problem recorded, none fatal to finding the next.

use super::{
    Config, Problem, Problems,
    jobs::{Kind, add_monitors, read_jobs},
    reader::{Effective, Findings, Reader, Section},
    sections::{Channel, ChannelCommon, Cluster, Daemon, Group, History, Mail, Repository, RepositoryOptions, Wal},
    setting::KnownNames,
    suggest::nearest,
    variant::{ChannelOptions, StoreOptions, Variant, read_variant},
};
use figment::{
    Figment, Provider,
    providers::{Env, Format, Toml},
    value::{Dict, Tag, Value},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Where the configuration lies unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/pgbosun/pgbosun.toml";

/// The groups that exist without being written down (reference: operator groups and subject prefixes).
pub(super) const BUILT_IN_GROUPS: [(&str, &str); 3] =
    [("database", "[DB-ALERT]"), ("security", "[SECURITY]"), ("system", "[SYSTEM]")];

/// What variables that are configuration begin with.
const PREFIX: &str = "PGBOSUN_";

const SECTIONS: [&str; 9] =
    ["daemon", "history", "clusters", "repositories", "wal", "mail", "channels", "groups", "jobs"];

/// The watchdog takes a part that is silent for longer as stalled.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(5);
/// In a shorter time a part that beats every five seconds may seem to stand still.
const SHORTEST_ALIVE: Duration = Duration::from_secs(6);

/// What a program can be configured to do: each is declared beside its implementation.
#[derive(Clone, Copy, Default)]
pub struct Registry<'a> {
    /// Kinds of jobs.
    pub kinds: &'a [Kind],
    /// Types of stores.
    pub stores: &'a [Variant<dyn StoreOptions>],
    /// Types of channels.
    pub channels: &'a [Variant<dyn ChannelOptions>],
}

/// A valid configuration and where each value came from.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every key with its value and source.
    pub effective: Vec<Effective>,
    /// The files it was read from.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration at `path`, `conf.d` beside it and the environment, with these kinds of jobs, stores and channels.
///
/// # Errors
/// All problems found, never just the first.
pub fn load(path: &Path, registry: &Registry<'_>) -> Result<Loaded, Problems> {
    load_with(path, registry, true)
}

/// Reads it for whoever needs no secret: files of secrets that cannot be read are no problems.
///
/// # Errors
/// All other problems.
pub fn load_without_secrets(path: &Path, registry: &Registry<'_>) -> Result<Loaded, Problems> {
    load_with(path, registry, false)
}

/// A configuration that says nothing but where its file is, for whoever may not read that. `None` never, as long as the defaults are
/// valid, which a test holds.
pub fn unread(path: &Path) -> Option<Config> {
    let mut gathered = Findings::of(Figment::new(), true);
    read(&mut gathered, &Registry::default(), path)
}

fn load_with(path: &Path, registry: &Registry<'_>, secrets: bool) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut figment = Figment::new();
    let files = files(path, &mut problems);
    for file in &files {
        let provider = Toml::file_exact(file);
        match provider.data() {
            Ok(_) => figment = figment.merge(provider),
            Err(error) => problems.push(Problem {
                source: file.display().to_string(),
                key: String::new(),
                value: None,
                message: error.kind.to_string().trim().to_owned(),
                hint: None,
            }),
        }
    }
    figment = figment.merge(environment());
    let mut gathered = Findings { problems, ..Findings::of(figment, secrets) };
    let config = read(&mut gathered, registry, path);
    match config {
        Some(config) if gathered.problems.is_empty() => Ok(Loaded { config, effective: gathered.effective, files }),
        _ => Err(Problems(gathered.problems)),
    }
}

/// A name that systemd takes for a user (systemd.io/USER_NAMES), and that is nothing else in a unit file.
fn is_user_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    first && name.chars().all(|c| c.is_ascii_alphanumeric() || ['_', '-', '.'].contains(&c))
}

/// The user that the daemon runs as, by a configuration that may be wrong in other places; `None` where it does not say.
pub fn daemon_user(path: &Path) -> Option<String> {
    let files = files(path, &mut Vec::new());
    let merged = files.iter().fold(Figment::new(), |merged, file| merged.merge(Toml::file_exact(file)));
    merged.merge(environment()).extract_inner("daemon.user").ok()
}

/// Where the state lies, by a configuration that may be wrong in other places, even in its syntax; the usual place where it
/// does not say.
pub fn state_directory(path: &Path) -> PathBuf {
    let said = Figment::from(Toml::file(path)).merge(environment()).extract_inner("daemon.state-directory");
    said.ok().or_else(|| by_its_line(&std::fs::read_to_string(path).ok()?)).unwrap_or_else(|| "/var/lib/pgbosun".into())
}

fn by_its_line(text: &str) -> Option<PathBuf> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("state-directory")?.trim().strip_prefix('='));
    let quoted = values.filter_map(|value| value.trim().strip_prefix(['"', '\''])?.split(['"', '\'']).next());
    quoted.map(PathBuf::from).next()
}

fn files(path: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut refuse = |source: &Path, message: String, hint: Option<&str>| {
        problems.push(Problem {
            source: source.display().to_string(),
            key: String::new(),
            value: None,
            message,
            hint: hint.map(str::to_owned),
        });
    };
    let mut files = Vec::new();
    match std::fs::metadata(path) {
        Ok(_) => files.push(path.to_owned()),
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "\"pgbosun config init\" writes one",
                _ => "the user of the daemon has to read it; others use sudo",
            };
            refuse(path, format!("cannot be read: {error}"), Some(hint));
        }
    }
    let directory = path.with_file_name("conf.d");
    match std::fs::read_dir(&directory) {
        Ok(entries) => {
            let mut more: Vec<_> = entries
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|file| file.extension().is_some_and(|extension| extension == "toml"))
                // Editors keep what they are at beside it, under such a name.
                .filter(|file| file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")))
                .collect();
            more.sort();
            files.extend(more);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        // Whoever may not read the file is told of that.
        Err(_) if files.is_empty() => {}
        Err(error) => refuse(&directory, format!("cannot be read: {error}"), None),
    }
    files
}

/// `PGBOSUN_DAEMON__TIME_ZONE` is `daemon.time-zone`; variables without `__` are not configuration.
fn environment() -> Env {
    Env::prefixed(PREFIX).filter(|key| key.as_str().contains("__")).map(|key| key_of(key.as_str()).into())
}

/// The key that a variable sets, of its name without the prefix.
fn key_of(variable: &str) -> String {
    variable.to_ascii_lowercase().replace("__", ".").replace('_', "-")
}

/// What the variable for the key at `path` holds, as it is: [`environment`] reads values as TOML, to which `0123`, `true` and
/// `{a=1}` are no texts, and quotes no part of one.
pub(super) fn said_in_environment(path: &str) -> Option<String> {
    let is_it = |name: &str| {
        let (prefix, rest) = name.split_at_checked(PREFIX.len()).unwrap_or_default();
        prefix.eq_ignore_ascii_case(PREFIX) && key_of(rest) == path
    };
    let found = std::env::vars_os().find(|(name, _)| name.to_str().is_some_and(is_it));
    found.and_then(|(_, value)| value.into_string().ok())
}

/// The variable that sets the key at `path`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('-', "_").replace('.', "__").to_uppercase())
}

fn read(gathered: &mut Findings, registry: &Registry<'_>, path: &Path) -> Option<Config> {
    let top: Dict = match gathered.figment.extract::<BTreeMap<String, serde::de::IgnoredAny>>() {
        Ok(keys) => keys
            .into_keys()
            .filter_map(|key| gathered.figment.find_value(&key).ok().map(|value| (key, value)))
            .collect(),
        Err(_) => Dict::new(),
    };
    for (key, value) in top.iter().filter(|(key, _)| !SECTIONS.contains(&key.as_str())) {
        let hint = match nearest(key, SECTIONS) {
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("valid sections: {}", SECTIONS.join(", ")),
        };
        gathered.refuse(value.tag(), key, None, "unknown section".into(), Some(hint));
    }
    let names = |section: &str| -> Vec<String> {
        top.get(section).and_then(Value::as_dict).map(|dict| dict.keys().cloned().collect()).unwrap_or_default()
    };
    gathered.known = KnownNames {
        clusters: names("clusters"),
        repositories: names("repositories"),
        groups: BUILT_IN_GROUPS
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .chain(names("groups").into_iter().filter(|name| BUILT_IN_GROUPS.iter().all(|(known, _)| known != name)))
            .collect(),
        channels: ["mail".to_owned()].into_iter().chain(names("channels")).collect(),
    };

    let daemon = section::<Daemon>(gathered, &top, "daemon", |reader, daemon: &mut Daemon| {
        reader.check_address("alive-url", daemon.alive_url.as_deref());
        if daemon.heartbeat > LONGEST_HEARTBEAT || daemon.heartbeat.is_zero() {
            reader.refuse("heartbeat", "expected more than 0s and at most 5s: the watchdog relies on it", None);
        }
        if daemon.alive_every < SHORTEST_ALIVE {
            reader.refuse(
                "alive-every",
                "expected at least 6s: a working part of the daemon may be silent for 5 s",
                None,
            );
        }
        for (key, weight) in [("cpu-weight", daemon.cpu_weight), ("io-weight", daemon.io_weight)] {
            if !(1..=10_000).contains(&weight) {
                reader.refuse(key, "expected a whole number from 1 to 10000", None);
            }
        }
        if daemon.user.as_ref().is_some_and(|user| !is_user_name(user)) {
            reader.refuse("user", "expected the name of a user on this machine", None);
        }
    });
    let history = section::<History>(gathered, &top, "history", |reader, history: &mut History| {
        reader.resolve("password-file", &mut history.password, history.password_file.as_deref(), "password");
    });
    let mail = top.contains_key("mail").then(|| {
        section::<Mail>(gathered, &top, "mail", |reader, mail: &mut Mail| {
            reader.resolve("password-file", &mut mail.password, mail.password_file.as_deref(), "password");
            let (secret, file) = (&mut mail.oauth2_client_secret, mail.oauth2_client_secret_file.as_deref());
            reader.resolve("oauth2-client-secret-file", secret, file, "oauth2-client-secret");
            mail.check(reader);
        })
    });
    let channels = named(gathered, &top, "channels", |gathered, name, path, value| {
        let check = |reader: &mut Reader<'_>, common: &ChannelCommon, _: Option<&Arc<dyn ChannelOptions>>| {
            if name == "mail" {
                reader.refuse("type", "the channel of this name is configured in its own section, [mail]", None);
            }
            common.check(reader);
        };
        let (common, own) = read_variant(gathered, path, value, ("channel", registry.channels), check)?;
        Some(Channel { common, own })
    });
    let clusters = sections::<Cluster>(gathered, &top, "clusters", |reader, _, cluster: &mut Cluster| {
        reader.resolve("password-file", &mut cluster.password, cluster.password_file.as_deref(), "password");
    });
    let repositories = named(gathered, &top, "repositories", |gathered, _, path, value| {
        let check = |reader: &mut Reader<'_>, common: &RepositoryOptions, store: Option<&Arc<dyn StoreOptions>>| {
            let directory = store.and_then(|store| store.directory());
            common.check(reader, directory);
            let data = clusters.iter().flat_map(BTreeMap::values).filter_map(|cluster| cluster.data_directory.as_ref());
            if directory.is_some_and(|path| data.into_iter().any(|data| path.starts_with(data))) {
                let hint = "each backup would contain the earlier ones, and all would be lost with the data";
                reader.refuse("path", "is in the data directory of a cluster", Some(hint.into()));
            }
        };
        let (common, store) = read_variant(gathered, path, value, ("repository", registry.stores), check)?;
        Some(Repository { common, store })
    });
    let wal = section::<Wal>(gathered, &top, "wal", |reader, wal: &mut Wal| {
        if wal.push_workers == 0 {
            reader.refuse("push-workers", "expected 1 or more", None);
        }
    });
    let mut with_built_in = top.clone();
    add_built_in_groups(&mut with_built_in);
    let groups = sections::<Group>(gathered, &with_built_in, "groups", |_, _, _| {});
    let explicit = read_jobs(gathered, &top, registry.kinds);
    let (daemon, clusters) = (daemon?, clusters?);
    let jobs = explicit.map(|jobs| add_monitors(gathered, jobs, registry.kinds, &daemon, &clusters));
    Some(Config {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        daemon,
        history: history?,
        clusters,
        repositories: repositories?,
        wal: wal?,
        mail: mail.map_or(Some(None), |mail| mail.map(Some))?,
        channels: channels?,
        groups: groups?,
        jobs: jobs?,
    })
}

/// A repository of this type and these options of its own, with the defaults for everything else. `None` where one is wrong.
pub fn repository(store: &Variant<dyn StoreOptions>, own: &[(&str, String)]) -> Option<Repository> {
    let mut gathered = Findings::of(Figment::new(), true);
    let pairs = own.iter().cloned().chain([("type", store.name.to_owned())]);
    let dict: Dict = pairs.map(|(key, value)| (key.to_owned(), Value::from(value))).collect();
    let value = Value::Dict(Tag::Default, dict);
    let path = "repositories.local".to_owned();
    let (common, store) =
        read_variant(&mut gathered, path, value, ("repository", std::slice::from_ref(store)), |_, _, _| {})?;
    gathered.problems.is_empty().then_some(Repository { common, store })
}

fn add_built_in_groups(top: &mut Dict) {
    let groups = top.entry("groups".into()).or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, groups) = groups {
        for (name, prefix) in BUILT_IN_GROUPS {
            let group = groups.entry(name.into()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
            if let Value::Dict(_, group) = group {
                group.entry("subject-prefix".into()).or_insert_with(|| Value::from(prefix));
            }
        }
    }
}

fn section<T: Section>(
    gathered: &mut Findings,
    top: &Dict,
    name: &str,
    check: impl FnOnce(&mut Reader<'_>, &mut T),
) -> Option<T> {
    let value = top.get(name).cloned().unwrap_or_else(|| Value::Dict(Tag::Default, Dict::new()));
    read_section(gathered, name.to_owned(), value, check)
}

fn read_section<T: Section>(
    gathered: &mut Findings,
    path: String,
    value: Value,
    check: impl FnOnce(&mut Reader<'_>, &mut T),
) -> Option<T> {
    let tag = value.tag();
    let dict = dict_of(gathered, &path, value)?;
    let mut reader = Reader::new(path, tag, dict, gathered);
    let mut read = T::read(&mut reader);
    if let Some(read) = &mut read {
        check(&mut reader, read);
    }
    reader.finish();
    read
}

pub(super) fn dict_of(gathered: &mut Findings, path: &str, value: Value) -> Option<Dict> {
    let tag = value.tag();
    match value {
        Value::Dict(_, dict) => Some(dict),
        other => {
            let shown = super::reader::render(&other);
            gathered.refuse(tag, path, Some(shown), format!("expected a section [{path}]"), None);
            None
        }
    }
}

/// Reads `[section.NAME]` for every name. `None` where a problem was recorded in any.
fn sections<T: Section>(
    gathered: &mut Findings,
    top: &Dict,
    section: &str,
    mut check: impl FnMut(&mut Reader<'_>, &str, &mut T),
) -> Option<BTreeMap<String, T>> {
    named(gathered, top, section, |gathered, name, path, value| {
        read_section(gathered, path, value, |reader, read| check(reader, name, read))
    })
}

pub(super) fn named<T>(
    gathered: &mut Findings,
    top: &Dict,
    section: &str,
    mut read: impl FnMut(&mut Findings, &str, String, Value) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let Some(value) = top.get(section).cloned() else { return Some(BTreeMap::new()) };
    let entries = dict_of(gathered, section, value)?;
    let expected = entries.len();
    let mut found = BTreeMap::new();
    for (name, value) in entries {
        let path = format!("{section}.{name}");
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
            let message = "expected a name of lower-case letters, digits and \"-\"".to_owned();
            gathered.refuse(value.tag(), &path, None, message, None);
        }
        if let Some(read) = read(gathered, &name, path, value) {
            found.insert(name, read);
        }
    }
    (found.len() == expected).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_the_daemon_is_known_of_a_configuration_that_is_wrong_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgbosun.toml");
        std::fs::write(&path, "[daemon]\ntime-zone = 7\nnothing = 1\n[nowhere]\n").unwrap();
        assert_eq!(daemon_user(&path), None);
        std::fs::create_dir(directory.path().join("conf.d")).unwrap();
        std::fs::write(directory.path().join("conf.d/user.toml"), "[daemon]\nuser = \"sdba\"\n").unwrap();
        assert_eq!(daemon_user(&path).as_deref(), Some("sdba"));
    }
}
