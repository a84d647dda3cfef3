//! C42: whoever may write into a repository can hide and remove what is there, and cannot make a reader that knows the writer's key
//! believe anything of theirs.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, file, major, output};
use pgbosun_repository::{BackupInfo, ObjectKind};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Makes a key pair; the line of its public key.
fn keygen(directory: &Path, name: &str) -> String {
    let key = directory.join(name);
    output(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key));
    fs::read_to_string(key.with_extension("pub")).unwrap().trim().to_owned()
}

/// The lines of a repository that signs and checks.
fn signs(key: &str, trusted: &[&str]) -> String {
    let trusted: Vec<_> = trusted.iter().map(|line| format!("\"{line}\"")).collect();
    format!("signing-key-file = \"{{dir}}/{key}\"\ntrusted-keys = [{}]\n", trusted.join(", "))
}

const JOB: &str =
    "compression = \"none\"\n[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretries = 0\n";

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// What `ssh-keygen -Y verify` needs to read.
fn statement(key: &str, bytes: &[u8]) -> String {
    format!("pgbosun 1\n{key}\n{}\n", hex::encode(Sha256::digest(bytes)))
}

/// Runs a program on a text.
fn on_input(command: &mut Command, text: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// A repository that somebody else may write into.
struct Share {
    root: PathBuf,
    kept: PathBuf,
}

impl Share {
    fn new(directory: &Path) -> Self {
        let share = Self { root: directory.join("repo"), kept: directory.join("kept") };
        output(Command::new("cp").arg("-a").arg(&share.root).arg(&share.kept));
        share
    }

    /// As it was.
    fn back(&self) {
        output(Command::new("rm").arg("-rf").arg(&self.root));
        output(Command::new("cp").arg("-a").arg(&self.kept).arg(&self.root));
    }

    /// The directories of backups.
    fn backups(&self) -> Vec<PathBuf> {
        let found = output(Command::new("find").arg(&self.root).args(["-name", "backup.json"]));
        let mut found: Vec<_> = found.lines().map(|path| Path::new(path).parent().unwrap().to_owned()).collect();
        found.sort();
        found
    }

    /// The files of the archive, in order.
    fn wal(&self) -> Vec<PathBuf> {
        let found = output(Command::new("find").arg(self.root.join("main")).args(["-path", "*/wal/*", "-type", "f"]));
        let mut found: Vec<_> = found.lines().map(PathBuf::from).collect();
        found.sort();
        found
    }

    fn key(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap().display().to_string()
    }
}

fn info(place: &Path) -> BackupInfo {
    BackupInfo::from_bytes("backup.json", &fs::read(place.join("backup.json")).unwrap()).unwrap()
}

fn write_info(place: &Path, info: &BackupInfo) {
    fs::write(place.join("backup.json"), info.to_bytes().unwrap()).unwrap();
}

#[test]
fn c42_a_forged_backup_or_segment_is_refused_by_every_reader_and_named() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let (ours, _) = (keygen(dir, "ours"), keygen(dir, "theirs"));
    let configuration = format!("{}{}{JOB}", cluster_and_repository(&cluster), signs("ours", &[&ours]));
    let installation = Installation::new(dir, &configuration);
    installation.run(&["backup", "create"]);
    cluster.sql("create table t as select 1 a");
    cluster.archive_all();
    cluster.sql("insert into t values (2)");
    cluster.archive_all();
    cluster.down();
    let said_of_all = said(&installation.try_run(&["backup", "verify", "--all"]));
    assert!(said_of_all.contains("every file is signed by a trusted key"), "{said_of_all}");
    assert!(installation.try_run(&["backup", "verify", "--all"]).status.success(), "{said_of_all}");
    let share = Share::new(dir);
    let target = dir.join("restored");
    let restore = ["restore", "physical", "--to", target.to_str().unwrap()];

    // OpenSSH says the same.
    let place = share.backups().remove(0);
    let (path, bytes) = (place.join("backup.json"), fs::read(place.join("backup.json")).unwrap());
    fs::write(dir.join("signers"), format!("pgbosun {ours}\n")).unwrap();
    let openssh = |text: &str| {
        let mut verify = Command::new("ssh-keygen");
        verify.args(["-Y", "verify", "-n", "pgbosun", "-I", "pgbosun", "-f"]).arg(dir.join("signers"));
        on_input(verify.arg("-s").arg(place.join("backup.json.sig")), text)
    };
    let done = openssh(&statement(&share.key(&path), &bytes));
    assert!(done.status.success(), "{}", said(&done));
    assert!(!openssh(&statement(&share.key(&path), b"other")).status.success());
    // And the page says how, of WAL too.
    fs::copy(dir.join("ours.pub"), dir.join("key.pub")).unwrap();
    let segment = share.wal().pop().unwrap();
    for (block, variable, key) in [("backup", "B", share.key(&place)), ("wal", "W", share.key(&segment))] {
        let page = fs::read_to_string(file("docs/signatures.md")).unwrap();
        let script = page.split(&format!("```sh {block}\n")).nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        output(Command::new("ln").args(["-sfn"]).arg(share.root.join("main")).arg(dir.join("main")));
        let done = Command::new("bash").args(["-euc", script]).env(variable, key).current_dir(dir).output().unwrap();
        assert!(done.status.success() && said(&done).contains("Good \"pgbosun\" signature"), "{}", said(&done));
    }

    let refused = |words: &str, forge: &dyn Fn(&Path)| {
        share.back();
        forge(&place);
        let done = installation.try_run(&restore);
        let restored = said(&done);
        assert!(
            !done.status.success() && restored.contains("is not trusted") && restored.contains(words),
            "{restored}"
        );
        assert!(!target.exists(), "{restored}");
        let done = installation.try_run(&["backup", "verify"]);
        assert!(done.status.code() == Some(2) && said(&done).contains(words), "{}", said(&done));
        for list in [["backup", "list"].as_slice(), &["backup", "show", &info(&place).label]] {
            let done = installation.try_run(list);
            assert!(!done.status.success() && said(&done).contains(words), "{}", said(&done));
        }
        assert!(said(&installation.try_run(&["check"])).contains("1 backup not signed by a trusted key"));
    };
    refused("its signature is for something else", &|place| {
        let mut forged = info(place);
        forged.stop_lsn = forged.start_lsn;
        write_info(place, &forged);
    });
    refused("its signature is for something else", &|place| {
        let mut forged = info(place);
        let object = forged.objects.iter_mut().find(|object| object.kind == ObjectKind::Manifest).unwrap();
        let manifest = fs::read_to_string(place.join(&object.name)).unwrap().replace("PG_VERSION", "PG_VERSIOM");
        fs::write(place.join(&object.name), &manifest).unwrap();
        object.sha256 = hex::encode(Sha256::digest(&manifest));
        write_info(place, &forged);
    });
    refused("it has no signature", &|place| fs::remove_file(place.join("backup.json.sig")).unwrap());
    refused("its signature is invalid", &|place| fs::write(place.join("backup.json.sig"), "signed").unwrap());
    refused("not among trusted-keys (SHA256:", &|place| {
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-Y", "sign", "-n", "pgbosun", "-f"]).arg(dir.join("theirs"));
        let done = on_input(&mut sign, &statement(&share.key(&path), &bytes));
        assert!(done.status.success(), "{}", said(&done));
        fs::write(place.join("backup.json.sig"), done.stdout).unwrap();
    });

    // What a signature covers through the checksums in it: a volume, with the real backup.json.
    share.back();
    let volume = info(&place).object(ObjectKind::Data).unwrap().name.clone();
    let mut contents = fs::read(place.join(&volume)).unwrap();
    let middle = contents.len() / 2;
    contents[middle] ^= 1;
    fs::write(place.join(&volume), contents).unwrap();
    let done = installation.try_run(&["backup", "verify"]);
    assert!(done.status.code() == Some(2) && said(&done).contains("SHA-256"), "{}", said(&done));
    assert!(!installation.try_run(&restore).status.success() && !target.join("global/pg_control").exists());
    output(Command::new("rm").arg("-rf").arg(&target));

    // Under another label, it is another backup; the real one is there all the same, and retention goes by it alone.
    share.back();
    let moved = place.with_file_name("20990101T000000Z");
    output(Command::new("cp").arg("-a").arg(&place).arg(&moved));
    let done = installation.try_run(&["backup", "list"]);
    assert!(
        said(&done).contains(&info(&place).label)
            && said(&done).contains("20990101T000000Z/backup.json is not trusted")
    );
    let expiry = installation.json(&["backup", "expire", "--force"]);
    assert_eq!(expiry[0]["backups"].as_array().map(Vec::len), Some(1), "{expiry}");
    assert!(expiry[0]["backups"][0]["why"].as_str().unwrap().contains("not trusted"), "{expiry}");
    assert!(moved.exists() && place.exists() && expiry[0]["wal_removed"] == 0, "{expiry}");
    let done = installation.try_run(&[
        "restore",
        "physical",
        "--backup",
        "20990101T000000Z",
        "--to",
        target.to_str().unwrap(),
    ]);
    assert!(!done.status.success() && said(&done).contains("is not trusted"), "{}", said(&done));

    // Notes and histories: one that says the backup failed, one that begins a timeline before its end, so that it would be orphaned.
    share.back();
    let note = |signature: &str| {
        let mut note = serde_json::json!({"at": "2026-01-01T00:00:00Z", "checksum": "", "passed": false});
        if !signature.is_empty() {
            note["signature"] = signature.into();
        }
        note["checksum"] = hex::encode(Sha256::digest(note.to_string())).into();
        fs::write(place.join("verified.json"), note.to_string()).unwrap();
    };
    let history = "1\t0/10000\tforged\n";
    let timeline = share.wal()[0].ancestors().nth(3).unwrap().join("00000002");
    fs::create_dir_all(&timeline).unwrap();
    let name = format!("00000002.history-{}", hex::encode(Sha256::digest(history)));
    fs::write(timeline.join(name), history).unwrap();
    for signature in ["", &fs::read_to_string(place.join("backup.json.sig")).unwrap()] {
        note(signature);
        let listed = installation.json(&["backup", "list"]);
        assert_eq!(listed[0]["health"], "not verified", "{listed}");
        let forged = fs::read(place.join("verified.json")).unwrap();
        installation.run(&["backup", "verify"]);
        let listed = installation.json(&["backup", "list"]);
        assert_eq!(listed[0]["health"], "verified", "{listed}");
        fs::write(place.join("verified.json"), forged).unwrap();
    }
    installation.configure(&format!("{}{JOB}", cluster_and_repository(&cluster)));
    let listed = installation.json(&["backup", "list"]);
    assert!(listed[0]["health"].as_str().unwrap().contains("is damaged"), "without trusted-keys it counts: {listed}");
    fs::remove_file(place.join("verified.json")).unwrap();
    let listed = installation.json(&["backup", "list"]);
    assert!(listed[0]["health"].as_str().unwrap().contains("is orphaned"), "without trusted-keys it counts: {listed}");
    installation.configure(&configuration);

    // Segments: another one in the place of the last with a name that fits it, and beside it.
    share.back();
    let segment = share.wal().pop().unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap()[..24].to_owned();
    let mut crafted = fs::read(&segment).unwrap();
    crafted[9000] ^= 1;
    let forged = segment.with_file_name(format!("{name}-{}", hex::encode(Sha256::digest(&crafted))));
    let fetched = dir.join("fetched");
    let fetch = || {
        let control = fetched.join("global");
        fs::create_dir_all(&control).unwrap();
        fs::copy(cluster.data.join("global/pg_control"), control.join("pg_control")).unwrap();
        fs::create_dir_all(fetched.join("pg_wal")).unwrap();
        let mut command = installation.command(&["wal", "fetch", &name, "pg_wal/RECOVERYXLOG"]);
        command.current_dir(&fetched).output().unwrap()
    };
    share.back();
    fs::write(&forged, &crafted).unwrap();
    let done = fetch();
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(fs::read(fetched.join("pg_wal/RECOVERYXLOG")).unwrap(), fs::read(&segment).unwrap());
    let done = installation.try_run(&["wal", "list"]);
    assert!(!done.status.success() && said(&done).contains("not trusted 1 file: "), "{}", said(&done));
    let done = installation.try_run(&["backup", "verify", "--all"]);
    assert!(done.status.code() == Some(2) && said(&done).contains("FAILED signatures"), "{}", said(&done));
    fs::remove_file(&segment).unwrap();
    let done = fetch();
    assert_eq!(done.status.code(), Some(126), "{}", said(&done));
    // A signature is for one place: that of another segment is none here.
    fs::remove_file(&forged).unwrap();
    let earlier = share.wal().pop().unwrap();
    let other = earlier.file_name().unwrap().to_str().unwrap().replacen(
        &earlier.file_name().unwrap().to_str().unwrap()[..24],
        &name,
        1,
    );
    fs::copy(&earlier, segment.with_file_name(other)).unwrap();
    assert_eq!(fetch().status.code(), Some(126));
}

