//! C10, C35, C36, C42: what somebody else put into a repository stops nobody who need not have it, and nothing is called copied or
//! signed that readers will not believe, or that nobody read.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, output};
use pgbosun_repository::BackupInfo;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

/// What there is below a directory.
fn below(directory: &Path, name: &str) -> Vec<PathBuf> {
    let found = output(Command::new("find").arg(directory).args(["-name", name]));
    found.lines().map(PathBuf::from).collect()
}

#[test]
fn c10_c35_a_name_stands_for_no_server_and_another_one_in_a_share_costs_the_others_nothing() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    let installation = Installation::new(
        dir,
        &format!(
            "{}[repositories.share]\ntype = \"local\"\npath = \"{{dir}}/share\"\nrequired = false\n\
             [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"share\"]\nretries = 0\n",
            cluster_and_repository(&cluster)
        ),
    );
    for root in ["repo", "share"] {
        fs::create_dir_all(dir.join(root).join("main/1/backups/x")).unwrap();
        fs::create_dir_all(dir.join(root).join("main/2")).unwrap();
        fs::write(dir.join(root).join("main/3"), "a file").unwrap();
        fs::write(dir.join(root).join("main/1/backups/x/backup.json"), "[]").unwrap();
    }
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    let list = || {
        let all = installation.json(&["backup", "list"]);
        let of = |name: &str| all.as_array().unwrap().iter().filter(|backup| backup["repository"] == name).count();
        (of("local"), of("share"))
    };
    assert_eq!(list(), (1, 1));

    // Another server's backup in the share alone, before any of ours: so a new one is not its.
    let ours = below(&dir.join("share/main"), "backup.json")
        .into_iter()
        .find(|path| !path.starts_with(dir.join("share/main/1")));
    let system = ours.as_ref().and_then(|path| path.ancestors().nth(3)).unwrap().to_owned();
    let other = |root: &str| dir.join(root).join("main/7000000000000000001");
    fs::rename(&system, other("share")).unwrap();
    cluster.archive_all();
    let done = installation.run(&["backup", "create"]);
    assert!(done.contains("missing from share"), "{done}");
    let found = "select distinct severity || ' ' || object from findings where object like 'copy in%'";
    assert_eq!(installation.journal(found), "warning copy in share");
    let detail = installation.journal("select detail from findings where object = 'copy in share' limit 1");
    assert!(detail.contains("cluster accept main"), "{detail}");
    assert!(!system.exists(), "nothing of this server goes beside the other one's");
    // Once a person says that it is right, what waited goes there.
    installation.run(&["cluster", "accept", "main", "--reason", "a test"]);
    cluster.archive_all();
    installation.run(&["backup", "create"]);
    assert!(!below(&system.join("wal"), "*-*").is_empty(), "what waited in the spool");
    fs::remove_dir_all(&system).unwrap();

    // Where a repository that must have it holds another server, this one is backed up nowhere.
    let before = list();
    output(Command::new("cp").arg("-a").arg(other("share")).arg(other("repo")));
    let ours = below(&dir.join("repo/main"), "accepted.json");
    ours.iter().for_each(|path| fs::remove_file(path).unwrap());
    let done = installation.try_run(&["backup", "create"]);
    assert!(!done.status.success() && said(&done).contains("cluster accept main"), "{}", said(&done));
    assert_eq!(list().1, before.1);
}

