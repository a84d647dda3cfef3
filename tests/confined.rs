//! C29: what runs on a copy stays in the copy. The original's directories are watched, byte by byte, while copies of it recover.

use crate::support::{
    Cluster, Installation, MAIL, backup_and_restore_test, cluster_and_repository, directory, output, postgres,
};
use std::{fs, path::Path, process::Command};

/// Every file below some directories: name, size, time of change, and contents.
fn snapshot(directories: &[&Path]) -> String {
    let mut find = Command::new("find");
    let names = find.args(directories).args(["-printf", "%p %y %m %s %T@ %C@ %l\n"]);
    let names = output(names);
    let mut sums = Command::new("find");
    let sums = output(sums.args(directories).args(["-type", "f", "-exec", "sha256sum", "{}", "+"]));
    let mut lines: Vec<_> = names.lines().chain(sums.lines()).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// What differs, for the words of a failed test.
fn same(before: &str, after: &str, what: &str) {
    let lines = |from: &str, other: &str, sign: &str| {
        let other: std::collections::HashSet<_> = other.lines().collect();
        from.lines().filter(|line| !other.contains(line)).map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    assert!(
        before == after,
        "{what} changed the original:\n{}{}",
        lines(before, after, "-"),
        lines(after, before, "+")
    );
}

#[test]
fn c29_a_tablespace_made_after_the_backup_stays_inside_every_copy() {
    let directory = directory();
    let space = directory.path().join("space");
    let other = directory.path().join("other");
    fs::create_dir(&space).unwrap();
    fs::create_dir(&other).unwrap();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let jobs = backup_and_restore_test();
    let installation =
        Installation::new(directory.path(), &format!("{}{MAIL}{jobs}", cluster_and_repository(&cluster)));
    cluster.sql(&format!("create tablespace early location '{}'", other.display()));
    cluster.sql("create table kept tablespace early as select generate_series(1, 500) a");
    installation.run(&["backup", "create"]);
    cluster.sql(&format!("create tablespace late location '{}'", space.display()));
    cluster.sql("create table fresh tablespace late as select g a, repeat('x', 300) from generate_series(1, 2000) g");
    cluster.sql("checkpoint");
    cluster.archive_all();
    // In the live files only this state is right; the copies replay the one before.
    cluster.sql("update fresh set a = a + 1000000");
    cluster.archive_all();
    cluster.stop();

    let watched = [cluster.data.as_path(), space.as_path(), other.as_path()];
    let before = snapshot(&watched);
    let programs = postgres("");
    let programs = programs.to_str().unwrap();
    let told = installation.run(&["restore-test"]);
    assert!(told.contains("2500 rows"), "{told}");
    same(&before, &snapshot(&watched), "restore-test");
    let dump = directory.path().join("dump.sql");
    let arguments = ["restore", "table", "postgres.public.fresh", "--program-directory", programs, "--to"];
    installation.run(&[&arguments[..], &[dump.to_str().unwrap()]].concat());
    assert_eq!(fs::read_to_string(&dump).unwrap().matches("\t").count(), 2000);
    same(&before, &snapshot(&watched), "restore table");
    installation.run(&["restore", "physical", "--verify-only", "--program-directory", programs]);
    same(&before, &snapshot(&watched), "restore physical --verify-only");

    // A copy that is kept has it inside, too.
    let (target, moved) = (directory.path().join("copy"), directory.path().join("moved"));
    let mapping = format!("{}={}", other.display(), moved.display());
    let arguments = ["restore", "physical", "--to", target.to_str().unwrap(), "--tablespace", &mapping];
    installation.run(&arguments);
    let socket = directory.path().join("r");
    fs::create_dir(&socket).unwrap();
    {
        let copy = Cluster::adopt(&target, &socket);
        copy.recovered();
        assert_eq!(copy.sql("select count(*), min(a) > 1000000 from fresh"), "2000|t");
        assert_eq!(copy.sql("select count(*) from kept"), "500");
        copy.sql("update fresh set a = 0");
        copy.sql("checkpoint");
        let inside = copy.sql("select pg_relation_filepath('fresh')");
        assert!(target.join(&inside).canonicalize().unwrap().starts_with(&target), "{inside}");
    }
    same(&before, &snapshot(&watched), "a copy that was started");

    // What is created later goes where it is told to go, of a copy and in the original's place.
    for (how, name) in [("--beside", "b"), ("--in-place", "i")] {
        let [target, moved, later] =
            ["copy", "moved", "later"].map(|what| directory.path().join(format!("{what}-{name}")));
        let mapping =
            [(&other, &moved), (&space, &later)].map(|(old, new)| format!("{}={}", old.display(), new.display()));
        let [to, early, late] = [target.to_str().unwrap(), &mapping[0], &mapping[1]];
        installation.run(&["restore", "physical", how, "--to", to, "--tablespace", early, "--tablespace", late]);
        let copy = Cluster::adopt(&target, &socket);
        copy.recovered();
        assert_eq!(copy.sql("select count(*), min(a) > 1000000 from fresh"), "2000|t");
        let inside = copy.sql("select pg_relation_filepath('fresh')");
        assert!(target.join(&inside).canonicalize().unwrap().starts_with(&later), "{how}: {inside}");
        drop(copy);
        same(&before, &snapshot(&watched), how);
    }
    cluster.up();
    assert_eq!(cluster.sql("select count(*), min(a) > 1000000 from fresh"), "2000|t");
}
