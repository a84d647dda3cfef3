//! C36: what somebody who may write into a repository does to a backup, with all its checksums made right again.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, output, postgres};
use pgbosun_repository::{BackupInfo, ObjectKind};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A backup in a local repository without compression, to be changed.
struct Forged {
    place: PathBuf,
    info: BackupInfo,
}

impl Forged {
    /// The only backup there.
    fn open(directory: &Path) -> Self {
        let found = output(Command::new("find").arg(directory.join("repo")).args(["-name", "backup.json"]));
        let path = PathBuf::from(found.trim());
        let info = BackupInfo::from_bytes("backup.json", &fs::read(&path).unwrap()).unwrap();
        Self { place: path.parent().unwrap().to_owned(), info }
    }

    /// The name of the volume that holds `PG_VERSION`.
    fn data(&self) -> String {
        let volumes = self.info.objects.iter().filter(|object| object.kind == ObjectKind::Data);
        let has = |bytes: Vec<u8>| {
            let mut archive = tar::Archive::new(bytes.as_slice());
            archive.entries().unwrap().any(|entry| entry.unwrap().path().unwrap() == Path::new("PG_VERSION"))
        };
        volumes.map(|object| object.name.clone()).find(|name| has(self.read(name))).expect("PG_VERSION")
    }

    /// The name of the first object of a kind.
    fn name(&self, kind: ObjectKind) -> String {
        self.info.object(kind).expect("such an object").name.clone()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.place.join(name)).unwrap()
    }

    fn write(&mut self, name: &str, bytes: &[u8]) {
        fs::write(self.place.join(name), bytes).unwrap();
        let object = self.info.objects.iter_mut().find(|object| object.name == name).unwrap();
        (object.size, object.plain_size) = (bytes.len() as u64, bytes.len() as u64);
        object.sha256 = hex::encode(Sha256::digest(bytes));
        fs::write(self.place.join("backup.json"), self.info.to_bytes().unwrap()).unwrap();
    }

    /// Writes a volume anew from its members, each as often and with such contents as `change` says.
    fn change(&mut self, name: &str, change: impl Fn(&Path, Vec<u8>) -> Vec<Vec<u8>>) {
        let bytes = self.read(name);
        let mut builder = tar::Builder::new(Vec::new());
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
            let mut contents = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut contents).unwrap();
            for contents in change(&path, contents) {
                header.set_size(contents.len() as u64);
                header.set_cksum();
                builder.append(&header, contents.as_slice()).unwrap();
            }
        }
        self.write(name, &builder.into_inner().unwrap());
    }
}

#[test]
fn c36_a_restore_writes_what_the_manifest_names_each_once_or_fails() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let job = "compression = \"none\"\n[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    let target = directory.path().join("restored");
    let arguments = ["restore", "physical", "--to", target.to_str().unwrap()];
    let kept = directory.path().join("kept");
    output(Command::new("cp").arg("-a").arg(directory.path().join("repo")).arg(&kept));
    let version = Path::new("PG_VERSION");
    let refused = |words: &str, forge: &dyn Fn(&mut Forged)| {
        output(Command::new("rm").arg("-rf").arg(directory.path().join("repo")).arg(&target));
        output(Command::new("cp").arg("-a").arg(&kept).arg(directory.path().join("repo")));
        let mut forged = Forged::open(directory.path());
        forge(&mut forged);
        let done = installation.try_run(&arguments);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(words), "{words}: {done:?}");
        assert!(!target.join("global/pg_control").exists(), "{words}: nothing starts from it");
    };
    refused("none of its volumes", &|forged| {
        let name = forged.data();
        forged.change(&name, |path, contents| if path == version { vec![] } else { vec![contents] });
    });
    refused("appears twice", &|forged| {
        let name = forged.data();
        let twice = |contents: Vec<u8>| vec![contents.clone(), contents];
        forged.change(&name, |path, contents| if path == version { twice(contents) } else { vec![contents] });
    });
    refused("does not have the checksum", &|forged| {
        let name = forged.data();
        let other = |contents: Vec<u8>| contents.into_iter().map(|byte| byte ^ 1).collect();
        forged.change(&name, |path, contents| vec![if path == version { other(contents) } else { contents }]);
    });
    refused("none of its volumes", &|forged| {
        // Left out of the list of files: what a restore goes by.
        let name = forged.name(ObjectKind::Index);
        let text = String::from_utf8(forged.read(&name)).unwrap();
        assert!(text.contains("\"PG_VERSION\","), "{text:.200}");
        forged.write(&name, text.replacen("\"PG_VERSION\",", "", 1).as_bytes());
    });
    refused("lacks the WAL segment", &|forged| {
        let name = forged.name(ObjectKind::Wal);
        forged.change(&name, |_, _| vec![]);
    });
    refused("appears twice", &|forged| {
        let name = forged.name(ObjectKind::Wal);
        forged.change(&name, |_, contents| vec![contents.clone(), contents]);
    });
    refused("lists \"PG_VERSION\" twice", &|forged| {
        let name = forged.name(ObjectKind::Manifest);
        let text = String::from_utf8(forged.read(&name)).unwrap();
        let line = text.lines().find(|line| line.contains("\"PG_VERSION\"")).unwrap();
        let body = text.split("\"Manifest-Checksum\"").next().unwrap();
        let body = body.replacen("\"Files\": [", &format!("\"Files\": [\n{},", line.trim_end_matches(',')), 1);
        let checksum = hex::encode(Sha256::digest(&body));
        forged.write(&name, format!("{body}\"Manifest-Checksum\": \"{checksum}\"}}\n").as_bytes());
    });
}

