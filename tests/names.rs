//! Names of files on a real server: bytes stay as they are, whatever their encoding and length, in a backup, its verification, a
//! restore and an incremental one.

use crate::support::{Cluster, Installation, MAIL, cluster_and_repository, directory, major, postgres};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

fn installation(directory: &Path, cluster: &Cluster, source: &str) -> Installation {
    let jobs = format!("[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n{source}\n");
    Installation::new(directory, &format!("{}{MAIL}{jobs}", cluster_and_repository(cluster)))
}

/// Puts files there that are told apart by bytes alone, and one with a name in UTF-8.
fn plant(data: &Path, more: &[PathBuf]) -> BTreeMap<PathBuf, Vec<u8>> {
    let odd = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let mut names =
        vec![odd(b"odd-\xff"), odd(b"odd-\xfe"), odd(b"odd-\xef\xbf\xbd"), odd(b"d-\xe9/in-\xe8"), "\u{e9}".into()];
    names.extend(more.iter().cloned());
    let mut planted = BTreeMap::new();
    for (index, name) in names.into_iter().enumerate() {
        let path = data.join("kept").join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let contents = vec![b'a' + index as u8; 100 + index];
        fs::write(&path, &contents).unwrap();
        planted.insert(path.strip_prefix(data).unwrap().to_owned(), contents);
    }
    planted
}

/// What lies below `kept`.
fn found(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut directories) = (BTreeMap::new(), vec![root.join("kept")]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn names_are_kept(source: &str, more: &[PathBuf]) {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), if major() < 17 { "" } else { "summarize_wal = on\n" });
    let data = PathBuf::from(cluster.sql("show data_directory"));
    let planted = plant(&data, more);
    let installation = installation(directory.path(), &cluster, source);
    installation.run(&["backup", "create"]);
    if source.contains("incremental") {
        cluster.sql("create table later as select 1");
        installation.run(&["backup", "create"]);
    }
    installation.run(&["backup", "verify", "--all"]);
    let target = directory.path().join("restored");
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap()]);
    assert_eq!(found(&target), planted);
    // What is right already stays, and what is there under a name that only looks the same goes.
    fs::write(target.join("kept").join(OsStr::from_bytes(b"odd-\xfd")), "x").unwrap();
    fs::remove_file(target.join("kept").join(OsStr::from_bytes(b"odd-\xfe"))).unwrap();
    installation.run(&["restore", "physical", "--delta", "--force", "--to", target.to_str().unwrap()]);
    assert_eq!(found(&target), planted);
}

/// Names past what ustar holds, split at a slash or not.
fn long() -> Vec<PathBuf> {
    let deep = ["d".repeat(90), "e".repeat(90), "f".repeat(200)].iter().collect();
    let mut odd = vec![b'n'; 120];
    odd.push(0xff);
    vec!["l".repeat(180).into(), deep, std::ffi::OsString::from_vec(odd).into()]
}

#[test]
fn names_of_any_bytes_and_length_are_kept_from_files() {
    names_are_kept("source = \"files\"", &long());
}

#[test]
fn names_of_any_bytes_are_kept_from_the_stream() {
    let incremental = if major() < 17 { "" } else { "\nincremental = true" };
    names_are_kept(&format!("source = \"stream\"{incremental}"), &[]);
}

#[test]
fn a_tablespace_far_down_is_kept_and_what_the_server_cannot_send_is_said() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let place = directory.path().join("s".repeat(60)).join("t".repeat(60));
    fs::create_dir_all(&place).unwrap();
    cluster.sql(&format!("create tablespace far location '{}'", place.display()));
    cluster.sql("create table t tablespace far as select generate_series(1, 1000) i");
    let installation = installation(directory.path(), &cluster, "source = \"stream\"");
    // In whatever language it says so.
    for language in ["", "de", "fr"] {
        cluster.down();
        cluster.up_in(language);
        let refused = installation.try_run(&["backup", "create"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
        assert!(!refused.status.success() && said.contains("source = \"files\""), "{language}: {said}");
        // The other version has no translations here.
        if language == "de" && major() == 15 {
            assert!(said.contains("zu lang"), "{said}");
        }
    }
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    fs::write(directory.path().join("pgbosun.toml"), text.replace("\"stream\"", "\"files\"")).unwrap();
    installation.run(&["backup", "create"]);
    installation.run(&["backup", "verify", "--all"]);
    let (target, space) = (directory.path().join("restored"), directory.path().join("space"));
    let mapping = format!("{}={}", place.display(), space.display());
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--tablespace", &mapping]);
    let socket = directory.path().join("r");
    fs::create_dir_all(&socket).unwrap();
    assert_eq!(Cluster::adopt(&target, &socket).sql("select count(*) from t"), "1000");
}

#[test]
fn what_an_interrupted_drop_database_left_keeps_no_backup_from_being_tested() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.sql("create database broken");
    cluster.sql("create table t as select 1");
    let oid = cluster.sql("select oid from pg_database where datname = 'broken'");
    cluster.sql("update pg_database set datconnlimit = -2 where datname = 'broken'");
    cluster.sql("checkpoint");
    fs::remove_dir_all(cluster.data.join("base").join(oid)).unwrap();
    let test = format!(
        "[jobs.test]\nkind = \"restore-test\"\nprogram-directory = \"{}\"\n\
         [jobs.size]\nkind = \"monitor.database-size\"\n[jobs.age]\nkind = \"monitor.xid-age\"\n\
         [jobs.unlogged]\nkind = \"monitor.unlogged\"\n[jobs.vacuum]\nkind = \"maintenance.vacuum\"\n",
        postgres("").display()
    );
    let installation = installation(directory.path(), &cluster, &format!("source = \"files\"\n{test}"));
    installation.run(&["backup", "create"]);
    let said = installation.run(&["restore-test"]);
    assert!(!said.contains("broken"), "{said}");
    // Whoever else goes from database to database has the same list.
    for job in ["size", "age", "unlogged", "vacuum"] {
        let said = installation.run(&["job", "run", job]);
        assert!(!said.contains("broken"), "{job}: {said}");
    }
    let report = installation.json(&["report", "performance"]).to_string();
    assert!(!report.contains("broken") && report.contains("\"1, "), "one database and its size: {report}");
}
