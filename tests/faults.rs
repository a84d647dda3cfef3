//! Processes that die at every fault point of backup, archiving, expiry, fetching and restoring, and disks that are full:
//! what was acknowledged is there, what is listed is whole, and the next run is clean (C1, C12, C14, C26).

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, output, postgres, seconds, wait_until,
};
use pgbosun_core::faults;
use std::{fs, os::unix::process::ExitStatusExt, path::Path, process::Command};

const JOBS: &str = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretention = { count = 2 }\n";

fn set_up(directory: &Path) -> (Installation, Cluster) {
    let configuration = |socket: &str| {
        format!(
            "[clusters.main]\nconnection = \"host={socket} user=postgres dbname=postgres\"\n[repositories.local]\ntype = \"local\"\n\
             path = \"{{dir}}/repo\"\nvolume-size = \"4MiB\"\n{MAIL}{JOBS}"
        )
    };
    let installation = Installation::new(directory, &configuration(&directory.display().to_string()));
    let cluster = Cluster::start_with(directory, "");
    cluster.sql("create table known as select generate_series(1, 1000) as id");
    (installation, cluster)
}

/// Runs a command again and again, each time dying a step later at this point, until it survives. Returns how often it
/// died.
fn walk(point: &str, limit: u32, mut command: impl FnMut() -> Command, mut after: impl FnMut(u32)) -> u32 {
    for turn in 1..=limit {
        let done = command().env("PGBOSUN_FAULT", format!("{point}@{turn}")).output().unwrap();
        if done.status.signal().is_none() {
            let words = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{point}@{turn}: {}{words}", String::from_utf8_lossy(&done.stdout));
            return turn - 1;
        }
        after(turn);
    }
    panic!("{point} is reached more than {limit} times");
}

/// What is listed is whole, and nothing unfinished is taken for a backup.
fn listed_is_whole(installation: &Installation) -> usize {
    let done = installation.try_run(&["backup", "verify", "--all"]);
    let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{words}");
    installation.json(&["backup", "list"]).as_array().map_or(0, Vec::len)
}

fn unfinished(directory: &Path) -> String {
    output(Command::new("find").arg(directory.join("repo")).args(["-name", ".*unfinished"]))
}

#[test]
fn c14_c26_a_backup_that_dies_at_any_point_is_no_backup_and_the_next_is_clean() {
    let directory = directory();
    let (installation, _cluster) = set_up(directory.path());
    for point in [faults::OBJECT_CREATED, faults::OBJECT_WRITTEN, faults::OBJECT_STORED, faults::OBJECT_REMOVED] {
        let create = || installation.command(&["backup", "create"]);
        // What was listed before was verified before.
        let newest_is_whole = |_| drop(installation.run(&["backup", "verify", "--latest"]));
        let died = match point {
            // Each death leaves more to remove for the next: a few of them show what there is to see.
            faults::OBJECT_REMOVED => {
                for turn in [1, 2, 5, 9, 14, 20] {
                    let done = create().env("PGBOSUN_FAULT", format!("{point}@{turn}")).output().unwrap();
                    assert!(done.status.signal().is_some() || done.status.success());
                    newest_is_whole(turn);
                }
                3
            }
            _ => walk(point, 60, create, newest_is_whole),
        };
        println!("{point}: died {died} times");
        assert!(died >= 3, "{point}");
        let said = installation.run(&["backup", "create"]);
        assert!(said.contains("succeeded"), "{said}");
        // C8: those that died before they were verified count for nothing, and go once two newer ones are verified.
        assert_eq!(listed_is_whole(&installation), 2);
        assert_eq!(unfinished(directory.path()), "");
    }
    let leases = output(Command::new("find").arg(directory.path().join("repo")).args(["-path", "*/leases/*"]));
    assert_eq!(leases, "");
}

