//! WAL beyond archiving: received over a slot, and used to bring back a part of a cluster.

use crate::support::{Cluster, Installation, MAIL, cluster_and_repository, directory, seconds, wait_until};
use std::fs;

const WAL_ARCHIVE: &str = "[jobs.wal-archive]\nkind = \"monitor.wal-archive\"\n";
const FULL: &str = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";

#[test]
fn c6_what_was_received_is_there_to_the_last_commit_when_the_server_is_lost() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.sql("create table ledger (id bigint generated always as identity primary key)");
    let configuration = cluster_and_repository(&cluster)
        .replace("[repositories.local]", "receive-wal = true\n[repositories.local]")
        + MAIL
        + FULL
        + WAL_ARCHIVE;
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.run(&["backup", "create"]);
    installation.start();
    let caught_up = || {
        cluster
            .sql("select coalesce(bool_and(flush_lsn >= pg_current_wal_flush_lsn()), false) from pg_stat_replication")
            == "t"
    };
    wait_until("the receiver streams", seconds(30), caught_up);
    for _ in 0..3 {
        cluster.sql("insert into ledger select from generate_series(1, 100)");
        cluster.sql("select pg_switch_wal()");
    }
    cluster.sql("insert into ledger select from generate_series(1, 7)");
    wait_until("all of it is durable with us", seconds(10), caught_up);
    let slot = cluster.sql("select slot_name, active from pg_replication_slots where slot_type = 'physical'");
    assert_eq!(slot, "pgbosun|t");
    // Broken off, it goes on where it was.
    cluster.sql("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'pgbosun'");
    cluster.sql("insert into ledger select from generate_series(1, 5)");
    wait_until("it is back", seconds(20), caught_up);
    // Archiving is off, and nothing is missing by that.
    let done = installation.try_run(&["check"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        said.contains("WAL is received over a replication slot") && !said.contains("nothing is archived"),
        "{said}"
    );
    assert!(said.contains("ran all these checks itself"), "{said}");
    let answered = installation.check("wal-archive");
    assert!(!answered.contains("CRITICAL"), "{answered}");
    cluster.down();
    fs::remove_dir_all(&cluster.data).unwrap();
    installation.stop();

    let target = directory.path().join("restored");
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--latest"]);
    let socket = directory.path().join("s");
    fs::create_dir(&socket).unwrap();
    let restored = Cluster::adopt(&target, &socket);
    restored.recovered();
    assert_eq!(restored.sql("select count(*) from ledger"), "312");
}

#[test]
fn a_table_a_schema_and_a_database_come_back_as_they_were() {
    let directory = directory();
    let configuration = format!("{}{MAIL}{FULL}", cluster_and_repository(&Cluster::nowhere_at(directory.path())));
    let installation = Installation::new(directory.path(), &configuration);
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    cluster.sql("create schema shop");
    cluster.sql("create table shop.orders as select g as id, 'order ' || g as words from generate_series(1, 500) g");
    cluster.sql("create table shop.customers as select 1 as id");
    cluster.sql("create database rescue");
    installation.run(&["backup", "create"]);
    cluster.sql("insert into shop.orders values (501, 'the last good one')");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let time = cluster.sql("select clock_timestamp()");
    std::thread::sleep(std::time::Duration::from_millis(200));
    cluster.sql("delete from shop.orders");
    cluster.archive_all();

    let file = directory.path().join("orders.sql");
    let path = file.to_str().unwrap();
    let programs = crate::support::postgres("").display().to_string();
    let part = ["--program-directory", &programs, "--target-time", &time];
    installation.run(&[&["restore", "table", "postgres.shop.orders", "--to", path][..], &part].concat());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("the last good one") && !text.contains("shop.customers"));
    // Into another database of the live cluster, beside what is there.
    installation.run(&[&["restore", "schema", "postgres.shop", "--into", "rescue"][..], &part].concat());
    let rescued = Cluster::nowhere_at(directory.path());
    let count = |database: &str| {
        let connection = rescued.connection().replace("dbname=postgres", &format!("dbname={database}"));
        let mut command = std::process::Command::new(crate::support::postgres("psql"));
        command.arg("-d").arg(connection).args(["-XAtqc", "select count(*) from shop.orders"]);
        crate::support::output(&mut command).trim().to_owned()
    };
    assert_eq!(count("rescue"), "501");
    assert_eq!(cluster.sql("select count(*) from shop.orders"), "0", "the live table is as it was");
    // What is there already is not touched: all of it or nothing.
    let again = [&["restore", "table", "postgres.shop.orders", "--into", "rescue"][..], &part].concat();
    let done = installation.try_run(&again);
    assert!(String::from_utf8_lossy(&done.stderr).contains("already exists"));
    assert_eq!(count("rescue"), "501");
    assert_eq!(fs::read_dir(directory.path().join("state/restore-test")).unwrap().count(), 0);
    let done = installation.try_run(&["restore", "table", "orders", "--to", "-"]);
    assert_eq!(done.status.code(), Some(64));
}
