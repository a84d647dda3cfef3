//! Backup, verification, restore and restore test on a real server. The rules C1 to C26 are named where they are shown.

use crate::support::{
    Cluster, Installation, MAIL, cluster_and_repository, directory, major, output, postgres, seconds, wait_until,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const JOBS: &str = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n\
                    [jobs.test]\nkind = \"restore-test\"\nprogram-directory = \"{bin}\"\n\
                    [jobs.verify]\nkind = \"verify\"\nscope = \"all\"\n";

fn jobs() -> String {
    JOBS.replace("{bin}", &postgres("").display().to_string())
}

fn installation(directory: &Path, cluster: &Cluster) -> Installation {
    Installation::new(directory, &format!("{}{MAIL}{}", cluster_and_repository(cluster), jobs()))
}

/// The same with the source of backups given.
fn reading(source: &str, directory: &Path, cluster: &Cluster) -> Installation {
    let jobs = jobs().replace("\"backup.physical\"", &format!("\"backup.physical\"\nsource = \"{source}\""));
    Installation::new(directory, &format!("{}{MAIL}{jobs}", cluster_and_repository(cluster)))
}

/// Every file of the one backup there is.
fn objects(directory: &Path) -> Vec<PathBuf> {
    // What only holds room back says nothing.
    let holds_something = ["-type", "f", "!", "-name", "reserve"];
    let listed = output(Command::new("find").arg(directory.join("repo/main")).args(holds_something));
    listed.lines().map(PathBuf::from).collect()
}

/// Reference 000 (its lines by id): 000-B1, 000-B9.
#[test]
fn c12_c13_c14_a_backup_of_files_under_load_restores_with_tablespaces_and_pg_verifybackup_agrees() {
    under_load("files");
}

#[test]
fn c12_c13_c14_a_streamed_backup_under_load_restores_with_tablespaces_and_pg_verifybackup_agrees() {
    under_load("stream");
}

fn under_load(source: &str) {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    fs::create_dir(directory.path().join("space")).unwrap();
    cluster.sql(&format!("create tablespace fast location '{}'", directory.path().join("space").display()));
    cluster.sql(
        "create table elsewhere tablespace fast as select g as id, repeat('x', 100) from generate_series(1, 20000) g",
    );
    cluster.sql("create unlogged table unlogged as select generate_series(1, 1000)");
    cluster.sql("create database other");
    cluster.pgbench(5);
    let installation = reading(source, directory.path(), &cluster);

    let mut load = Command::new(postgres("pgbench"));
    load.args(["-c", "2", "-T", "6", "-n", "-h"]).arg(&cluster.socket).args(["-U", "postgres", "postgres"]);
    let mut load = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(seconds(1));
    let said = installation.run(&["backup", "create"]);
    assert!(said.contains("succeeded"), "{said}");
    let _ = load.wait();
    let log = fs::read_to_string(cluster.socket.join("pg.log")).unwrap();
    assert!(!log.contains("unexpected EOF"), "a connection of ours just ended:\n{log}");
    let at_backup = installation.json(&["backup", "list"]);
    let label = at_backup[0]["label"].as_str().unwrap();
    let verified = installation.run(&["backup", "verify", label]);
    assert!(verified.matches("ok ").count() == 6, "{verified}");

    // C1: nothing unfinished stays, and everything belongs to its owner alone.
    for object in objects(directory.path()) {
        let name = object.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with('.'), "{name}");
    }
    let target = directory.path().join("restored");
    let spaces = format!("{0}/space={0}/space2", directory.path().display());
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--tablespace", &spaces]);
    output(Command::new(postgres("pg_verifybackup")).arg("-e").arg(&target));
    // C13: what does not belong into a backup.
    for absent in ["postmaster.pid", "postmaster.opts", "pg_internal.init"] {
        assert!(!target.join(absent).exists(), "{absent}");
    }
    for empty in ["pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans", "pg_stat_tmp"]
    {
        assert_eq!(fs::read_dir(target.join(empty)).unwrap().count(), 0, "{empty}");
    }
    assert!(!target.join("global/pg_control.pgbosun-unfinished").exists());

    let socket = directory.path().join("s");
    fs::create_dir(&socket).unwrap();
    let restored = Cluster::adopt(&target, &socket);
    assert_eq!(restored.sql("select count(*), sum(id) from elsewhere"), "20000|200010000");
    assert_eq!(restored.sql("select count(*) from pgbench_accounts"), "500000");
    assert_eq!(restored.sql("select count(*) from unlogged"), "0");
    assert_eq!(
        restored.sql("select sum(abalance) = (select sum(bbalance) from pgbench_branches) from pgbench_accounts"),
        "t"
    );
    assert_eq!(restored.sql("select count(*) from pg_database where datname = 'other'"), "1");
    // C21: the copy does not archive.
    assert_eq!(restored.sql("show archive_mode"), "off");
    assert_eq!(
        cluster.sql("select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'"),
        format!("{}/space", directory.path().display())
    );
    // C17: without a mapping the tablespace would go where the live server has its own.
    drop(restored);
    let done = installation.try_run(&["restore", "physical", "--to", target.to_str().unwrap(), "--force"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("is a tablespace of the PostgreSQL server that runs in"));
    assert_eq!(cluster.sql("select count(*), sum(id) from elsewhere"), "20000|200010000");
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--force", "--tablespace", &spaces]);
}

#[test]
fn a_role_reads_files_where_it_may_and_else_the_stream() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.sql("create role bosun login replication in role pg_monitor");
    let configuration = format!("{}{MAIL}{}", cluster_and_repository(&cluster), jobs());
    let installation = Installation::new(directory.path(), &configuration.replace("user=postgres", "user=bosun"));
    let volumes = |expected: &str| {
        let said = installation.run(&["job", "run", "full", "--dry-run"]);
        assert!(said.contains(expected), "{said}");
        installation.run(&["backup", "create"]);
        installation.run(&["backup", "verify", "--latest"]);
        let names = objects(directory.path());
        let of_base = names.iter().filter(|name| name.file_name().unwrap().to_string_lossy().starts_with("base."));
        let count = of_base.count();
        fs::remove_dir_all(directory.path().join("repo/main")).unwrap();
        count
    };
    assert_eq!(volumes("may not call pg_backup_start"), 1);
    cluster.sql("grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean) to bosun");
    assert_eq!(volumes("may not read postmaster.pid"), 1);
    cluster.sql("grant execute on function pg_read_file(text) to bosun");
    assert_eq!(volumes("from the data directory"), 3, "two workers, and pg_control");
}

