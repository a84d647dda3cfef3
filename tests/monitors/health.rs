//! How tables and the server itself do.

use super::{Session, all_quiet, check, installation, told};
use crate::support::{Cluster, directory, postgres, seconds, wait_until};
use std::{
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
};

#[test]
fn health() {
    let directory = directory();
    let settings = "autovacuum = off\nshared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.max = 100\n\
                    checkpoint_timeout = '1h'";
    let cluster = Cluster::start_with(directory.path(), settings);
    let monitors = [
        "cache-hit",
        "cache-hit/always: warning-percent = 101.0; minimum-reads = 0.0",
        "checkpoints",
        "checksums",
        "invalid-indexes",
        "unlogged",
        "sequences",
        "statistics",
        "autovacuum",
        "vacuum",
        "bloat: minimum = \"1MB\"",
        "statements",
    ];
    let installation = installation(directory.path(), &cluster, &monitors);
    cluster.sql("create extension pg_stat_statements");
    let quiet = [
        "cache-hit",
        "cache-hit-always",
        "checkpoints",
        "checksums",
        "invalid-indexes",
        "unlogged",
        "sequences",
        "statistics",
        "vacuum",
        "bloat",
        "statements",
    ];
    all_quiet(&installation, &quiet);
    assert_eq!(check(&installation, "autovacuum"), ["critical autovacuum"]);
    cluster.sql("alter system set autovacuum = on");
    cluster.sql("alter system set autovacuum_naptime = '1d'");
    cluster.sql("select pg_reload_conf()");
    wait_until("autovacuum is on", seconds(10), || check(&installation, "autovacuum").is_empty());

    cluster.sql(
        "create table wide (id int, filler text); insert into wide select i, repeat('x', 200) from generate_series(1, 100000) i;
         create unlogged table lost (i int);
         create table doubled (i int); insert into doubled values (1), (1);
         create table numbered (id serial, n int); select setval('numbered_id_seq', 2000000000)",
    );
    assert!(
        Command::new(postgres("psql"))
            .arg("-d")
            .arg(cluster.connection())
            .args(["-Xqc", "create unique index concurrently broken on doubled (i)"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| !status.success())
    );
    assert_eq!(check(&installation, "invalid-indexes"), ["warning postgres"]);
    assert!(told(&installation, "invalid-indexes").contains("\npublic.broken  public.doubled"));
    assert_eq!(check(&installation, "unlogged"), ["warning postgres"]);
    assert_eq!(check(&installation, "sequences"), ["critical public.numbered_id_seq in postgres"]);
    wait_until("the statistics arrive", seconds(10), || check(&installation, "statistics") == ["warning postgres"]);
    cluster.sql("analyze wide");
    wait_until("it is analysed", seconds(10), || check(&installation, "statistics").is_empty());
    cluster.sql("delete from wide where id > 20000");
    wait_until("the statistics arrive", seconds(10), || check(&installation, "vacuum") == ["warning postgres"]);
    cluster.sql("vacuum (analyze, truncate off) wide");
    wait_until("it is vacuumed", seconds(10), || check(&installation, "vacuum").is_empty());
    assert_eq!(check(&installation, "bloat"), ["warning public.wide in postgres"]);

    for _ in 0..4 {
        cluster.sql("checkpoint");
    }
    wait_until("the statistics arrive", seconds(10), || check(&installation, "checkpoints") == ["warning checkpoints"]);
    let mut statements = String::new();
    for number in 0..160 {
        write!(statements, "select 1{};", " + 1".repeat(number)).unwrap();
    }
    cluster.sql(&statements);
    wait_until("a second", seconds(10), || check(&installation, "statements") == ["warning evictions"]);
    cluster.sql("select count(*) from wide");
    wait_until("the statistics arrive", seconds(10), || {
        check(&installation, "cache-hit-always").contains(&"warning postgres".to_owned())
    });

    // A bit flips on the disk.
    let path = cluster.sql("select pg_relation_filepath('wide')");
    cluster.sql("checkpoint");
    cluster.down();
    let path = cluster.data.join(path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4000] ^= 1;
    fs::write(&path, bytes).unwrap();
    cluster.up();
    let mut read = Command::new(postgres("psql"));
    let _ = read.arg("-d").arg(cluster.connection()).args(["-Xqc", "select count(*) from wide"]).output();
    wait_until("the statistics arrive", seconds(10), || check(&installation, "checksums") == ["critical postgres"]);
}

#[test]
fn age_of_what_autovacuum_does_not_reach() {
    let directory = directory();
    let settings = "autovacuum = off\nautovacuum_freeze_max_age = 100000\nsynchronous_commit = off";
    let cluster = Cluster::start_with(directory.path(), settings);
    let installation = installation(directory.path(), &cluster, &["vacuum"]);
    cluster.sql("create table long (text text)");
    cluster.sql("alter table long alter text set storage external");
    cluster.sql("insert into long select repeat('x', 3000) from generate_series(1, 12000)");
    cluster.sql("delete from long");
    cluster.sql("vacuum (process_toast false) long");
    wait_until("the statistics arrive", seconds(10), || check(&installation, "vacuum") == ["warning postgres"]);
    let told_of = told(&installation, "vacuum");
    assert!(
        told_of.contains("\npublic.long (its TOAST)      24000 ") && !told_of.contains("public.long  "),
        "{told_of}"
    );
    cluster.sql("vacuum long");
    wait_until("it is vacuumed", seconds(10), || check(&installation, "vacuum").is_empty());

    // Even with autovacuum off PostgreSQL freezes what is too old, but not what belongs to a session.
    let session = Session::open(&cluster, "create temp table forgotten (text text);");
    let exists = "select count(*) from pg_class where relname = 'forgotten'";
    wait_until("the session has its table", seconds(10), || cluster.sql(exists) == "1");
    cluster.sql(
        "create procedure burn() language plpgsql as $$ begin
             for i in 1..125000 loop perform pg_current_xact_id(); commit; end loop;
         end $$",
    );
    cluster.sql("call burn()");
    cluster.sql("vacuum (freeze)");
    assert_eq!(check(&installation, "vacuum"), ["warning postgres"]);
    let told_of = told(&installation, "vacuum");
    assert!(told_of.starts_with("2 tables in postgres") && told_of.contains(".forgotten "), "{told_of}");
    drop(session);
    wait_until("the session is gone", seconds(10), || cluster.sql(exists) == "0");
    assert_eq!(check(&installation, "vacuum"), [""; 0]);
}

#[test]
fn autovacuum_that_has_no_worker_to_spare() {
    let directory = directory();
    let settings = "autovacuum_max_workers = 1\nautovacuum_naptime = '1d'\nautovacuum_vacuum_cost_delay = '100ms'\n\
                    autovacuum_vacuum_cost_limit = 1";
    let cluster = Cluster::start_with(directory.path(), settings);
    let installation =
        installation(directory.path(), &cluster, &["autovacuum", "autovacuum/short: saturated = \"1s\""]);
    all_quiet(&installation, &["autovacuum", "autovacuum-short"]);
    cluster.sql("create table bulk as select i, repeat('x', 200) from generate_series(1, 100000) i");
    cluster.sql("delete from bulk where i % 2 = 0");
    let set = |setting: &str| {
        cluster.sql(&format!("alter system set {setting}"));
        cluster.sql("select pg_reload_conf()");
    };
    set("autovacuum_naptime = '1s'");
    let at_work =
        "select count(*) from pg_stat_activity where backend_type = 'autovacuum worker' and query like '%public.bulk%'";
    wait_until("the only worker is at work", seconds(20), || cluster.sql(at_work) == "1");
    wait_until("for a second", seconds(20), || check(&installation, "autovacuum-short") == ["warning workers"]);
    let words = told(&installation, "autovacuum-short");
    assert!(words.starts_with("all autovacuum workers (1) have been busy for ") && words.contains("VACUUM"), "{words}");
    assert!(words.contains(" public.bulk"), "{words}");
    assert_eq!(check(&installation, "autovacuum"), [""; 0], "two hours are not over");
    set("autovacuum_vacuum_cost_delay = 0");
    // Until PostgreSQL 15 a worker reads that when it comes to its next table.
    cluster.sql("select pg_cancel_backend(pid) from pg_stat_activity where backend_type = 'autovacuum worker'");
    wait_until("the worker is done", seconds(20), || check(&installation, "autovacuum-short").is_empty());
    let dead = "select n_dead_tup from pg_stat_user_tables where relname = 'bulk'";
    wait_until("the table is vacuumed", seconds(20), || cluster.sql(dead) == "0");
}