/// Reference 000 (its lines by id): 000-B6.
#[test]
fn c1_c2_a_push_that_dies_at_any_point_is_repeated_and_no_harm_is_done() {
    let directory = directory();
    let (installation, cluster) = set_up(directory.path());
    installation.run(&["backup", "create"]);
    cluster.sql("update known set id = id + 1");
    for point in [faults::OBJECT_CREATED, faults::OBJECT_WRITTEN, faults::OBJECT_STORED] {
        let segment = cluster.sql("select pg_walfile_name(pg_current_wal_lsn() - 1) from pg_switch_wal()");
        cluster.sql("update known set id = id + 1");
        let path = format!("pg_wal/{segment}");
        let fetched = directory.path().join("fetched");
        let fetch = || {
            let mut command = installation.command(&["wal", "fetch", &segment, fetched.to_str().unwrap()]);
            command.current_dir(&cluster.data);
            command
        };
        let push = || {
            let mut command = installation.command(&["wal", "push", &path]);
            command.current_dir(&cluster.data);
            command
        };
        let died = walk(point, 5, push, |_| {
            // Either it is whole or it is not there: never a part of it.
            let done = fetch().output().unwrap();
            match done.status.code() {
                Some(0) => assert!(fs::read(&fetched).unwrap() == fs::read(cluster.data.join(&path)).unwrap()),
                code => assert_eq!(code, Some(1), "{}", String::from_utf8_lossy(&done.stderr)),
            }
        });
        assert_eq!(died, 1, "{point}");
        // C2: the same again is success, and the fetch that dies leaves nothing where PostgreSQL looks.
        output(&mut push());
        let _ = fs::remove_file(&fetched);
        walk(faults::FILE_FETCHED, 5, fetch, |_| assert!(!fetched.exists()));
        assert!(fs::read(&fetched).unwrap() == fs::read(cluster.data.join(&path)).unwrap());
        // C2: another file under its name is refused and nothing is overwritten.
        let mut other = fs::read(cluster.data.join(&path)).unwrap();
        let last = other.len() - 1;
        other[last] ^= 1;
        let forged = cluster.data.join("pg_wal").join("forged");
        fs::create_dir(&forged).unwrap();
        fs::write(forged.join(&segment), other).unwrap();
        let mut command = installation.command(&["wal", "push", &format!("pg_wal/forged/{segment}")]);
        let done = command.current_dir(&cluster.data).output().unwrap();
        let words = String::from_utf8_lossy(&done.stderr).into_owned();
        // C3
        assert!((1..=125).contains(&done.status.code().unwrap()) && words.contains("different contents"), "{words}");
        fs::remove_dir_all(&forged).unwrap();
        output(&mut fetch());
    }
    let listed = installation.json(&["wal", "list"]);
    assert_eq!(listed[0]["conflicts"], serde_json::json!([]));
    installation.run(&["backup", "verify", "--all"]);
}

#[test]
fn c1_a_daemon_that_hangs_does_not_hold_up_archiving() {
    let directory = directory();
    let (mut installation, cluster) = set_up(directory.path());
    installation.run(&["backup", "create"]);
    installation.start();
    let segment = cluster.sql("select pg_walfile_name(pg_current_wal_lsn() - 1) from pg_switch_wal()");
    installation.signal("-STOP");
    let begun = std::time::Instant::now();
    let mut push = installation.command(&["wal", "push", &format!("pg_wal/{segment}")]);
    output(push.current_dir(&cluster.data));
    assert!(begun.elapsed() < seconds(60));
    installation.signal("-CONT");
    let archived = installation.json(&["wal", "list"]).to_string();
    assert!(archived.contains(&segment), "{archived}");
}

#[test]
fn c4_absent_is_said_only_when_every_repository_said_so() {
    let directory = directory();
    let (installation, cluster) = set_up(directory.path());
    installation.run(&["backup", "create"]);
    let fetched = directory.path().join("fetched");
    let fetch = |name: &str| {
        let mut command = installation.command(&["wal", "fetch", name, fetched.to_str().unwrap()]);
        command.current_dir(&cluster.data).output().unwrap().status.code()
    };
    assert_eq!(fetch("000000010000000000000099"), Some(1));
    assert_eq!(fetch("00000002.history"), Some(1));
    // A repository that cannot be asked: nobody knows.
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let away = format!(
        "{text}[repositories.away]\ntype = \"s3\"\nbucket = \"b\"\nendpoint = \"http://127.0.0.1:9\"\naccess-key = \"a\"\nrequest-retries = 0\ntimeout = \"2s\"\n\
         [wal]\nfetch-patience = \"1s\"\n"
    );
    fs::write(directory.path().join("pgbosun.toml"), away).unwrap();
    assert_eq!(fetch("000000010000000000000099"), Some(126));
    assert_eq!(fetch("00000002.history"), Some(126));
    fs::write(cluster.data.join("standby.signal"), "").unwrap();
    assert_eq!(fetch("000000010000000000000099"), Some(1), "126 would stop a standby");
    fs::remove_file(cluster.data.join("standby.signal")).unwrap();
    // Nor does a mistake say anything about the file, in the configuration or in the command.
    fs::write(directory.path().join("pgbosun.toml"), text.clone() + "[daemon\n").unwrap();
    assert_eq!(fetch("000000010000000000000099"), Some(126));
    fs::remove_file(directory.path().join("pgbosun.toml")).unwrap();
    assert_eq!(fetch("000000010000000000000099"), Some(126));
    fs::write(directory.path().join("pgbosun.toml"), text).unwrap();
    assert_eq!(fetch("--nosuch"), Some(126));
}

