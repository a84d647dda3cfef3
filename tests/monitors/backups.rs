//! Backups, their copies, and restore tests.

use super::{all_quiet, check, told};
use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, output, postgres, seconds, wait_until,
};
use pgbosun_repository::BackupInfo;
use std::{fs, path::Path, process::Command};

#[test]
fn backups() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), "archive_mode = on\narchive_command = 'true'");
    let text = |more: &str| {
        format!(
            "{MAIL}[clusters.main]\nconnection = \"{}\"\ndata-directory = \"{}\"\n\
             [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
             [repositories.second]\ntype = \"local\"\npath = \"{{dir}}/second\"\n\
             [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
             [jobs.age]\nkind = \"monitor.backup-age\"\n\
             [jobs.both]\nkind = \"monitor.backup-age\"\nrepositories = [\"local\", \"second\"]\n\
             [jobs.size]\nkind = \"monitor.backup-size\"\nrepositories = [\"local\"]\n{more}\
             [jobs.count]\nkind = \"monitor.backup-count\"\n\
             [jobs.copies]\nkind = \"monitor.backup-copies\"\npatience = \"1s\"\nrepositories = [\"local\", \"second\"]\n\
             [jobs.success]\nkind = \"monitor.backup-success\"\n\
             [jobs.tests]\nkind = \"monitor.restore-tests\"\n\
             [jobs.restore]\nkind = \"restore-test\"\nrepository = \"local\"\ntarget = \"backup-end\"\n\
             program-directory = \"{}\"\n\
             [jobs.wal]\nkind = \"monitor.wal-archive\"\nwarning-age = \"1s\"\n\
             [jobs.gaps]\nkind = \"monitor.wal-gaps\"\n",
            cluster.connection(),
            cluster.data.display(),
            postgres("").display()
        )
    };
    let installation = Installation::new(directory.path(), &text(""));
    // No backup goes to the second one by itself: it is not asked.
    assert_eq!(check(&installation, "age"), ["critical local"]);
    assert_eq!(check(&installation, "count"), ["warning local"]);
    assert_eq!(check(&installation, "tests"), ["warning restore test"]);
    assert_eq!(check(&installation, "success"), [""; 0]);
    installation.check("full");
    all_quiet(&installation, &["age", "size", "count", "success", "wal"]);
    wait_until("the copy is late", seconds(10), || check(&installation, "copies") == ["warning second"]);
    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    installation.run(&["backup", "copy", &label, "--to", "second"]);
    assert_eq!(check(&installation, "copies"), [""; 0]);
    installation.run(&["restore-test"]);
    assert_eq!(check(&installation, "tests"), [""; 0]);
    // Somebody else's command says that everything is archived, and nothing is.
    cluster.sql("create table more as select 1 as i; select pg_switch_wal()");
    wait_until("the server has archived it", seconds(20), || {
        check(&installation, "gaps").contains(&"warning local".to_owned())
    });
    assert!(told(&installation, "gaps").contains("the server archived last: 0000000100000000"));
    installation.configure(&text("minimum = \"10GB\"\n"));
    assert_eq!(check(&installation, "size"), ["critical local"]);

    // One that cannot be read says nothing about the other.
    output(Command::new("chmod").arg("000").arg(directory.path().join("repo")));
    assert_eq!(check(&installation, "both"), ["unknown local"]);
    output(Command::new("chmod").arg("700").arg(directory.path().join("repo")));

    // Backups fail, and so does archiving.
    fs::rename(directory.path().join("repo"), directory.path().join("gone")).unwrap();
    fs::write(directory.path().join("repo"), "in the way").unwrap();
    installation.try_run(&["job", "run", "full", "--wait"]);
    assert_eq!(check(&installation, "success"), ["warning success"]);
    cluster.sql("alter system set archive_command = 'false'");
    cluster.sql("select pg_reload_conf()");
    cluster.sql("select pg_switch_wal()");
    cluster.sql("create table x (i int)");
    cluster.sql("select pg_switch_wal()");
    wait_until("archiving fails", seconds(60), || {
        check(&installation, "wal") == ["critical archiver", "warning waiting"]
    });
    // What is not archived any more does not fail, though the server counts as before.
    cluster.sql("alter system set archive_mode = off");
    cluster.down();
    cluster.up();
    assert_eq!(check(&installation, "wal"), [""; 0]);
}

