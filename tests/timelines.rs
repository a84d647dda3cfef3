//! C41: after a split brain the live line is one, everywhere it is asked.

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, output, postgres, seconds, wait_until,
};
use std::{fs, path::Path, process::Command};

/// A cluster with these hosts.
fn of(hosts: &str) -> String {
    let ports = hosts.split(',').map(|_| "5432").collect::<Vec<_>>().join(",");
    format!(
        "{MAIL}[clusters.main]\nconnection = \"host={hosts} port={ports} user=postgres dbname=postgres\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\nretention = {{ count = 2 }}\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n[jobs.role]\nkind = \"monitor.role\"\n\
         [jobs.gaps]\nkind = \"monitor.wal-gaps\"\n"
    )
}

/// A standby that was promoted while nobody stopped the old primary; with further settings.
fn promoted(old: &Cluster, data: &Path, socket: &Path, settings: &str) -> Cluster {
    let mut copy = Command::new(postgres("pg_basebackup"));
    output(copy.arg("-D").arg(data).args(["-R", "-X", "stream", "-c", "fast", "-d", &old.connection()]));
    let file = data.join("postgresql.auto.conf");
    let kept = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{kept}{settings}")).unwrap();
    let new = Cluster::adopt(data, socket);
    wait_until("it streams", seconds(30), || old.sql("select count(*) from pg_stat_replication") == "1");
    output(Command::new(postgres("pg_ctl")).arg("-D").arg(data).args(["-w", "promote"]));
    new.recovered();
    new
}

#[test]
fn c41_c34_an_old_primary_that_writes_on_after_a_promotion_is_a_dead_branch() {
    let directory = directory();
    let socket = directory.path().join("b");
    fs::create_dir(&socket).unwrap();
    let (a, b) = (directory.path().display().to_string(), socket.display().to_string());
    let installation = Installation::new(directory.path(), &of(&format!("{a},{b}")));
    let old = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    old.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);

    // A standby is promoted, and nobody stops the old primary.
    let data = directory.path().join("pg2");
    let new = promoted(&old, &data, &socket, "");
    for round in 0..3 {
        old.sql(&format!("insert into t values ({})", 100 + round));
        old.archive_all();
        new.sql(&format!("insert into t values ({})", 200 + round));
        new.archive_all();
    }
    let time = new.sql("select clock_timestamp()");
    new.sql("insert into t values (300)");
    new.archive_all();
    let dead = old.sql("select clock_timestamp()");
    old.sql("insert into t values (400)");
    old.archive_all();

    // What can be reached is told along the live line, up to its last transaction.
    let moment = |text: &str| chrono::DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").unwrap();
    let status = installation.json(&["status"]);
    let to = status["clusters"][0]["restorable"]["to"].as_str().unwrap_or_else(|| panic!("{status}"));
    let to = chrono::DateTime::parse_from_rfc3339(to).unwrap();
    assert!(moment(&time) < to && to < moment(&dead), "{time} < {to} < {dead}");

    installation.check("role");
    let found =
        || installation.journal("select job || ': ' || severity || ' ' || summary from findings order by seen_at");
    assert_eq!(found(), "role: critical two servers of the cluster accept writes");
    installation.check("gaps");
    assert_eq!(found().lines().count(), 1, "a dead branch is no gap: {}", found());

    // The one that was promoted last is the cluster; a backup of the other one is orphaned, and counts for nothing.
    let list = || installation.json(&["backup", "list"]).as_array().unwrap().clone();
    installation.run(&["backup", "create"]);
    let live = list().last().unwrap().clone();
    assert_eq!(live["timeline"], 2, "{live}");
    installation.configure(&of(&a));
    for _ in 0..2 {
        installation.try_run(&["backup", "create"]);
        assert!(found().ends_with("critical the server that was backed up is not on the live timeline of the cluster"));
    }
    let listed = list();
    let orphans: Vec<_> = listed.iter().filter(|one| one["timeline"] == 1 && one["suspect"] == true).collect();
    assert_eq!(orphans.len(), 2, "{listed:#?}");
    assert!(installation.run(&["backup", "list"]).contains("orphaned"));
    assert!(listed.iter().any(|one| one["label"] == live["label"] && one["verified"] == true), "{listed:#?}");
    installation.run(&["backup", "expire", "--force"]);
    assert!(list().iter().any(|one| one["label"] == live["label"]), "what is live is kept");

    // A restore follows the live line, to its end and to a moment, and the dead one where it is named.
    let target = directory.path().join("restored");
    let scratch = directory.path().join("c");
    fs::create_dir(&scratch).unwrap();
    let restored = |arguments: &[&str]| {
        installation.run(&[&["restore", "physical", "--to", target.to_str().unwrap()][..], arguments].concat());
        let server = Cluster::adopt(&target, &scratch);
        server.recovered();
        let rows = server.sql("select string_agg(a::text, ' ' order by a) from t");
        drop(server);
        fs::remove_dir_all(&target).unwrap();
        rows
    };
    assert_eq!(restored(&["--latest"]), "1 200 201 202 300");
    assert_eq!(restored(&["--target-time", &time]), "1 200 201 202");
    let orphan = orphans[0]["label"].as_str().unwrap();
    let done = installation.try_run(&["restore", "physical", "--to", target.to_str().unwrap(), "--backup", orphan]);
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && words.contains("--timeline 1"), "{words}");
    assert_eq!(restored(&["--backup", orphan, "--timeline", "1", "--latest"]), "1 100 101 102 400");

    // The history file is lost and so are the backups of that timeline, and no server is left to bring it back: which line is live is
    // not known any more.
    drop((old, new));
    let repository = directory.path().join("repo");
    let label = live["label"].as_str().unwrap();
    let lost = output(Command::new("find").arg(&repository).args(["-type", "d", "-name", label]));
    fs::remove_dir_all(lost.trim()).unwrap();
    output(Command::new("find").arg(&repository).args(["-name", "00000002.history*", "-delete"]));
    let done = installation.try_run(&["restore", "physical", "--to", target.to_str().unwrap(), "--latest"]);
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && words.contains("00000002.history is missing from the archive"), "{words}");
}