#[test]
fn c17_a_restore_refuses_what_it_would_overwrite() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let installation = installation(directory.path(), &cluster);
    // Where that goes is no question before the target will do.
    let space = directory.path().join("space");
    fs::create_dir(&space).unwrap();
    cluster.sql(&format!("create tablespace space location '{}'", space.display()));
    installation.run(&["backup", "create"]);
    let refused = |target: &Path| {
        let done = installation.try_run(&["restore", "physical", "--to", target.to_str().unwrap()]);
        assert_eq!(done.status.code(), Some(1));
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    assert!(refused(&cluster.data).contains("a PostgreSQL server runs in"));
    assert!(refused(directory.path()).contains("is neither empty nor a data directory"));
    assert_eq!(cluster.sql("select 1"), "1");
}

#[test]
fn c16_c26_a_flipped_bit_in_any_object_is_found_and_named() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.pgbench(1);
    let installation = installation(directory.path(), &cluster);
    installation.run(&["backup", "create"]);
    let objects = objects(directory.path());
    assert!(objects.len() >= 4, "{objects:?}");
    for object in &objects {
        let name = object.file_name().unwrap().to_string_lossy().into_owned();
        let whole = fs::read(object).unwrap();
        let mut broken = whole.clone();
        let at = broken.len() / 2;
        broken[at] ^= 0x10;
        fs::write(object, &broken).unwrap();
        let done = installation.try_run(&["backup", "verify", "--all"]);
        let words = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!(done.status.code(), Some(2), "a damaged {name} is not found:\n{words}");
        assert!(words.contains(&name), "{name} is not named:\n{words}");
        fs::remove_file(object).unwrap();
        // What is not there is not missed: the backup does not exist, a note was never made, a new identity is given.
        if !["backup.json", "verified.json", "pgbosun.json"].contains(&name.as_str()) {
            let done = installation.try_run(&["backup", "verify", "--all"]);
            assert_eq!(done.status.code(), Some(2), "a missing {name} is not found");
        }
        fs::write(object, &whole).unwrap();
    }
    installation.run(&["backup", "verify", "--all"]);
}