#[test]
fn a_restore_test_that_failed() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let text = format!(
        "{MAIL}{}[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
         [jobs.restore]\nkind = \"restore-test\"\ntarget = \"backup-end\"\namcheck = false\nprogram-directory = \"{}\"\n\
         [jobs.tests]\nkind = \"monitor.restore-tests\"\n",
        cluster_and_repository(&cluster),
        postgres("").display()
    );
    let installation = Installation::new(directory.path(), &text);
    let test = || {
        installation.try_run(&["job", "run", "restore", "--wait"]);
        installation.history("restore")[0]["state"].as_str().unwrap().to_owned()
    };
    installation.check("full");
    assert_eq!(test(), "succeeded");
    all_quiet(&installation, &["tests"]);

    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    let volumes = output(Command::new("find").arg(directory.path().join("repo/main")).args(["-name", "base.0001.*"]));
    let volume = Path::new(volumes.trim());
    let whole = fs::read(volume).unwrap();
    let mut broken = whole.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    fs::write(volume, broken).unwrap();
    assert_eq!(test(), "failed");
    assert_eq!(check(&installation, "tests"), ["critical restore test"]);
    let words = told(&installation, "tests");
    assert!(words.starts_with(&format!("the last restore test, of {label}, failed\n")), "{words}");
    fs::write(volume, whole).unwrap();
    assert_eq!(test(), "succeeded");
    assert_eq!(check(&installation, "tests"), [""; 0]);
}

#[test]
fn copies_that_are_missing_or_others() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let text = format!(
        "{MAIL}{}[repositories.second]\ntype = \"local\"\npath = \"{{dir}}/second\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"second\"]\n\
         [jobs.other]\nkind = \"backup.physical\"\nrepositories = [\"second\"]\n\
         [jobs.copies]\nkind = \"monitor.backup-copies\"\npatience = \"0s\"\n\
         [jobs.patient]\nkind = \"monitor.backup-copies\"\n",
        cluster_and_repository(&cluster)
    );
    let installation = Installation::new(directory.path(), &text);
    installation.check("full");
    all_quiet(&installation, &["copies", "patient"]);
    let summary = "select summary from runs where job = 'copies' order by id desc limit 1";
    let label = installation.json(&["backup", "list"])[0]["label"].as_str().unwrap().to_owned();
    assert_eq!(installation.journal(summary), format!("{label} is in 2 of 2 repositories"));

    // Without its catalogue a copy is none.
    let place = output(Command::new("find").arg(directory.path().join("second/main")).args(["-name", &label]));
    let place = Path::new(place.trim());
    let catalogue = fs::read(place.join("backup.json")).unwrap();
    fs::remove_file(place.join("backup.json")).unwrap();
    assert_eq!(check(&installation, "copies"), ["warning second"]);
    assert!(told(&installation, "copies").starts_with(&format!("backup {label} is not in repository second\n")));
    assert_eq!(check(&installation, "patient"), [""; 0], "six hours are not over");
    fs::write(place.join("backup.json"), &catalogue).unwrap();
    assert_eq!(check(&installation, "copies"), [""; 0]);
    // Nor is one whose catalogue is damaged.
    let damaged = String::from_utf8(catalogue).unwrap().replacen("\"bytes\": ", "\"bytes\": 1", 1);
    fs::write(place.join("backup.json"), damaged).unwrap();
    assert_eq!(check(&installation, "copies"), ["warning second"]);

    // Another backup of the cluster under the label of the first.
    fs::remove_dir_all(place).unwrap();
    cluster.sql("create table more as select 1 as i");
    installation.check("other");
    assert_eq!(check(&installation, "copies"), ["warning second"], "the other has its backup where it should");
    let parent = place.parent().unwrap();
    let other = fs::read_dir(parent).unwrap().next().unwrap().unwrap().path();
    let mut info = BackupInfo::from_bytes("backup.json", &fs::read(other.join("backup.json")).unwrap()).unwrap();
    info.label.clone_from(&label);
    fs::write(other.join("backup.json"), info.to_bytes().unwrap()).unwrap();
    fs::rename(other, place).unwrap();
    for job in ["copies", "patient"] {
        assert_eq!(check(&installation, job), ["warning second"], "{job}");
        let words = told(&installation, job);
        assert!(
            words.starts_with(&format!("backup {label} in repository second differs from the one in local\n")),
            "{words}"
        );
    }
}