#[test]
fn c42_nothing_is_built_on_a_forged_backup_and_it_pushes_no_real_one_out() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let ours = keygen(dir, "ours");
    let job = format!(
        "{JOB}retention = {{ count = 1 }}\nincremental = true\n[jobs.age]\nkind = \"monitor.backup-age\"\n\
         repositories = [\"local\"]\n[repositories.other]\ntype = \"local\"\npath = \"{{dir}}/other\"\n\
         trusted-keys = [\"{ours}\"]\nrequired = false\n"
    );
    let installation =
        Installation::new(dir, &format!("{}{}{job}", cluster_and_repository(&cluster), signs("ours", &[&ours])));
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    let share = Share::new(dir);
    let real = share.backups().remove(0);
    let forged = real.with_file_name("20200101T000000Z");
    output(Command::new("cp").arg("-a").arg(&real).arg(&forged));
    // One that would count as the newest, verified, and as the parent of the next.
    let mut newer = info(&forged);
    newer.start_lsn.0 += 1 << 24;
    newer.stop_lsn.0 += 1 << 24;
    newer.label = "20200101T000000Z".into();
    write_info(&forged, &newer);
    // A segment that is not archived yet is there already, so that the server's own would be a conflict.
    let next = cluster.sql("select pg_walfile_name(pg_current_wal_insert_lsn())");
    let archived = share.wal().pop().unwrap();
    let planted = archived.with_file_name(format!("{next}-{}", "0".repeat(64)));
    fs::copy(&archived, &planted).unwrap();
    cluster.archive_all();
    installation.run(&["backup", "create"]);
    let backups = installation.json(&["backup", "list"]);
    assert_eq!(backups.as_array().map(Vec::len), Some(2), "nothing goes while one is in doubt: {backups}");
    if major() >= 17 {
        assert_eq!(backups[1]["parent"], backups[0]["label"], "{backups}");
    }
    installation.check("age");
    let found = "select group_concat(severity || ' ' || object, ', ') from (select distinct severity, object from findings order by 2)";
    assert_eq!(installation.journal(found), "critical local/signatures, warning retention in local");
    // It is no copy of the real one either.
    let other = real.parent().unwrap().to_str().unwrap().replacen("/repo/", "/other/", 1);
    output(Command::new("mkdir").args(["-p", &other]));
    output(Command::new("cp").arg("-a").arg(&real).arg(&other));
    let there = Path::new(&other).join(real.file_name().unwrap());
    fs::remove_file(there.join("backup.json.sig")).unwrap();
    let done = installation.try_run(&["backup", "copy", backups[0]["label"].as_str().unwrap(), "--to", "other"]);
    assert!(!done.status.success() && said(&done).contains("is not trusted"), "{}", said(&done));
    output(Command::new("rm").arg("-rf").arg(&there));
    // Settled by hand, all goes on: the next chain pushes the first out.
    output(Command::new("rm").arg("-rf").arg(&forged));
    installation.configure(&format!(
        "{}{}{}",
        cluster_and_repository(&cluster),
        signs("ours", &[&ours]),
        job.replace("incremental = true\n", "") + "signing-key-file = \"{dir}/ours\"\n"
    ));
    installation.run(&["backup", "create"]);
    // What waited for a repository into which this host could not sign is signed on its way.
    cluster.archive_all();
    let waited = installation.json(&["wal", "list", "--repository", "other"]);
    assert!(waited[0]["segments"].as_u64() >= Some(2) && waited[0]["untrusted"] == serde_json::json!([]), "{waited}");
    let left = installation.json(&["backup", "list"]);
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{left}");
    assert!(share.wal().iter().all(|file| *file != planted), "what nobody signed goes with the WAL around it");
    let done = installation.try_run(&["backup", "verify", "--all"]);
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn c42_what_was_there_before_is_signed_once_it_is_verified_and_keys_follow_each_other() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let (first, second) = (keygen(dir, "first"), keygen(dir, "second"));
    let base = cluster_and_repository(&cluster);
    let other = "[repositories.other]\ntype = \"local\"\npath = \"{dir}/other\"\nrequired = false\n";
    let installation = Installation::new(dir, &format!("{base}{JOB}"));
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    let share = Share::new(dir);
    let (label, target) = (info(&share.backups()[0]).label, dir.join("restored"));
    installation.run(&["backup", "keep", &label]);
    let restores = |words: &str| {
        let done = installation.try_run(&["restore", "physical", "--to", target.to_str().unwrap(), "--force"]);
        assert!(done.status.success() == words.is_empty() && said(&done).contains(words), "{}", said(&done));
        output(Command::new("rm").arg("-rf").arg(&target));
    };

    // From now on nothing counts that is not signed, until somebody says so; what is damaged is not signed.
    let keyed = |key: &str, trusted: &[&str]| installation.configure(&format!("{base}{}{JOB}", signs(key, trusted)));
    keyed("first", &[&first]);
    restores("it has no signature");
    let done = installation.try_run(&["backup", "sign", "--all"]);
    assert!(!done.status.success() && said(&done).contains("confirm with --force"), "{}", said(&done));
    let wal = share.wal().pop().unwrap();
    let whole = fs::read(&wal).unwrap();
    fs::write(&wal, &whole[..100]).unwrap();
    let done = installation.try_run(&["backup", "sign", "--all", "--force"]);
    assert!(done.status.code() == Some(2) && said(&done).contains("not signed:"), "{}", said(&done));
    fs::write(&wal, whole).unwrap();
    installation.run(&["backup", "sign", "--all", "--force"]);
    let done = installation.try_run(&["backup", "verify", "--all"]);
    assert!(done.status.success(), "{}", said(&done));
    let expiry = installation.json(&["backup", "expire", "--force"]);
    assert!(expiry[0]["backups"][0]["why"].as_str().unwrap().contains("kept"), "{expiry}");
    restores("");

    // A copy keeps the signature where this host has no key.
    installation.configure(&format!("{base}{}{JOB}{other}trusted-keys = [\"{first}\"]\n", signs("first", &[&first])));
    installation.run(&["backup", "copy", &label, "--to", "other"]);
    let done = installation.try_run(&["backup", "list"]);
    assert!(done.status.success() && said(&done).matches(&label).count() == 2, "{}", said(&done));

    // Rotation: both are trusted until what the first has signed is gone, or was signed anew.
    keyed("second", &[&first, &second]);
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    assert_eq!(installation.json(&["backup", "list"]).as_array().map(Vec::len), Some(2));
    keyed("second", &[&second]);
    let done = installation.try_run(&["backup", "list"]);
    assert!(
        said(&done).contains(&format!("{label}/backup.json is not trusted: it is signed by a key that")),
        "{}",
        said(&done)
    );
    installation.run(&["backup", "sign", "--all", "--force"]);
    assert!(installation.try_run(&["backup", "verify", "--all"]).status.success());
    restores("");

    // A host that could only write what nobody believes says so, and archives and backs up nothing. The server has another command
    // meanwhile, so that it does not wait for ours.
    cluster.sql("alter system set archive_command = '/bin/true'");
    cluster.sql("select pg_reload_conf()");
    let segment = cluster.data.join("pg_wal").join(cluster.sql("select pg_walfile_name(pg_switch_wal())"));
    let refused = |words: &str| {
        for arguments in [["check"].as_slice(), &["backup", "create"], &["wal", "push", segment.to_str().unwrap()]] {
            let done = installation.try_run(arguments);
            assert!(!done.status.success() && said(&done).contains(words), "{}", said(&done));
        }
    };
    keyed("first", &[&second]);
    refused("is not among its trusted-keys");
    fs::set_permissions(dir.join("second"), PermissionsExt::from_mode(0o644)).unwrap();
    keyed("second", &[&second]);
    refused("it is open to others (mode 0644): chmod 0600");
    installation.configure(&format!("{base}trusted-keys = [\"{second}\"]\n{JOB}"));
    refused("it has trusted-keys but no signing-key-file");
    restores("");
    installation.configure(&format!("{base}trusted-keys = [\"ssh-rsa AAAA\"]\n{JOB}"));
    assert!(said(&installation.try_run(&["config", "check"])).contains("is not a public key of type ssh-ed25519"));

    installation.configure(&format!("{base}signing-key-file = \"{{dir}}/repo/key\"\n{JOB}"));
    assert!(said(&installation.try_run(&["config", "check"])).contains("is in the repository itself"));

    // Who checks nothing reads it all.
    installation.configure(&format!("{base}{JOB}"));
    assert!(installation.try_run(&["backup", "verify", "--all"]).status.success());
    restores("");
}