#[test]
fn c41_a_server_that_was_promoted_and_archives_nothing_decides_the_live_line_all_the_same() {
    let directory = directory();
    let socket = directory.path().join("b");
    fs::create_dir(&socket).unwrap();
    let (a, b) = (directory.path().display().to_string(), socket.display().to_string());
    let installation = Installation::new(directory.path(), &of(&format!("{a},{b}")));
    let old = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    old.sql("create table t as select 1 a");
    installation.run(&["backup", "create"]);
    let data = directory.path().join("pg2");
    let new = promoted(&old, &data, &socket, "archive_mode = off\n");
    // The old primary writes on, and archives.
    old.sql("insert into t values (100)");
    old.archive_all();
    new.sql("insert into t values (200)");

    assert_eq!(new.sql("show archive_mode"), "off");
    // Two more segments of the dead branch: PostgreSQL takes what it finds of a parent as long as it has nothing of the timeline itself.
    for row in [101, 102] {
        old.sql(&format!("insert into t values ({row})"));
        old.archive_all();
    }
    let found = || installation.journal("select severity || ' ' || summary from findings where job = 'gaps'");
    installation.check("gaps");
    assert!(found().contains("critical the archive in local does not know the server's timeline"), "{}", found());
    // A restore asks the servers: what the old one wrote since is on a dead branch, and the live one's WAL is not there.
    let target = directory.path().join("restored");
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--latest"]);
    let scratch = directory.path().join("c");
    fs::create_dir(&scratch).unwrap();
    let server = Cluster::adopt(&target, &scratch);
    server.recovered();
    assert_eq!(server.sql("select string_agg(a::text, ' ' order by a) from t"), "1");
    // Everybody else has the live line from now on.
    let history = output(Command::new("find").arg(directory.path().join("repo")).args(["-name", "00000002.history*"]));
    assert_eq!(history.lines().count(), 1, "{history}");
    let backups = || installation.json(&["backup", "list"]).as_array().unwrap().clone();
    installation.configure(&of(&a));
    installation.try_run(&["backup", "create"]);
    assert!(
        installation.run(&["backup", "list"]).contains("orphaned"),
        "the old one alone is not the cluster any more"
    );
    installation.configure(&of(&format!("{a},{b}")));
    installation.run(&["backup", "create"]);
    assert_eq!(backups().last().unwrap()["timeline"], 2);
}

