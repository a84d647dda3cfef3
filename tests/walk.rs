//! A random walk over chains in two real repositories: backups, damage, loss, verification, expiry, copies, new timelines, clocks
//! that are wrong by a year, a repository that refuses. Beside it runs a model that knows what was really damaged.
//!
//! At every step: what verification says is what the model says; expiry keeps the newest two good chains it knows of; the newest
//! good backup restores to the state it was taken at. The walk is the same every time; PGBOSUN_TEST_SEED takes another (`make
//! test-full` a new one each time), and PGBOSUN_TEST_STEPS is its length.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, major, output, with_clock};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
};

const REPOSITORIES: [(&str, &str); 2] = [("local", "repo"), ("second", "second")];

/// xorshift: the same walk for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// A backup as listed.
#[derive(Clone, Debug)]
struct Listed {
    label: String,
    parent: Option<String>,
    repository: String,
    suspect: bool,
    verified: bool,
}

struct Walk {
    directory: tempfile::TempDir,
    cluster: Cluster,
    installation: Installation,
    chance: Chance,
    /// What was really damaged, by repository and label.
    damaged: BTreeSet<(String, String)>,
    /// What the table held when a backup was taken.
    state: BTreeMap<String, String>,
    log: Vec<String>,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn c27_c33_whatever_happens_what_is_called_good_restores() {
    if major() < 17 {
        return;
    }
    let seed = number("PGBOSUN_TEST_SEED").unwrap_or(62_580_977_501_337);
    let mut walk = Walk::new(seed);
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for step in 0..number("PGBOSUN_TEST_STEPS").unwrap_or(40) {
            walk.step(step);
        }
        walk.verified();
        walk.restores();
    }));
    if let Err(panic) = told {
        eprintln!("PGBOSUN_TEST_SEED={seed}, the walk:\n{}\n{:#?}", walk.log.join("\n"), walk.listed());
        std::panic::resume_unwind(panic);
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        let directory = directory();
        let cluster = Cluster::start_with(directory.path(), "summarize_wal = on\nrestore_command = 'false'\n");
        let configuration = format!(
            "{}[repositories.second]\ntype = \"local\"\npath = \"{{dir}}/second\"\nrequired = false\n\
             [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"second\"]\nincremental = true\n\
             chain-limit = 2\nretention = {{ count = 2 }}\nretries = 0\n",
            cluster_and_repository(&cluster)
        );
        let installation = Installation::new(directory.path(), &configuration);
        cluster.sql("create table steps as select generate_series(1, 5000) step");
        Self {
            directory,
            cluster,
            installation,
            chance: Chance(seed),
            damaged: BTreeSet::new(),
            state: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn step(&mut self, step: u64) {
        match self.chance.below(13) {
            0..4 => self.create(step, None),
            4 => {
                let ahead = ["+400d", "-400d"][self.chance.below(2)];
                self.create(step, Some(ahead));
            }
            5 => self.damage(false),
            6 => self.damage(true),
            7 => self.verified(),
            8 => self.expire(),
            9 => {
                self.verified();
                self.expire();
            }
            10 => self.copy(),
            11 => self.refusing(step),
            _ => self.new_timeline(),
        }
        if step % 10 == 9 {
            self.verified();
            self.restores();
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.log.push(what.into());
    }

    fn listed(&self) -> Vec<Listed> {
        let done = self.installation.command(&["--json", "backup", "list"]).output().expect("the program");
        let all: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        let text = |one: &serde_json::Value, key: &str| one[key].as_str().map(str::to_owned);
        let of = |one: &serde_json::Value| Listed {
            label: text(one, "label").expect("a label"),
            parent: text(one, "parent"),
            repository: text(one, "repository").expect("a repository"),
            suspect: one["suspect"] == true,
            verified: one["verified"] == true,
        };
        all.as_array().expect("a list").iter().map(of).collect()
    }

    fn place(&self, one: &Listed) -> PathBuf {
        let root = REPOSITORIES.iter().find(|(name, _)| *name == one.repository).expect("a repository").1;
        let root = self.directory.path().join(root).join("main");
        let system = fs::read_dir(&root).expect("a cluster").flatten().find(|entry| entry.path().is_dir());
        system.expect("a system").path().join("backups").join(&one.label)
    }

    /// Whether a backup can be restored from where it lies, as the model knows.
    fn is_sound(&self, one: &Listed, all: &[Listed]) -> bool {
        let mut link = Some(one.clone());
        while let Some(at) = link {
            if self.damaged.contains(&(at.repository.clone(), at.label.clone())) {
                return false;
            }
            let Some(parent) = &at.parent else { return true };
            link = all.iter().find(|other| other.label == *parent && other.repository == at.repository).cloned();
        }
        false
    }

    fn create(&mut self, step: u64, clock: Option<&str>) {
        self.cluster.sql(&format!(
            "update steps set step = step where step % 7 = 0; insert into steps values ({})",
            10_000 + step
        ));
        let state = self.cluster.sql("select count(*), sum(step) from steps");
        let before: BTreeSet<_> = self.listed().into_iter().map(|one| one.label).collect();
        let mut command = self.installation.command(&["backup", "create"]);
        if let Some(ahead) = clock {
            with_clock(&mut command, ahead);
        }
        let sound = self.promised();
        let done = command.output().expect("the program");
        assert!(done.status.success(), "backup create: {}", words(&done));
        let taken = self
            .listed()
            .into_iter()
            .find(|one| !before.contains(&one.label))
            .expect("a new backup, never removed by its own run");
        self.note(format!("create {} on {:?} {}", taken.label, taken.parent, clock.unwrap_or_default()));
        self.state.insert(taken.label.clone(), state);
        self.kept(&sound, Some(&taken));
    }

    fn damage(&mut self, lose: bool) {
        let all = self.listed();
        let Some(one) = all.get(self.chance.below(all.len())).cloned() else { return };
        let mut volumes: Vec<_> =
            fs::read_dir(self.place(&one)).expect("a backup").flatten().map(|entry| entry.path()).collect();
        volumes.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".tar")));
        volumes.sort();
        let Some(volume) = volumes.get(self.chance.below(volumes.len())) else { return };
        if lose {
            fs::remove_file(volume).expect("lost");
        } else {
            let file = fs::File::options().read(true).write(true).open(volume).expect("a volume");
            let at = self.chance.below(file.metadata().expect("its size").len() as usize) as u64;
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("a byte");
            file.write_all_at(&[byte[0] ^ 0x55], at).expect("a byte");
        }
        let name = volume.file_name().expect("a name").to_string_lossy().into_owned();
        self.note(format!("{} {name} of {} in {}", if lose { "lose" } else { "damage" }, one.label, one.repository));
        self.damaged.insert((one.repository, one.label));
    }

    /// Verifies all; what it says is what the model says.
    fn verified(&mut self) {
        self.note("verify --all");
        self.installation.try_run(&["backup", "verify", "--all"]);
        // A link is verified before or after what builds on it; a second look settles what the first one noted.
        let all = self.listed();
        for one in &all {
            let sound = self.is_sound(one, &all);
            assert_eq!((one.suspect, one.verified), (!sound, sound), "{one:?}");
        }
    }

    /// The newest two of each repository that the program calls verified, the newest first, and whether they are.
    fn promised(&self) -> Vec<(Listed, bool)> {
        let all = self.listed();
        let mut promised = Vec::new();
        for (name, _) in REPOSITORIES {
            let own = all.iter().filter(|one| one.repository == name && one.verified);
            promised.extend(own.rev().take(2).map(|one| (one.clone(), self.is_sound(one, &all))));
        }
        promised
    }

    /// What was promised and sound is there and sound, but for the older one where a new one took its place. Damage that nobody has
    /// found yet takes a place as well.
    fn kept(&self, promised: &[(Listed, bool)], new: Option<&Listed>) {
        let all = self.listed();
        for (name, _) in REPOSITORIES {
            let replaced = new.is_some_and(|new| {
                all.iter().any(|one| one.label == new.label && one.repository == name && one.verified)
            });
            let own = promised.iter().filter(|(one, _)| one.repository == name);
            for (one, _) in own.take(if replaced { 1 } else { 2 }).filter(|(_, sound)| *sound) {
                let there = all.iter().find(|other| other.label == one.label && other.repository == name);
                assert!(there.is_some_and(|there| self.is_sound(there, &all)), "{one:?} was promised");
            }
        }
    }

    fn expire(&mut self) {
        self.note("expire");
        let promised = self.promised();
        // A clock that is in doubt beside the newest backup removes nothing, and says so.
        self.installation.try_run(&["backup", "expire", "--force"]);
        self.kept(&promised, None);
    }

    fn copy(&mut self) {
        let all = self.listed();
        let Some(one) = all.get(self.chance.below(all.len())).cloned() else { return };
        let to = REPOSITORIES.iter().find(|(name, _)| *name != one.repository).expect("another").0;
        let done = self.installation.try_run(&["backup", "copy", &one.label, "--to", to, "--from", &one.repository]);
        self.note(format!("copy {} from {} to {to}: {}", one.label, one.repository, done.status));
        // What is not sound is not copied, known or not: every object is compared with its hash.
        let copied = self.listed().into_iter().any(|other| other.label == one.label && other.repository == to);
        let there = all.iter().any(|other| other.label == one.label && other.repository == to);
        assert!(there || !copied || self.is_sound(&one, &all), "a copy of damage: {}", words(&done));
    }

    /// The second repository refuses for the length of one backup.
    fn refusing(&mut self, step: u64) {
        let root = self.directory.path().join("second");
        if !root.exists() {
            return self.create(step, None);
        }
        let protect = |mode: u32| {
            let found = output(Command::new("find").arg(&root).args(["-type", "d"]));
            for directory in found.lines() {
                fs::set_permissions(directory, fs::Permissions::from_mode(mode)).expect("its mode");
            }
        };
        self.note("second refuses");
        protect(0o500);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.create(step, None)));
        protect(0o700);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    }

    /// Recovery ends on a new timeline, as after a promotion.
    fn new_timeline(&mut self) {
        self.note("a new timeline");
        self.cluster.stop();
        fs::write(self.cluster.data.join("recovery.signal"), "").expect("a signal");
        self.cluster.up();
        let cluster = &self.cluster;
        cluster.recovered();
    }

    /// The newest good backup restores to the state it was taken at.
    fn restores(&mut self) {
        let all = self.listed();
        if !all.iter().any(|one| one.verified) {
            return;
        }
        let target = self.directory.path().join("restored");
        let arguments = ["restore", "physical", "--to", target.to_str().expect("a path"), "--immediate"];
        let done = self.installation.try_run(&arguments);
        assert!(done.status.success(), "restore: {}", words(&done));
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let label = self.state.keys().find(|label| said.contains(*label) || words(&done).contains(*label));
        let label = label.unwrap_or_else(|| panic!("which backup was restored: {}", words(&done))).clone();
        self.note(format!("restore {label}"));
        let socket = self.directory.path().join("r");
        fs::create_dir_all(&socket).expect("a directory");
        {
            let server = Cluster::adopt(&target, &socket);
            server.recovered();
            assert_eq!(Some(&server.sql("select count(*), sum(step) from steps")), self.state.get(&label), "{label}");
        }
        remove(&target);
    }
}

fn remove(path: &Path) {
    fs::remove_dir_all(path).expect("removed");
}

fn words(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}