#[test]
fn c42_what_is_not_signed_can_delay_and_decides_nothing() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let ours = keygen(dir, "ours");
    let trusting = format!("{}{}", cluster_and_repository(&cluster), signs("ours", &[&ours]));
    let installation = Installation::new(dir, &format!("{trusting}stall-timeout = \"2s\"\n{JOB}"));
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    let share = Share::new(dir);
    let place = share.backups().remove(0);
    let system = place.parent().unwrap().parent().unwrap().to_owned();
    let forge = |path: &Path, mut object: serde_json::Value| {
        object["checksum"] = "".into();
        object["checksum"] = hex::encode(Sha256::digest(object.to_string())).into();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, object.to_string()).unwrap();
    };
    let read = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let count = || installation.json(&["backup", "list"]).as_array().map(Vec::len);
    let target = dir.join("restored");

    // The repository's own description: who may read what is written, and how, is for the configuration to say.
    let description = share.root.join("pgbosun.json");
    let honest = read(&description);
    let mut forged = honest.clone();
    for (name, value) in [("encryption", "off"), ("compression", "lz4"), ("path", "/tmp"), ("wal-segment-size", "0")] {
        forged[name] = value.into();
    }
    forged["recipients"] = serde_json::json!(["age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"]);
    forge(&description, forged);
    installation.run(&["backup", "create"]);
    let written = info(share.backups().last().unwrap());
    assert!(written.objects.iter().all(|object| !object.name.contains("age") && !object.name.contains("lz4")));
    // A format of the future stops who writes, and nobody who restores: every backup says its own, signed.
    let mut forged = honest.clone();
    forged["format"] = 99.into();
    forge(&description, forged);
    let done = installation.try_run(&["backup", "list"]);
    assert!(said(&done).contains(&written.label) && said(&done).contains("pgbosun.json"), "{}", said(&done));
    let done = installation.try_run(&["backup", "create"]);
    assert!(!done.status.success() && said(&done).contains("pgbosun.json"), "{}", said(&done));
    let done = installation.try_run(&["restore", "physical", "--to", target.to_str().unwrap()]);
    assert!(done.status.success(), "{}", said(&done));
    // Another repository than before is none that anything is written into, or removed from.
    let mut forged = honest.clone();
    forged["id"] = "01890000-0000-7000-8000-000000000000".into();
    forge(&description, forged);
    for arguments in [["backup", "create"].as_slice(), &["backup", "expire", "--force"], &["check"]] {
        let done = installation.try_run(arguments);
        assert!(
            !done.status.success() && said(&done).contains("a different repository than before"),
            "{}",
            said(&done)
        );
    }
    forge(&description, honest);
    assert_eq!(count(), Some(2));

    // An expiry that nobody announces: no backup and no reader waits for it, no other expiry stays away.
    let now = chrono::Utc::now();
    let lease = |at: chrono::DateTime<chrono::Utc>| {
        let somebody = "01890000-0000-7000-8000-000000000000";
        serde_json::json!({"instance": somebody, "process": somebody, "started-at": at.to_rfc3339()})
    };
    let expiry = system.join("leases/expire.json");
    forge(&expiry, lease(now));
    installation.run(&["backup", "create"]);
    assert!(expiry.exists() && count() == Some(3));
    let done = installation.try_run(&["backup", "expire", "--force"]);
    assert!(done.status.success(), "{}", said(&done));
    // A backup that nobody writes: an expiry says who it waits for, and for no longer than a lease may last.
    let writing = system.join("leases/20990101T000000Z.json");
    forge(&writing, lease(now));
    let done = installation.try_run(&["backup", "expire", "--force"]);
    assert!(!done.status.success() && said(&done).contains("20990101T000000Z"), "{}", said(&done));
    for minutes in [-61, 61] {
        forge(&writing, lease(now + chrono::TimeDelta::minutes(minutes)));
        let done = installation.try_run(&["backup", "expire", "--force"]);
        assert!(done.status.success(), "{}", said(&done));
    }
    assert_eq!(count(), Some(3), "nobody's backup is taken for a leftover");

    // One that is damaged, and was found to be, is not called good by whoever says so.
    let place = share.backups().remove(0);
    let volume = place.join(&info(&place).object(ObjectKind::Data).unwrap().name);
    fs::write(&volume, &fs::read(&volume).unwrap()[1..]).unwrap();
    let label = info(&place).label;
    assert!(!installation.try_run(&["backup", "verify", &label]).status.success());
    forge(&place.join("verified.json"), serde_json::json!({"at": now.to_rfc3339(), "passed": true}));
    let listed = installation.json(&["backup", "list"]);
    let listed = listed.as_array().unwrap().iter().find(|backup| backup["label"] == *label).unwrap();
    assert_ne!(listed["health"], "verified", "{listed}");

    // Who cannot announce an expiry so that others believe it expires nothing.
    installation.configure(&format!("{}trusted-keys = [\"{ours}\"]\n{JOB}", cluster_and_repository(&cluster)));
    let done = installation.try_run(&["backup", "expire", "--force"]);
    assert!(!done.status.success() && said(&done).contains("no signing-key-file"), "{}", said(&done));
}