#[test]
fn c41_a_moment_that_only_the_timeline_before_has_is_not_taken_for_the_branch() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let configured = format!("[clusters.main]\ndata-directory = \"{}\"\n", cluster.data.display());
    let jobs = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let configuration = cluster_and_repository(&cluster).replace("[clusters.main]\n", &configured);
    let installation = Installation::new(directory.path(), &format!("{configuration}{jobs}"));
    installation.run(&["backup", "create"]);
    let now = || cluster.sql("select clock_timestamp() at time zone 'UTC' || '+00'");
    cluster.sql("create table t as select 1 a");
    let early = now();
    cluster.sql("insert into t values (2)");
    cluster.sql("insert into t values (3)");
    let late = now();
    cluster.sql("insert into t values (4)");
    cluster.archive_all();
    let data = cluster.data.to_str().unwrap();
    let restore = |arguments: &[&str]| {
        cluster.stop();
        let done = installation
            .try_run(&[&["restore", "physical", "--to", data, "--in-place", "--force"][..], arguments].concat());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        cluster.up();
        cluster.recovered();
        (done.status.success(), said, cluster.sql("select string_agg(a::text, ' ' order by a) from t"))
    };
    let (done, said, rows) = restore(&["--target-time", &early]);
    assert!(done && rows == "1", "{said}{rows}");
    // One minute too early: before anything is written, and after it.
    for _ in 0..2 {
        let (done, said, _) = restore(&["--target-time", &late]);
        assert!(!done && said.contains("--timeline 1 restores along it"), "{said}");
        cluster.sql("insert into t values (10)");
        cluster.archive_all();
    }
    let (done, said, rows) = restore(&["--target-time", &late, "--timeline", "1"]);
    assert!(done && rows == "1 2 3", "{said}{rows}");
}

#[test]
fn c21_a_transaction_that_was_prepared_before_a_change_of_timeline_is_there_after_it() {
    let directory = directory();
    let settings = format!("{}max_prepared_transactions = 5\n", Cluster::archiving(directory.path()));
    let cluster = Cluster::start_with(directory.path(), &settings);
    let installation = Installation::new(directory.path(), &cluster_and_repository(&cluster));
    let jobs = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    installation.configure(&format!("{}{jobs}", cluster_and_repository(&cluster)));
    cluster.sql("create table t (a int)");
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    cluster.sql("begin; insert into t values (1); prepare transaction 'x'");
    cluster.sql("select pg_create_restore_point('here')");
    cluster.sql("insert into t values (2)");
    cluster.archive_all();
    cluster.stop();
    let ended = |server: &Cluster| {
        server.recovered();
    };
    let pg = cluster.data.to_str().unwrap().to_owned();
    installation.run(&["restore", "physical", "--in-place", "--to", &pg, "--force", "--target-name", "here"]);
    cluster.up();
    ended(&cluster);
    cluster.sql("insert into t values (3)");
    cluster.archive_all();

    let target = directory.path().join("restored");
    let told = installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--latest"]);
    assert!(told.contains("hot_standby is off"), "{told}");
    let copy = Cluster::beside(&cluster, &target, &told);
    wait_until("it lets people in", seconds(60), || {
        let mut asked = Command::new(postgres("psql"));
        asked.arg("-d").arg(copy.connection()).args(["-Xqc", "select 1"]).output().unwrap().status.success()
    });
    copy.sql("commit prepared 'x'");
    assert_eq!(copy.sql("select string_agg(a::text, ' ' order by a) from t"), "1 3");
}
