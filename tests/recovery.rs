//! Point-in-time recovery against a truth: a ledger that one session writes, whose state at any time PostgreSQL itself
//! knows (`pg_xact_commit_timestamp`).

use crate::stores::Store;
use crate::support::{Cluster, Installation, MAIL, directory, major, output, postgres, seconds, wait_until};
use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Jobs for full and incremental backups.
const JOBS: &str = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
                    [jobs.incremental]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nincremental = true\n";

/// One row a transaction, by one session, as long as it runs.
struct Ledger(Child);

impl Ledger {
    fn start(cluster: &Cluster) -> Self {
        let sql =
            "do $$ begin loop insert into ledger default values; commit; perform pg_sleep(0.003); end loop; end $$";
        let mut command = Command::new(postgres("psql"));
        command.arg("-d").arg(cluster.connection()).args(["-XAtqc", sql]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn stop(mut self, cluster: &Cluster) {
        cluster
            .sql("select pg_terminate_backend(pid) from pg_stat_activity where query like 'do $$ begin loop insert%'");
        let _ = self.0.wait();
    }
}

/// The ledger's rows that were committed at a time, as `count|highest`.
fn truth(cluster: &Cluster, time: &str) -> String {
    cluster.sql(&format!(
        "select count(*) || '|' || coalesce(max(id), 0) from ledger where pg_xact_commit_timestamp(xmin) <= '{time}'"
    ))
}

/// Random times between the end of a backup and the last commit, a little apart from both.
fn times(cluster: &Cluster, from: &str, count: usize) -> Vec<String> {
    let sql = format!(
        "select (f + random() * (l - f))::timestamptz(6) from \
         (select '{from}'::timestamptz + interval '50 ms' as f, max(pg_xact_commit_timestamp(xmin)) - interval '50 ms' as l from ledger) x, \
         generate_series(1, {count})"
    );
    cluster.sql(&sql).lines().map(str::to_owned).collect()
}

/// Restores to a time and compares the ledger with the truth.
fn check(installation: &Installation, cluster: &Cluster, time: &str, further: &[&str]) {
    let expected = truth(cluster, time);
    let target = installation.directory.join("restored");
    let socket = installation.directory.join("s");
    let _ = fs::create_dir(&socket);
    let mut arguments = vec!["restore", "physical", "--to", target.to_str().unwrap(), "--target-time", time];
    arguments.extend(further);
    let done = installation.try_run(&arguments);
    if String::from_utf8_lossy(&done.stderr).contains("/space-b") {
        // This backup was taken from the other server, where the tablespace lies elsewhere.
        let directory = installation.directory.display();
        let there = format!("{directory}/space-b={directory}/space2");
        arguments.truncate(6);
        arguments.extend(["--tablespace", &there]);
        installation.run(&arguments);
    } else {
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    output(
        Command::new(postgres("pg_verifybackup"))
            .args(["-e", "-n", "--ignore=recovery.signal", "--ignore=postgresql.auto.conf"])
            .arg(&target),
    );
    let restored = Cluster::adopt(&target, &socket);
    restored.recovered();
    let found = restored.sql("select count(*) || '|' || coalesce(max(id), 0) from ledger");
    assert_eq!(found, expected, "at {time}");
    assert_eq!(restored.sql("select count(*) from elsewhere"), "500", "the tablespace");
    drop(restored);
    fs::remove_dir_all(&target).unwrap();
    let _ = fs::remove_dir_all(installation.directory.join("space2"));
}

fn set_up(directory: &Path, cluster: &Cluster) {
    fs::create_dir(directory.join("space")).unwrap();
    cluster.sql(&format!("create tablespace fast location '{}'", directory.join("space").display()));
    cluster.sql("create table elsewhere tablespace fast as select generate_series(1, 500) as id");
    cluster.sql("create table ledger (id bigint generated always as identity primary key)");
    cluster.pgbench(2);
}

fn load(cluster: &Cluster, seconds: u32) -> Child {
    let mut load = Command::new(postgres("pgbench"));
    load.args(["-c", "2", "-R", "150", "-T", &seconds.to_string(), "-n", "-h"]).arg(&cluster.socket);
    load.args(["-U", "postgres", "postgres"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Backups under load, full and incremental, into this repository, and ten random times compared with the truth.
/// Afterwards the ledger's size before and after the restore point "before the mistake".
fn ten_times(directory: &Path, repository: &str) -> (Installation, Cluster, (u64, u64)) {
    let space = format!("{0}/space={0}/space2", directory.display());
    let configuration = format!(
        "[clusters.main]\nconnection = \"host={} user=postgres dbname=postgres\"\n{repository}{MAIL}{JOBS}",
        directory.display()
    );
    let mut installation = Installation::new(directory, &configuration);
    let settings = "max_prepared_transactions = 5\nwal_level = logical\n";
    let cluster = Cluster::start_with(directory, &format!("{}{settings}", Cluster::archiving(directory)));
    set_up(directory, &cluster);
    installation.start();
    let ledger = Ledger::start(&cluster);
    let mut load = load(&cluster, 8);
    std::thread::sleep(seconds(1));
    let said = installation.run(&["backup", "create", "full"]);
    assert!(said.contains("succeeded"), "{said}");
    std::thread::sleep(seconds(1));
    // Half of the WAL goes through the daemon, the rest without it.
    let said = installation.run(&["backup", "create", "incremental"]);
    if major() >= 17 {
        assert!(said.contains("incremental, based on"), "{said}");
    } else {
        assert!(said.contains("has no incremental backups"), "{said}");
    }
    installation.stop();
    std::thread::sleep(seconds(1));
    installation.run(&["backup", "create", "incremental"]);
    std::thread::sleep(seconds(1));
    let count = || cluster.sql("select count(*) from ledger").parse::<u64>().unwrap();
    let before = count();
    cluster.sql("select pg_create_restore_point('before the mistake')");
    let after = count();
    std::thread::sleep(seconds(1));
    let _ = load.wait();
    ledger.stop(&cluster);
    cluster.sql("insert into ledger default values");
    cluster.archive_all();

    let list = installation.json(&["backup", "list"]);
    let first = list[0]["finished_at"].as_str().unwrap().to_owned();
    for time in times(&cluster, &first, 10) {
        check(&installation, &cluster, &time, &["--tablespace", &space]);
    }
    let wal = installation.json(&["wal", "list"]);
    assert_eq!(wal[0]["timelines"][0]["gaps"], serde_json::json!([]), "{wal}");
    (installation, cluster, (before, after))
}

#[test]
fn c19_ten_random_times_are_what_they_were_in_a_bucket_over_https() {
    let directory = directory();
    let store = Store::start(directory.path(), "seaweedfs");
    let (installation, _cluster, _) = ten_times(directory.path(), &store.section("local"));
    installation.run(&["backup", "verify", "--all"]);
}

/// Reference 000 (its lines by id): 000-B8.
#[test]
fn c19_ten_random_times_are_what_they_were() {
    let directory = directory();
    let space = format!("{0}/space={0}/space2", directory.path().display());
    let local = "[repositories.local]\ntype = \"local\"\npath = \"{dir}/repo\"\n";
    let (installation, cluster, (before, after)) = ten_times(directory.path(), local);

    // By name, by position, by transaction, just before it, and as far as the archive goes.
    let target = directory.path().join("restored");
    let socket = directory.path().join("s");
    let recovered = |further: &[&str]| {
        let mut arguments = vec!["restore", "physical", "--to", target.to_str().unwrap(), "--tablespace", &space];
        arguments.extend(further);
        installation.run(&arguments);
        let restored = Cluster::adopt(&target, &socket);
        restored.recovered();
        let found = restored.sql("select count(*) from ledger");
        drop(restored);
        fs::remove_dir_all(&target).unwrap();
        let _ = fs::remove_dir_all(directory.path().join("space2"));
        found.parse::<u64>().unwrap()
    };
    let all: u64 = cluster.sql("select count(*) from ledger").parse().unwrap();
    assert_eq!(recovered(&[]), all);
    assert_eq!(recovered(&["--latest"]), all);
    let named = recovered(&["--target-name", "before the mistake"]);
    assert!((before..=after).contains(&named), "{named} is not between {before} and {after}");
    let xid = cluster.sql("select xmin from ledger order by id desc limit 1 offset 20");
    assert_eq!(recovered(&["--target-xid", &xid]), all - 20);
    assert_eq!(recovered(&["--target-xid", &xid, "--target-exclusive"]), all - 21);
    assert!(recovered(&["--immediate"]) < all);
    // One that was prepared ends with lists of what it did before its number.
    cluster.sql(
        "begin; create table gone (a int primary key); savepoint s; insert into gone values (1); release s; drop table gone; \
         insert into ledger default values; prepare transaction 'two phases'",
    );
    let xid = cluster.sql("select transaction from pg_prepared_xacts");
    cluster.sql("commit prepared 'two phases'");
    cluster.sql("insert into ledger default values");
    for _ in 0..2 {
        cluster.sql("select pg_create_restore_point('again')");
    }
    cluster.archive_all();
    assert_eq!(recovered(&["--target-xid", &xid]), all + 1);
    assert_eq!(recovered(&["--target-xid", &xid, "--target-exclusive"]), all);

    // What cannot be reached is refused before the first byte, with what can be.
    let refused = |further: &[&str]| {
        let mut arguments = vec!["restore", "physical", "--to", target.to_str().unwrap()];
        arguments.extend(further);
        let done = installation.try_run(&arguments);
        assert!(!done.status.success() && !target.exists());
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    let late = refused(&["--target-time", "2099-01-01 00:00:00Z"]);
    assert!(late.contains("cannot be reached") && late.contains("reachable: 20"), "{late}");
    let early = refused(&["--target-time", "2001-01-01 00:00:00Z"]);
    assert!(early.contains("oldest good backup ended at") && early.contains("reachable: 20"), "{early}");
    assert!(refused(&["--target-time", "2026-11-21 08:00:00"]).contains("zone"), "C20");
    let twice = refused(&["--target-name", "again"]);
    assert!(twice.contains("restore points of this name at") && twice.contains("--target-lsn"), "{twice}");
    assert!(refused(&["--target-name", "never"]).contains("is not in the archived WAL"));
    assert!(refused(&["--target-lsn", "FF/0"]).contains("the archive ends before"));
    assert!(refused(&["--timeline", "7"]).contains("timeline 7"));
    // A segment that is lost makes what lies behind it unreachable, and is named. (Its last one a backup has itself.)
    let list = installation.json(&["backup", "list"]);
    let stop = list.as_array().unwrap().last().unwrap()["stop_lsn"].as_str().unwrap().to_owned();
    let segment = cluster.sql(&format!("select pg_walfile_name('{stop}'::pg_lsn + 16 * 1024 * 1024)"));
    let lost = output(Command::new("find").arg(directory.path().join("repo")).args(["-name", &format!("{segment}-*")]));
    let lost = lost.trim();
    fs::rename(lost, directory.path().join("kept")).unwrap();
    let last = cluster.sql("select max(pg_xact_commit_timestamp(xmin)) - interval '10 ms' from ledger");
    let gap = refused(&["--target-time", &last]);
    assert!(gap.contains(&format!("segment {segment} is missing")), "{gap}");
    // C34: to replace what is there (--force) is not to lose what lies behind a gap.
    let ends = refused(&["--latest", "--force"]);
    assert!(ends.contains("recovery ends at") && ends.contains("confirm with --accept-gap"), "{ends}");
    let listed = installation.try_run(&["wal", "list"]);
    assert_eq!(listed.status.code(), Some(1), "{}", String::from_utf8_lossy(&listed.stdout));
    fs::rename(directory.path().join("kept"), lost).unwrap();
    // Before a gap there is no moment that can be reached and that goes on to the end.
    let first = list[0]["stop_lsn"].as_str().unwrap();
    let segment = cluster.sql(&format!("select pg_walfile_name('{first}'::pg_lsn + 16 * 1024 * 1024)"));
    let lost = output(Command::new("find").arg(directory.path().join("repo")).args(["-name", &format!("{segment}-*")]));
    fs::rename(lost.trim(), directory.path().join("kept")).unwrap();
    let begin = |words: &str| words.split("reachable: ").nth(1).unwrap().split(" to ").next().unwrap().to_owned();
    let later = refused(&["--target-time", "2001-01-01 00:00:00Z"]);
    assert!(begin(&later) > begin(&early), "{early} {later}");
    fs::rename(directory.path().join("kept"), lost.trim()).unwrap();
    installation.run(&["backup", "verify", "--all"]);
}

#[test]
fn c10_c19_a_promotion_in_the_middle_is_followed() {
    let directory = directory();
    let space = format!("{0}/space={0}/space2", directory.path().display());
    let standby_socket = directory.path().join("b");
    fs::create_dir(&standby_socket).unwrap();
    let configuration = format!(
        "[clusters.main]\nconnection = \"host={},{} user=postgres dbname=postgres\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n{MAIL}{JOBS}\
         [jobs.standby]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nprefer-standby = true\n",
        directory.path().display(),
        standby_socket.display()
    );
    let installation = Installation::new(directory.path(), &configuration);
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    set_up(directory.path(), &cluster);
    installation.run(&["backup", "create", "full"]);
    let list = installation.json(&["backup", "list"]);
    let first = list[0]["finished_at"].as_str().unwrap().to_owned();

    let data = directory.path().join("standby");
    let spaces = format!("{0}/space={0}/space-b", directory.path().display());
    installation.run(&[
        "restore",
        "physical",
        "--to",
        data.to_str().unwrap(),
        "--tablespace",
        &spaces,
        "--standby",
        // The name it had before.
        "--keep-archiving",
    ]);
    let conninfo = format!("primary_conninfo = 'host={} user=postgres'\n", directory.path().display());
    let mut settings = fs::read_to_string(data.join("postgresql.auto.conf")).unwrap();
    settings.push_str(&conninfo);
    fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
    let standby = Cluster::adopt(&data, &standby_socket);
    wait_until("the standby streams", seconds(30), || {
        cluster.sql("select count(*) from pg_stat_replication where state = 'streaming'") == "1"
    });
    assert_eq!(standby.sql("show recovery_target_timeline"), "latest", "it follows whoever is promoted");
    let ledger = Ledger::start(&cluster);
    std::thread::sleep(seconds(1));
    let said = installation.run(&["backup", "create", "standby"]);
    assert!(said.contains("succeeded"), "{said}");
    let from = installation.json(&["backup", "list"]);
    let from = from.as_array().unwrap().last().unwrap().clone();
    let shown = installation.run(&["backup", "show", from["label"].as_str().unwrap()]);
    assert!(shown.contains(&format!("{}:5432", standby_socket.display())), "{shown}");
    std::thread::sleep(seconds(1));
    ledger.stop(&cluster);
    cluster.stop();
    output(Command::new(postgres("pg_ctl")).arg("-D").arg(&data).args(["-w", "promote"]));
    standby.recovered();
    let ledger = Ledger::start(&standby);
    std::thread::sleep(seconds(1));
    let said = installation.run(&["backup", "create", "incremental"]);
    assert!(said.contains("succeeded"), "{said}");
    if major() >= 17 {
        assert!(said.contains("incremental"), "{said}");
    }
    std::thread::sleep(seconds(1));
    ledger.stop(&standby);
    standby.sql("insert into ledger default values");
    standby.archive_all();
    for time in times(&standby, &first, 5) {
        check(&installation, &standby, &time, &["--tablespace", &space]);
    }
    let wal = installation.json(&["wal", "list"]);
    assert_eq!(wal[0]["timelines"].as_array().unwrap().len(), 2, "{wal}");
    assert_eq!(wal[0]["conflicts"], serde_json::json!([]));
    installation.run(&["backup", "verify", "--all"]);
}

/// A cluster that archives, with a ledger, and backups of several states of it: label and rows of each, oldest first.
fn history(directory: &Path, installation: &Installation, cluster: &Cluster, jobs: &[&str]) -> Vec<(String, String)> {
    set_up(directory, cluster);
    let mut taken = Vec::new();
    for job in jobs {
        cluster.sql("insert into ledger select from generate_series(1, 100)");
        installation.run(&["backup", "create", job]);
        let list = installation.json(&["backup", "list"]);
        let label = list.as_array().unwrap().last().unwrap()["label"].as_str().unwrap().to_owned();
        taken.push((label, cluster.sql("select count(*) from ledger")));
        cluster.sql("insert into ledger default values");
        cluster.archive_all();
    }
    taken
}

#[test]
fn c7_c8_c11_every_survivor_of_an_expiry_restores_and_the_window_is_whole() {
    let directory = directory();
    let configuration = |retention: &str| {
        format!(
            "[clusters.main]\nconnection = \"host={} user=postgres dbname=postgres\"\n\
             [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n{retention}{MAIL}{JOBS}",
            directory.path().display()
        )
    };
    let installation = Installation::new(directory.path(), &configuration(""));
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let jobs = ["full", "incremental"].repeat(4);
    let taken = history(directory.path(), &installation, &cluster, &jobs);
    installation.run(&["backup", "keep", &taken[1].0, "--reason", "audit"]);
    installation.configure(&configuration("retention = { count = 2 }\n"));
    let explained = installation.run(&["backup", "expire", "--dry-run"]);
    assert_eq!(installation.json(&["backup", "list"]).as_array().unwrap().len(), jobs.len(), "{explained}");
    let refused = installation.try_run(&["backup", "expire"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("confirm with --force"), "nobody can be asked");
    installation.run(&["backup", "expire", "--force"]);
    let list = installation.json(&["backup", "list"]);
    let survivors: Vec<_> = list.as_array().unwrap().iter().map(|info| info["label"].as_str().unwrap()).collect();
    // The last two of each job; what is kept by hand; and on 17 what one of them builds upon (C11).
    let expected: &[usize] = if major() >= 17 { &[0, 1, 4, 5, 6, 7] } else { &[1, 4, 5, 6, 7] };
    let expected: Vec<_> = expected.iter().map(|index| taken[*index].0.as_str()).collect();
    assert_eq!(survivors, expected, "{explained}");

    let target = directory.path().join("restored");
    let socket = directory.path().join("s");
    fs::create_dir(&socket).unwrap();
    let space = format!("{0}/space={0}/space2", directory.path().display());
    let recovered = |label: &str, how: &str| {
        let to = target.to_str().unwrap();
        installation.run(&["restore", "physical", "--to", to, "--tablespace", &space, "--backup", label, how]);
        let restored = Cluster::adopt(&target, &socket);
        restored.recovered();
        let found = restored.sql("select count(*) from ledger");
        drop(restored);
        fs::remove_dir_all(&target).unwrap();
        fs::remove_dir_all(directory.path().join("space2")).unwrap();
        found
    };
    for (label, rows) in taken.iter().filter(|(label, _)| survivors.contains(&label.as_str())) {
        assert_eq!(recovered(label, "--immediate"), *rows, "{label}");
    }
    // From the oldest that retention itself keeps there is WAL up to now.
    assert_eq!(recovered(&taken[4].0, "--latest"), cluster.sql("select count(*) from ledger"));
    installation.run(&["backup", "verify", "--all"]);
}

#[test]
fn c21_restore_tests_take_any_backup_and_any_moment() {
    let directory = directory();
    let configuration = format!(
        "[clusters.main]\nconnection = \"host={} user=postgres dbname=postgres\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n{MAIL}{JOBS}\
         [jobs.beat]\nkind = \"heartbeat\"\ntable = \"postgres.pgbosun.heartbeat\"\n\
         [jobs.any]\nheartbeat = \"postgres.pgbosun.heartbeat\"\nkind = \"restore-test\"\nbackup = \"random\"\ntarget = \"random\"\nprogram-directory = \"{}\"\n\
         queries = [{{ database = \"postgres\", sql = \"select count(*) >= 100 from ledger\", expect = \"true\" }}]\n",
        directory.path().display(),
        postgres("").display()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    installation.start();
    installation.check("beat");
    installation.check("beat");
    assert_eq!(cluster.sql("select count(*) from pgbosun.heartbeat"), "2");
    history(directory.path(), &installation, &cluster, &["full", "incremental", "full"]);
    // Chance takes another backup and another moment, sooner or later.
    let tests = || {
        let tests = installation.journal("select count(distinct label), count(distinct target) from restore_tests");
        tests.split('|').all(|distinct| distinct.parse::<u32>().unwrap() > 1)
    };
    let mut runs = 0;
    while runs < 4 || !tests() {
        installation.check("any");
        runs += 1;
        assert!(runs < 25, "25 times the same backup or moment is not chance");
    }
    assert_eq!(installation.count("any", "succeeded"), runs);
    let left = fs::read_dir(directory.path().join("state/restore-test")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing of the scratch servers is left");
}
