//! Who may read and write what only PostgreSQL and pgbosun should (reference 000: permissions of configuration, keys and
//! backups, and their owners).

mod elsewhere;

use crate::{
    Baseline, JobContext, JobError,
    monitors::{Monitor, MonitorFacts, MonitorSession, Verdict},
};
use async_trait::async_trait;
use pgbosun_core::{
    config::{Config, Needs},
    detail::Detail,
    finding::{Finding, Severity},
    mounts::Mounts,
    options,
};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

options! {
    /// Alerts when configuration, passwords, keys, data directories, local repositories or the state of pgbosun are open to
    /// anyone but their owner, or belong to anyone other than root, the daemon's user, or the server's. If a server has its
    /// configuration elsewhere, as on Debian, that is checked too, with the files it names for access and keys.
    /// So is the file with the credentials of a share that `/etc/fstab` mounts for a repository.
    pub struct Permissions {
        /// More files and directories that only their owner may read.
        paths: Vec<PathBuf> = "[]";
    }
}

/// What is allowed to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    /// Nothing.
    Nothing,
    /// The group may read: what PostgreSQL itself allows of its data directory.
    GroupReads,
    /// All may read, and only the owner write.
    AllRead,
}

impl Allowed {
    /// The bits that must not be set.
    const fn refused(self) -> u32 {
        match self {
            Self::Nothing => 0o077,
            Self::GroupReads => 0o027,
            Self::AllRead => 0o022,
        }
    }
}

/// One file or directory.
pub struct Sample {
    path: PathBuf,
    mode: u32,
    owner: u32,
    allowed: u32,
    /// Whether it belongs to root, the daemon's user or a server's.
    ours: bool,
}

#[async_trait]
impl Monitor for Permissions {
    const FACTS: MonitorFacts = MonitorFacts {
        every: "33 * * * *",
        group: "security",
        checks: 1,
        needs: Needs::Host,
        source: "reference 000: 0600 and 0700, owner",
        queries: &[],
    };
    type Sample = Vec<Sample>;
    type Memory = ();

    async fn sample(&self, session: &mut MonitorSession<'_>) -> Result<Self::Sample, JobError> {
        let mut watched = watched(session.context);
        watched.extend(self.paths.iter().map(|path| (path.clone(), Allowed::Nothing)));
        let data: Vec<_> =
            session.context.config.clusters.values().filter_map(|cluster| cluster.data_directory.clone()).collect();
        let local: Vec<_> = local(&session.context.config).collect();
        let place = data.first().unwrap_or(&session.context.config.daemon.state_directory).clone();
        super::at("check permissions", &place, move || {
            watched.extend(data.iter().flat_map(|data| elsewhere::files(data)));
            let mounts = Mounts::of_this_machine();
            let passwords = local.iter().filter_map(|path| mounts.credentials_of(path));
            watched.extend(passwords.map(|file| (file.to_owned(), Allowed::Nothing)));
            // PostgreSQL itself starts on a data directory of its own user only.
            let servers = data.iter().filter_map(|data| Some(data.metadata().ok()?.uid()));
            let owners: Vec<_> = servers.chain([0, nix::unistd::geteuid().as_raw()]).collect();
            // What is not there is open to nobody.
            Ok(watched.iter().filter_map(|(path, allowed)| look_at(path, *allowed, &owners)).collect())
        })
        .await
    }

    fn verdict(&self, sample: &Self::Sample, (): &mut (), _: &Baseline) -> Verdict {
        let mut verdict = Verdict::of(format!("{} files and directories", sample.len()));
        for Sample { path, owner, .. } in sample.iter().filter(|one| !one.ours) {
            let (path, owner) = (path.display().to_string(), owner_name(*owner));
            verdict.find(
                Finding::new(Severity::Warning, format!("{path} (owner)"), format!("{path} belongs to {owner}"))
                    .meaning("Its owner can change it, and decides who may read it, whatever its mode says.")
                    .advice(format!("Find out how that happened, then fix it: chown postgres: {path}"))
                    .detail(Detail::new().fact("owner", owner)),
            );
        }
        for Sample { path, mode, owner, allowed, .. } in sample.iter().filter(|one| one.mode & one.allowed != 0) {
            let path = path.display().to_string();
            let tight = mode & !allowed;
            verdict.find(
                Finding::new(Severity::Warning, &path, format!("{path} is open to others (mode {mode:04o})"))
                    .meaning("Whoever has an account on this machine may read or change it: passwords, keys, or data.")
                    .advice(format!("chmod {tight:04o} {path}"))
                    .detail(Detail::new().fact("mode", format!("{mode:04o}")).fact("owner", owner_name(*owner))),
            );
        }
        verdict
    }
}

fn look_at(path: &Path, allowed: Allowed, owners: &[u32]) -> Option<Sample> {
    let metadata = path.metadata().ok()?;
    Some(Sample {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        allowed: allowed.refused(),
        ours: owners.contains(&metadata.uid()),
    })
}

fn owner_name(id: u32) -> String {
    let known = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(id)).ok().flatten();
    known.map_or_else(|| id.to_string(), |user| user.name)
}

/// Where repositories are on this machine.
fn local(config: &Config) -> impl Iterator<Item = PathBuf> {
    config.repositories.values().filter_map(|repository| repository.store.directory().map(Path::to_owned))
}

/// What this configuration says is there.
fn watched(context: &JobContext) -> Vec<(PathBuf, Allowed)> {
    let config: &Config = &context.config;
    let mut watched =
        vec![(config.path.clone(), Allowed::AllRead), (config.daemon.state_directory.clone(), Allowed::Nothing)];
    let mut secret = |file: &Option<PathBuf>| watched.extend(file.clone().map(|file| (file, Allowed::Nothing)));
    secret(&config.history.password_file);
    config.clusters.values().for_each(|cluster| secret(&cluster.password_file));
    config.mail.iter().for_each(|mail| secret(&mail.password_file));
    config.mail.iter().for_each(|mail| secret(&mail.oauth2_client_secret_file));
    for repository in config.repositories.values() {
        secret(&repository.common.identity_file);
        secret(&repository.common.signing_key_file);
    }
    let of_channels = config.channels.values().flat_map(|channel| channel.own.secret_files());
    let of_stores = config.repositories.values().flat_map(|repository| repository.store.secret_files());
    watched.extend(of_channels.chain(of_stores).map(|file| (file.to_owned(), Allowed::Nothing)));
    for cluster in config.clusters.values() {
        let data = cluster.data_directory.iter();
        let files = ["", "postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", "server.key"];
        watched.extend(data.flat_map(|data| files.map(|file| (data.join(file), Allowed::GroupReads))));
    }
    watched.extend(local(config).map(|path| (path, Allowed::GroupReads)));
    watched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_somebody_else_is_told_whatever_its_mode() {
        let check = |mode, ours| {
            let allowed = Allowed::GroupReads.refused();
            let sample = vec![Sample { path: "/data".into(), mode, owner: 4_000_000, allowed, ours }];
            let verdict = Permissions { paths: Vec::new() }.verdict(&sample, &mut (), &Baseline::default());
            verdict.findings.into_iter().map(|finding| finding.summary).collect::<Vec<_>>()
        };
        assert_eq!(check(0o750, true), [""; 0]);
        assert_eq!(check(0o750, false), ["/data belongs to 4000000"]);
        assert_eq!(check(0o757, false), ["/data belongs to 4000000", "/data is open to others (mode 0757)"]);
    }
}