#[test]
fn c21_a_restore_test_measures_and_leaves_nothing() {
    let directory = directory();
    let cluster =
        Cluster::start_with(directory.path(), "max_connections = 137\narchive_mode = on\narchive_command = 'false'");
    cluster.pgbench(2);
    cluster.sql("alter system set shared_preload_libraries = 'pg_stat_statements'");
    let mut installation = installation(directory.path(), &cluster);
    installation.start();
    installation.run(&["backup", "create"]);
    let said = installation.json(&["restore-test"]);
    assert!(said["state"] == "succeeded" && said["summary"].as_str().unwrap().contains("200022 rows"), "{said}");
    let seconds = |key: &str| said[key].as_f64().unwrap();
    assert!(said["passed"] == true && seconds("rto_seconds") > 0.0 && seconds("rpo_seconds") > 0.0, "{said}");
    assert_eq!(fs::read_dir(directory.path().join("state/restore-test")).unwrap().count(), 0);
    let measured = installation
        .journal("select passed, databases, tables, rows, total_seconds > 0, restore_seconds > 0 from restore_tests");
    assert_eq!(measured, "1|2|4|200022|1|1");
    let status = installation.try_run(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("restore test   passed"));
    // Its own alone: other tests have scratch servers at the same time.
    let count = format!("pgrep -fc '{}/state/restore-tes[t]' || true", directory.path().display());
    let running = output(Command::new("sh").args(["-c", &count]));
    assert_eq!(running.trim(), "0");
}

#[test]
fn c15_damaged_pages_found_in_files_make_a_backup_suspect_and_alert() {
    damaged_pages("files");
}

#[test]
fn c15_damaged_pages_found_by_the_server_make_a_backup_suspect_and_alert() {
    damaged_pages("stream");
}

fn damaged_pages(source: &str) {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.sql("create table victim as select generate_series(1, 10000) as id");
    let path = cluster.data.join(cluster.sql("select pg_relation_filepath('victim')"));
    let mut installation = reading(source, directory.path(), &cluster);
    installation.run(&["backup", "create"]);
    cluster.sql("checkpoint");
    cluster.down();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8192 + 4000] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    cluster.up();
    installation.start();
    let said = installation.run(&["backup", "create"]);
    assert!(said.contains("CRITICAL") && said.contains("found damaged pages"), "{said}");
    let listed = installation.json(&["backup", "list"]);
    assert_eq!((&listed[0]["suspect"], &listed[1]["suspect"]), (&false.into(), &true.into()), "{listed}");
    wait_until("mail", seconds(10), || {
        installation.mails().iter().any(|subject| subject.contains("found damaged pages"))
    });
    // The last good one is the older: that is what a restore takes.
    let target = directory.path().join("restored");
    let done = installation.json(&["restore", "physical", "--to", target.to_str().unwrap()]);
    assert_eq!(done["label"], listed[0]["label"]);
    assert_eq!(installation.history("full")[0]["attempts"], 1, "not retried");
}