#[test]
fn c42_nothing_is_copied_or_signed_that_nobody_believes_or_read() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    output(
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "ours", "-f"]).arg(dir.join("ours")),
    );
    let trusted = fs::read_to_string(dir.join("ours.pub")).unwrap();
    let trusted = format!("trusted-keys = [\"{}\"]\n", trusted.trim());
    let signs = format!("signing-key-file = \"{{dir}}/ours\"\n{trusted}");
    let key = dir.join("key.txt");
    output(Command::new("age-keygen").arg("-o").arg(&key).stderr(Stdio::null()));
    let public = output(Command::new("age-keygen").arg("-y").arg(&key));
    let encrypts = format!("encrypt-to = [\"{}\"]\n", public.trim());
    let reads = format!("identity-file = \"{}\"\n", key.display());
    let configure = |local: &str, other: &str| {
        format!(
            "{}{local}[repositories.other]\ntype = \"local\"\npath = \"{{dir}}/other\"\nrequired = false\n{other}\
             [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretries = 0\n\
             [jobs.copies]\nkind = \"replicate\"\nfrom = \"local\"\nto = \"other\"\nretries = 0\n",
            cluster_and_repository(&cluster)
        )
    };
    let installation = Installation::new(dir, &configure(&signs, ""));
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    cluster.down();
    output(Command::new("rm").arg("-rf").arg(dir.join("other/main")));
    let place = below(&dir.join("repo"), "backup.json").remove(0);
    let label = place.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let copy = || installation.try_run(&["backup", "copy", &label, "--to", "other"]);
    let nothing_there = || assert!(below(dir, "backup.json").iter().all(|path| !path.starts_with(dir.join("other"))));

    // It would be encrypted on the way, and so have no signature that fits.
    installation.configure(&configure(&signs, &format!("{encrypts}{trusted}")));
    let done = copy();
    assert!(
        !done.status.success() && said(&done).contains("nobody would trust what this host writes"),
        "{}",
        said(&done)
    );
    nothing_there();
    // Nor has it one where the original has none.
    installation.configure(&configure("", &trusted));
    below(&dir.join("repo"), "*.sig").iter().for_each(|path| fs::rename(path, path.with_extension("kept")).unwrap());
    let done = copy();
    assert!(
        !done.status.success() && said(&done).contains("nobody would trust what this host writes"),
        "{}",
        said(&done)
    );
    nothing_there();
    let kept = below(&dir.join("repo"), "*.kept");
    kept.iter().for_each(|path| fs::rename(path, path.with_extension("sig")).unwrap());
    // The same to the byte has the original's.
    let done = copy();
    assert!(done.status.success(), "{}", said(&done));
    output(Command::new("rm").arg("-rf").arg(dir.join("other/main")));

    // C35: what the place has no room for is not begun.
    let bytes = fs::read(&place).unwrap();
    let whole = BackupInfo::from_bytes("backup.json", &bytes).unwrap();
    let huge = BackupInfo { stored_bytes: 1 << 52, ..whole };
    fs::write(&place, huge.to_bytes().unwrap()).unwrap();
    installation.configure(&configure("", ""));
    let done = copy();
    assert!(!done.status.success() && said(&done).contains("the backup needs about 4.0 PiB"), "{}", said(&done));
    nothing_there();
    fs::write(&place, bytes).unwrap();

    // What is encrypted and cannot be read here is not signed, neither the backup nor WAL.
    installation.configure(&configure("", &encrypts));
    installation.run_job("copies");
    // As from before signing was set up.
    for path in below(&dir.join("other"), "*-*.zst.age")
        .iter()
        .filter(|path| path.components().any(|part| part.as_os_str() == "wal"))
    {
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::rename(path, path.with_file_name(format!("{}.zst.age", name.split('.').next().unwrap()))).unwrap();
    }
    let signing = |more: &str| {
        installation.configure(&configure("", &format!("{encrypts}{signs}{more}")));
        installation.try_run(&["backup", "sign", "--all", "--force", "--repository", "other"])
    };
    let done = signing("");
    let words = "it is encrypted, and cannot be read without a key";
    assert!(done.status.code() == Some(2) && said(&done).matches(words).count() > 1, "{}", said(&done));
    assert!(below(&dir.join("other"), "*.sig").is_empty() && below(&dir.join("other"), "*.signed").is_empty());
    let done = signing(&reads);
    assert!(done.status.success(), "{}", said(&done));
    assert!(!below(&dir.join("other"), "*.sig").is_empty() && !below(&dir.join("other"), "*.signed").is_empty());
}

#[test]
fn what_keeps_a_part_from_its_place_is_known_before_anything_is_recovered() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start_with(dir, &Cluster::archiving(dir));
    cluster.sql("create schema shop; create table shop.a (); create role clerk; create table shop.b (); alter table shop.b owner to clerk");
    let installation = Installation::new(
        dir,
        &format!(
            "{}[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n",
            cluster_and_repository(&cluster)
        ),
    );
    installation.run(&["backup", "create"]);
    let refused = |arguments: &[&str], words: &str| {
        let done = installation.try_run(&[&["restore", "schema", "postgres.shop"], arguments].concat());
        assert!(!done.status.success() && said(&done).contains(words), "{words}: {}", said(&done));
        assert!(below(&dir.join("state"), "pg_control*").is_empty(), "{}", said(&done));
    };
    let (place, servers) = (dir.join("place"), dir.join("servers"));
    fs::create_dir_all(&place).unwrap();
    fs::create_dir_all(&servers).unwrap();
    std::os::unix::fs::symlink(crate::support::postgres("postgres"), servers.join("postgres")).unwrap();
    let part = ["--program-directory", servers.to_str().unwrap()];
    refused(&["--to", place.to_str().unwrap(), part[0], part[1]], "is a directory: name a file in it");
    let file = place.join("shop.sql");
    refused(&["--to", file.to_str().unwrap(), part[0], part[1]], "there is no pg_dump in");
    assert!(below(&place, "*shop*").is_empty(), "nothing is left");
    output(Command::new("chmod").arg("a-w").arg(&place));
    refused(&["--to", file.to_str().unwrap(), part[0], part[1]], "Permission denied");
    refused(&["--into", "nowhere", part[0], part[1]], "there is no database nowhere on the server");
    refused(&["--into", "postgres", part[0], part[1]], "the restored objects belong to clerk, postgres: --role NAME");
}

#[test]
fn c35_two_names_for_one_place_are_no_two_repositories() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let longterm = "[repositories.longterm]\ntype = \"local\"\npath = \"{dir}/link\"\nrequired = false\n";
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"longterm\"]\n";
    let installation =
        Installation::new(directory.path(), &format!("{}{longterm}{job}", cluster_and_repository(&cluster)));
    fs::create_dir(directory.path().join("repo")).unwrap();
    std::os::unix::fs::symlink(directory.path().join("repo"), directory.path().join("link")).unwrap();
    installation.try_run(&["backup", "create"]);
    let done = installation.try_run(&["check"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("repository longterm: it is the same place as repository local"), "{said}");
    let listed = installation.json(&["backup", "list"]);
    let there: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["repository"].clone()).collect();
    assert_eq!(there, ["local"], "{listed:#}");
    // A copy elsewhere is another one, though it has the same identity.
    fs::remove_file(directory.path().join("link")).unwrap();
    output(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(directory.path().join("repo"))
            .arg(directory.path().join("link")),
    );
    installation.run(&["backup", "create"]);
}