#[test]
fn c12_c17_a_restore_that_dies_starts_nothing_and_delta_takes_up_what_is_there() {
    let directory = directory();
    let (installation, cluster) = set_up(directory.path());
    cluster.pgbench(1);
    installation.run(&["backup", "create"]);
    let target = directory.path().join("restored");
    let restore =
        || installation.command(&["restore", "physical", "--to", target.to_str().unwrap(), "--delta", "--force"]);
    for point in [faults::VOLUME_UNPACKED, faults::BEFORE_CONTROL] {
        let died = walk(point, 60, restore, |_| {
            assert!(!target.join("global/pg_control").exists(), "nothing starts from it");
        });
        println!("{point}: died {died} times");
        assert!(died >= 1, "{point}");
    }
    // Damage, and a file that does not belong: delta mends both and fetches little.
    let relation = cluster.sql("select pg_relation_filepath('pgbench_accounts')");
    let mut bytes = fs::read(target.join(&relation)).unwrap();
    bytes[5000] ^= 1;
    fs::write(target.join(&relation), bytes).unwrap();
    fs::write(target.join("base/1/stray"), "stray").unwrap();
    let done = output(&mut restore());
    assert!(done.contains(" unchanged"), "{done}");
    assert!(!target.join("base/1/stray").exists() && !target.join(".pgbosun-restoring").exists());
    output(Command::new(postgres("pg_verifybackup")).arg("-e").arg(&target));
    let socket = directory.path().join("s");
    fs::create_dir(&socket).unwrap();
    let restored = Cluster::adopt(&target, &socket);
    assert_eq!(restored.sql("select count(*) from pgbench_accounts"), "100000");
    // C17: a server that runs there is safe from everything.
    let done = restore().output().unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).contains("runs in"));
    assert_eq!(restored.sql("select 1"), "1");
}

#[test]
fn c7_c26_an_expiry_that_dies_at_any_point_leaves_what_stays_whole_and_the_next_ends_it() {
    let directory = directory();
    let (installation, cluster) = set_up(directory.path());
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let write = |text: &str| fs::write(directory.path().join("pgbosun.toml"), text).unwrap();
    for point in [faults::OBJECT_CREATED, faults::OBJECT_STORED, faults::OBJECT_REMOVED] {
        write(&text.replace("count = 2", "count = 9"));
        for _ in 0..3 {
            cluster.sql("update known set id = id + 1");
            installation.run(&["backup", "create"]);
            let segment = cluster.sql("select pg_walfile_name(pg_current_wal_lsn() - 1) from pg_switch_wal()");
            let mut push = installation.command(&["wal", "push", &format!("pg_wal/{segment}")]);
            output(push.current_dir(&cluster.data));
        }
        write(&text.replace("count = 2", "count = 1"));
        let newest = || installation.json(&["backup", "list"]).as_array().unwrap().last().unwrap()["label"].clone();
        let kept = newest();
        let expire = || installation.command(&["backup", "expire", "--force"]);
        let died = walk(point, 60, expire, |_| {
            assert!(listed_is_whole(&installation) >= 1);
            assert_eq!(newest(), kept, "C8");
        });
        println!("{point}: died {died} times");
        assert!(died >= 1, "{point}");
        assert_eq!(listed_is_whole(&installation), 1);
        assert_eq!(unfinished(directory.path()), "");
    }
}

#[test]
fn c26_a_mount_point_without_its_share_is_no_new_repository() {
    let directory = directory();
    let (installation, cluster) = set_up(directory.path());
    let text = fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    fs::write(directory.path().join("pgbosun.toml"), text + "[wal]\nfetch-patience = \"1s\"\n").unwrap();
    installation.run(&["backup", "create"]);
    let (share, aside) = (directory.path().join("repo"), directory.path().join("share"));
    let segment = cluster.sql("select pg_walfile_name(pg_current_wal_lsn() - 1) from pg_switch_wal()");
    let path = format!("pg_wal/{segment}");
    let refused = |arguments: &[&str], reason: &str| {
        let done = installation.command(arguments).current_dir(&cluster.data).output().unwrap();
        let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(!done.status.success() && words.contains(reason), "{arguments:?}: {words}");
    };
    let fetched = directory.path().join("fetched");
    let fetch = ["wal", "fetch", "000000010000000000000099", fetched.to_str().unwrap()];
    fs::rename(&share, &aside).unwrap();
    fs::create_dir(&share).unwrap();
    for arguments in [&["backup", "create"][..], &["wal", "push", &path], &["backup", "list"], &fetch] {
        refused(arguments, "it no longer has a pgbosun.json. Is the share mounted?");
    }
    assert_eq!(fs::read_dir(&share).unwrap().count(), 0, "nothing is stored under the mount point");
    // Another repository in its place: one that this installation made when it knew of none.
    let memory = directory.path().join("state/repositories/local.json");
    let known = fs::read(&memory).unwrap();
    fs::remove_file(&memory).unwrap();
    let _ = installation.try_run(&["check"]);
    fs::write(&memory, known).unwrap();
    refused(&["wal", "push", &path], "it is a different repository than before");
    fs::remove_dir_all(&share).unwrap();
    fs::rename(&aside, &share).unwrap();
    output(installation.command(&["wal", "push", &path]).current_dir(&cluster.data));
    installation.run(&["backup", "verify", "--all"]);
}