#[test]
fn c27_c36_what_a_restore_refuses_is_no_verified_backup_and_a_list_of_nothing_fills_no_memory() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let job = "compression = \"none\"\n[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    let mut forged = Forged::open(directory.path());
    let (index, label) = (forged.name(ObjectKind::Index), forged.info.label.clone());
    let whole = forged.read(&index);
    let text = String::from_utf8(whole.clone()).unwrap();
    // With as much memory as a verification needs, and no more.
    let verify = || {
        let inner = installation.command(&["backup", "verify", &label]);
        let mut limited = Command::new("prlimit");
        limited.arg("--as=700000000").arg(inner.get_program()).args(inner.get_args()).env("MALLOC_ARENA_MAX", "1");
        let envs = inner.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let done = limited.envs(envs).output().unwrap();
        (
            done.status.code(),
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)),
        )
    };
    let (code, said) = verify();
    assert_eq!(code, Some(0), "{said}");
    let nothing = format!("{{\"base.0001.tar\":[{}\"\"]}}", "\"\",".repeat(17 << 20));
    for (words, forgery) in [
        ("has all of \"base/1/1\"", text.replacen("\"PG_VERSION\"", "\"PG_VERSION\",\"base/1/INCREMENTAL.1\"", 1)),
        ("is damaged: ", text.replacen('[', "[7,", 1)),
        ("more files are listed", nothing),
    ] {
        forged.write(&index, forgery.as_bytes());
        let (code, said) = verify();
        assert!(code == Some(2) && said.contains(words), "{words}: {code:?} {said:.2000}");
    }
    forged.write(&index, &whole);
    assert_eq!(verify().0, Some(0));
}

#[test]
fn c29_a_scratch_server_writes_nowhere_outside_its_directory() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let (file, program) = (directory.path().join("by-file"), directory.path().join("by-program"));
    let by_file = format!("copy (select 1) to '{}'", file.display());
    let by_program = format!("copy (select 1) to program 'cat > {}'", program.display());
    let jobs = format!(
        "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n[jobs.test]\nkind = \"restore-test\"\n\
         program-directory = \"{}\"\namcheck = false\nqueries = [{}]\n",
        postgres("").display(),
        [&by_file, &by_program].map(|sql| format!("{{ database = \"postgres\", sql = \"{sql}\" }}")).join(", ")
    );
    let installation = Installation::new(directory.path(), &format!("{}{jobs}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    // What is not fenced may: the original, by the same words.
    for (sql, made) in [(&by_file, &file), (&by_program, &program)] {
        cluster.sql(sql);
        fs::remove_file(made).unwrap();
    }
    installation.check("test");
    let said = installation.journal("select detail from findings where object = 'contents'");
    assert!(!file.exists() && !program.exists(), "{said}");
    // Had it been allowed, it would have been done, and had no answer.
    assert!(said.contains("by-file") && said.contains("by-program") && !said.contains("returned nothing"), "{said}");
}