#[test]
fn c10_another_system_identifier_under_the_same_name_is_refused() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let installation = installation(directory.path(), &cluster);
    installation.run(&["backup", "create"]);
    cluster.down();
    fs::remove_dir_all(&cluster.data).unwrap();
    output(Command::new(postgres("initdb")).arg("-D").arg(&cluster.data).args(["-A", "trust", "-U", "postgres", "-N"]));
    let settings = format!("listen_addresses = ''\nunix_socket_directories = '{}'\n", cluster.socket.display());
    fs::write(cluster.data.join("postgresql.auto.conf"), settings).unwrap();
    cluster.up();
    let done = installation.try_run(&["backup", "create"]);
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && words.contains("cluster accept main"), "{words}");
    // Somebody says that it is right.
    installation.run(&["cluster", "accept", "main", "--reason", "new initdb"]);
    let said = installation.run(&["backup", "create"]);
    assert!(said.contains("succeeded"), "{said}");
    assert_eq!(installation.json(&["backup", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_cancelled_backup_leaves_nothing_and_a_failed_verification_alerts() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.pgbench(10);
    let mut installation = installation(directory.path(), &cluster);
    installation.start();
    // A spread checkpoint keeps the backup waiting long enough to be cancelled.
    let text = format!("{}{MAIL}{}", cluster_and_repository(&cluster), jobs())
        .replace("[jobs.full]\n", "[jobs.full]\ncheckpoint = \"spread\"\n");
    cluster.sql("update pgbench_accounts set abalance = 1");
    installation.configure(&text);
    installation.reload();
    installation.run(&["job", "run", "full"]);
    wait_until("lease", seconds(10), || directory.path().join("repo/main").exists());
    installation.run(&["job", "cancel", "full"]);
    wait_until("cancelled", seconds(40), || installation.count("full", "cancelled") == 1);
    wait_until("clean", seconds(10), || {
        output(Command::new("find").arg(directory.path().join("repo")).args([
            "-type",
            "f",
            "!",
            "-name",
            "pgbosun.json",
            "!",
            "-name",
            "reserve",
        ]))
        .is_empty()
    });
    wait_until("the server is left alone", seconds(10), || {
        cluster.sql("select count(*) from pg_replication_slots") == "0"
    });

    installation.configure(&format!("{}{MAIL}{}", cluster_and_repository(&cluster), jobs()));
    installation.reload();
    installation.run(&["backup", "create"]);
    let volume = objects(directory.path()).into_iter().find(|path| path.ends_with("base.0001.tar.zst")).unwrap();
    let mut bytes = fs::read(&volume).unwrap();
    bytes[1000] ^= 1;
    fs::write(&volume, bytes).unwrap();
    // docs/exit-codes.md: what a job finds that is there to find something out.
    let found = installation.try_run(&["job", "run", "verify", "--wait"]);
    assert_eq!(found.status.code(), Some(2), "{}", String::from_utf8_lossy(&found.stdout));
    wait_until("mail", seconds(10), || installation.mails().iter().any(|subject| subject.contains("is damaged")));
    let status = installation.try_run(&["status"]);
    assert_eq!(status.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&status.stdout).contains(", damaged; 1 backup"));
}

#[test]
fn c7_c8_retention_removes_what_nothing_keeps() {
    let directory = directory();
    let cluster = Cluster::nowhere_at(directory.path());
    let text = format!("{}{MAIL}{}", cluster_and_repository(&cluster), jobs())
        .replace("[jobs.full]\n", "[jobs.full]\nretention = { count = 2 }\n");
    let copies = format!(
        "[repositories.second]\ntype = \"local\"\npath = \"{}\"\n\
         [jobs.copies]\nkind = \"replicate\"\nfrom = \"local\"\nto = \"second\"\nwal = false\n",
        directory.path().join("second").display()
    );
    let mut installation = Installation::new(directory.path(), &(text + &copies));
    let _cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    installation.start();
    let reachable = || installation.json(&["status"])["clusters"][0]["restorable"]["from"].as_str().unwrap().to_owned();
    for round in 0..4 {
        let before = (round > 1).then(reachable);
        installation.run(&["backup", "create", "full"]);
        assert!(before.is_none_or(|before| before < reachable()), "what retention removed cannot be reached any more");
    }
    let listed = installation.json(&["backup", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(installation.journal("select count(*) from backups where state = 'removed'"), "2");
    installation.run(&["backup", "verify", "--all"]);

    // What is kept is listed so; what is older than all that the other repository has is left out there, and said.
    let label = |of: usize| listed[of]["label"].as_str().unwrap();
    installation.run(&["backup", "keep", label(0), "--reason", "audit"]);
    let told = installation.run(&["backup", "list"]);
    assert_eq!(told.lines().filter(|line| line.contains("kept")).count(), 1, "{told}");
    let kept = installation.json(&["backup", "list"]);
    assert!(kept[0]["kept"].as_str().unwrap().starts_with("audit (") && kept[1]["kept"].is_null(), "{kept}");
    installation.run(&["backup", "copy", label(1), "--to", "second"]);
    let replicated = installation.check("copies");
    assert!(replicated.contains("left out 1 backup older than everything in second"), "{replicated}");
}

#[test]
fn c9_two_jobs_of_one_moment_are_two_backups_and_broken_off_removals_are_finished() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.pgbench(3);
    let job = |name: &str| format!("[jobs.{name}]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n");
    let text = format!("{}{MAIL}{}{}", cluster_and_repository(&cluster), job("daily"), job("weekly"));
    let mut installation = Installation::new(directory.path(), &text);
    installation.start();
    installation.run(&["job", "run", "daily"]);
    installation.run(&["job", "run", "weekly"]);
    wait_until("both", seconds(60), || {
        installation.count("daily", "succeeded") == 1 && installation.count("weekly", "succeeded") == 1
    });
    assert_eq!(installation.json(&["backup", "list"]).as_array().unwrap().len(), 2);
    installation.run(&["backup", "verify", "--all"]);

    // A removal that was broken off after backup.json left objects that nothing else knows of.
    let whole = objects(directory.path()).into_iter().find(|path| path.ends_with("backup.json")).unwrap();
    fs::remove_file(&whole).unwrap();
    let left = whole.parent().unwrap();
    assert!(left.join("base.0001.tar.zst").exists());
    // What lies about beside the backups is nobody's backup, and harms nobody.
    fs::write(directory.path().join("repo/README"), "notes").unwrap();
    fs::write(directory.path().join("repo/main/notes"), "notes").unwrap();
    let said = installation.check("daily");
    assert!(said.contains("removed leftovers"), "{said}");
    assert!(!left.exists());
    assert_eq!(installation.json(&["backup", "list"]).as_array().unwrap().len(), 2);

    // Renamed, the cluster's backups go with the directory.
    fs::remove_file(directory.path().join("repo/main/notes")).unwrap();
    fs::rename(directory.path().join("repo/main"), directory.path().join("repo/renamed")).unwrap();
    installation.run(&["backup", "verify", "--all"]);
}

/// The scripts of the page, in order.
fn by_hand() -> Vec<String> {
    let page = fs::read_to_string(crate::support::file("docs/restore-by-hand.md")).unwrap();
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

#[test]
fn c22_a_restore_by_hand_needs_tar_zstd_age_and_postgresql_alone() {
    let directory = directory();
    let key = directory.path().join("key");
    output(Command::new("age-keygen").arg("-o").arg(&key).stderr(Stdio::null()));
    let public = output(Command::new("age-keygen").arg("-y").arg(&key));
    for (name, options) in [
        ("plain", String::new()),
        ("sealed", format!("encrypt-to = [\"{}\"]\nidentity-file = \"{}\"\n", public.trim(), key.display())),
        ("gzip", "compression = \"gzip\"\n".to_owned()),
        ("lz4", "compression = \"lz4\"\n".to_owned()),
        ("none", "compression = \"none\"\n".to_owned()),
    ] {
        let place = directory.path().join(name);
        fs::create_dir(&place).unwrap();
        let configuration = format!(
            "[clusters.main]\nconnection = \"host={} user=postgres dbname=postgres\"\n[repositories.local]\ntype = \"local\"\n\
             path = \"{{dir}}/repo\"\n{options}{MAIL}{}",
            place.display(),
            jobs()
        );
        let installation = Installation::new(&place, &configuration);
        let cluster = Cluster::start_with(&place, &Cluster::archiving(&place));
        cluster.sql("create table known as select 1 as answer");
        installation.run(&["backup", "create"]);
        cluster.sql("update known set answer = 42");
        std::thread::sleep(std::time::Duration::from_millis(100));
        let time = cluster.sql("select clock_timestamp()");
        std::thread::sleep(std::time::Duration::from_millis(100));
        cluster.sql("update known set answer = 43");
        cluster.archive_all();
        cluster.down();
        let info = objects(&place).into_iter().find(|path| path.ends_with("backup.json")).unwrap();
        let backup = info.parent().unwrap();
        let target = place.join("by-hand");
        let run = |script: &str| {
            let mut command = Command::new("bash");
            command.args(["-euo", "pipefail", "-c", script]).env("B", backup).env("D", &target).env("K", &key);
            let path = format!("{}:{}", postgres("").display(), std::env::var("PATH").unwrap());
            output(command.env("T", &time).env("A", backup.parent().unwrap().with_file_name("wal")).env("PATH", path))
        };
        let scripts = by_hand();
        let [unpack, check, recover, configure, _start] = scripts.as_slice() else { panic!("{scripts:?}") };
        run(unpack);
        run(check);
        run(recover);
        run(configure);
        let socket = place.join("s");
        fs::create_dir(&socket).unwrap();
        let restored = Cluster::adopt(&target, &socket);
        restored.recovered();
        assert_eq!(restored.sql("select answer from known"), "42", "{name}");
        // The program itself reads it too, and says what it cannot without the key.
        let verified = installation.run(&["backup", "verify", "--all"]);
        assert!(!verified.contains("encrypted"), "{verified}");
        if name == "sealed" {
            let text = fs::read_to_string(place.join("pgbosun.toml")).unwrap();
            let keyless: String = text
                .lines()
                .filter(|line| !line.starts_with("identity-file"))
                .fold(String::new(), |text, line| text + line + "\n");
            fs::write(place.join("pgbosun.toml"), keyless).unwrap();
            let verified = installation.run(&["backup", "verify", "--all"]);
            assert!(verified.contains("not checked: it is encrypted"), "{verified}");
            let done = installation.try_run(&["restore", "physical", "--to", place.join("no").to_str().unwrap()]);
            let words = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(words.contains("no identity is configured"), "{words}");
        }
    }
    assert!(major() >= 15);
}