#[test]
fn c26_a_repository_that_is_away_is_caught_up_and_a_spool_holds_what_it_may() {
    let directory = directory();
    let place = directory.path().join("away");
    let configuration = format!(
        "{}[repositories.away]\ntype = \"local\"\npath = \"{}\"\nrequired = false\n[wal]\nspool-limit = \"3MB\"\n{MAIL}\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"away\"]\n\
         [jobs.copies]\nkind = \"replicate\"\nfrom = \"local\"\nto = \"away\"\n\
         [jobs.archive]\nkind = \"monitor.wal-archive\"\n",
        cluster_and_repository(&Cluster::nowhere_at(directory.path())),
        place.display()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    // A file where the directory should be: nothing can be stored there.
    fs::write(&place, "in the way").unwrap();
    let done = installation.try_run(&["backup", "create"]);
    let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    println!("{words}");
    cluster.sql(
        "create table noise as select md5(g::text) || md5((g * 7)::text) as word from generate_series(1, 30000) g",
    );
    cluster.archive_all();
    let spooled = || {
        output(
            Command::new("find")
                .arg(directory.path().join("state/spool/away"))
                .args(["-type", "f", "-path", "*/wal/*"]),
        )
    };
    assert!(!spooled().is_empty(), "the archive went on, and the spool has what the other lacks");
    for _ in 0..3 {
        cluster.sql(
            "insert into noise select md5(random()::text) || md5(random()::text) from generate_series(1, 40000) g",
        );
        cluster.archive_all();
    }
    let gaps = fs::read_to_string(directory.path().join("state/spool/away/gaps.jsonl")).unwrap();
    assert!(gaps.contains("\"repository\":\"away\""), "{gaps}");
    installation.start();
    installation.check("archive");
    wait_until("the gap is alerted", seconds(10), || {
        installation.mails().iter().any(|subject| subject.contains("left out of away"))
    });
    fs::remove_file(&place).unwrap();
    wait_until("the spool is brought on its way", seconds(40), || spooled().is_empty());
    installation.check("copies");
    installation.run(&["backup", "verify", "--all"]);
    let listed = installation.json(&["wal", "list"]);
    for repository in listed.as_array().unwrap() {
        assert_eq!(repository["timelines"][0]["gaps"], serde_json::json!([]), "{listed}");
    }
    let labels = installation.json(&["backup", "list"]);
    assert_eq!(labels[0]["label"], labels[1]["label"], "caught up: {labels}");
}

#[test]
fn c35_a_spool_that_takes_nothing_costs_the_required_repository_nothing() {
    let directory = directory();
    let (place, spool) = (directory.path().join("away"), directory.path().join("state/spool/away"));
    let configuration = format!(
        "{}[repositories.away]\ntype = \"local\"\npath = \"{}\"\nrequired = false\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n",
        cluster_and_repository(&Cluster::nowhere_at(directory.path())),
        place.display()
    );
    let installation = Installation::new(directory.path(), &configuration);
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    // The repository is away, and so is its spool: a file is where each should be.
    fs::write(&place, "in the way").unwrap();
    fs::create_dir_all(spool.parent().unwrap()).unwrap();
    fs::write(&spool, "in the way").unwrap();
    cluster.sql("create table t as select 1 a");
    cluster.archive_all();
    assert_eq!(cluster.sql("select failed_count from pg_stat_archiver"), "0");
    installation.run(&["backup", "create"]);
    let listed = installation.json(&["wal", "list", "--repository", "local"]);
    assert_eq!(listed[0]["timelines"][0]["gaps"], serde_json::json!([]), "{listed}");
}
