//! Maintenance on a server that was bloated on purpose.

use crate::support::{Cluster, Installation, Session, directory, output, postgres, program, seconds, wait_until};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

const QUIET: &str = "autovacuum = off\nmax_prepared_transactions = 5";

fn installation(directory: &Path, cluster: &Cluster, jobs: &str) -> Installation {
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\ndata-directory = \"{}\"\n{jobs}",
        cluster.connection(),
        cluster.data.display()
    );
    Installation::new(directory, &configuration)
}

/// Rows of what maintenance did: `action result object`, and the reason.
fn rows(installation: &Installation, like: &str) -> Vec<String> {
    let query = format!(
        "select action || ' ' || result || ' ' || object || ': ' || reason from maintenance where {like} order by id"
    );
    installation.journal(&query).lines().map(str::to_owned).collect()
}

fn size(cluster: &Cluster, relation: &str) -> u64 {
    cluster.sql(&format!("select pg_relation_size('{relation}')")).parse().unwrap()
}

/// Reference 000 (its lines by id): 000-D1.
#[test]
fn vacuum_takes_what_needs_it_and_says_what_is_in_its_way() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let installation = installation(
        directory.path(),
        &cluster,
        "[jobs.vacuum]\nkind = \"maintenance.vacuum\"\nlock-timeout = \"300ms\"\n\
         [jobs.all]\nkind = \"maintenance.vacuum\"\nall = true\n\
         [jobs.analyze]\nkind = \"maintenance.analyze\"\n",
    );
    cluster.sql("create table dead as select g as id, repeat('x', 200) as t from generate_series(1, 20000) g");
    cluster.sql("create table calm as select g as id from generate_series(1, 20000) g");
    cluster.sql("create table locked as select g as id from generate_series(1, 20000) g");
    cluster.sql("vacuum analyze");
    cluster.sql("delete from dead where id % 2 = 0");
    cluster.sql("delete from locked where id % 2 = 0");

    // It says what it would do, and does nothing.
    let told = installation.run(&["job", "run", "vacuum", "--dry-run"]);
    assert!(told.contains("VACUUM (ANALYZE, SKIP_LOCKED, PARALLEL 0) public.dead;  -- 10000 dead rows"), "{told}");
    assert!(!told.contains("public.calm"), "{told}");
    assert_eq!(rows(&installation, "true"), [""; 0]);

    // One table is locked, and an old transaction keeps the dead rows of the other.
    let old = Session::open(&cluster, "begin isolation level repeatable read; select count(*) from calm;");
    cluster.sql("delete from dead where id % 4 = 1");
    let held = Session::open(&cluster, "begin; lock table locked in access exclusive mode;");
    installation.run(&["job", "run", "vacuum"]);
    let done = rows(&installation, "action = 'vacuum' and database = 'postgres'");
    let told = done.join("\n");
    assert_eq!(done.len(), 2, "{told}");
    assert!(told.contains("vacuum skipped public.locked: locked by another session"), "{told}");
    assert!(told.contains("5000 dead rows remain, held by the session process"), "{told}");
    let behind =
        "select count(*) from findings where object = 'locks' and summary = '1 object skipped because others were in the way'
        and detail like '%public.locked%'";
    assert_eq!(installation.journal(behind), "1");
    drop((old, held));

    // A role that may not do it hears of it once, and the server's warnings are not taken for success.
    cluster.sql("create role weak login; grant pg_monitor to weak");
    let connection = cluster.connection();
    let weak = std::fs::read_to_string(directory.path().join("pgbosun.toml")).unwrap();
    let weak = weak.replace(&connection, &connection.replace("user=postgres", "user=weak"));
    std::fs::write(directory.path().join("weak.toml"), weak.replace("/state\"", "/weak\"")).unwrap();
    let mut command = Command::new(program());
    command.arg("--config").arg(directory.path().join("weak.toml")).args(["job", "run", "vacuum"]);
    let refused = output(&mut command);
    assert!(
        refused.contains("most common reason for not doing it: not permitted for this role: it is not the owner"),
        "{refused}"
    );

    // Then nothing is, and nothing is left to do.
    cluster.sql("delete from dead where id % 8 = 3");
    installation.run(&["job", "run", "vacuum"]);
    let left = "select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables where relname in ('dead', 'locked')";
    assert_eq!(cluster.sql(left), "0");
    let told = installation.run(&["job", "run", "vacuum"]);
    assert!(told.contains("no table needs it"), "{told}");

    // Everything, as reference 000 has it.
    let vacuumed = "select count(*) from pg_stat_user_tables where vacuum_count > 0";
    assert_eq!(cluster.sql(vacuumed), "3");
    installation.run(&["job", "run", "all"]);
    assert!(rows(&installation, "job = 'all'").iter().any(|row| row.contains("public.calm: all = true")));

    // Statistics: a table that changed, and a partitioned one, which autovacuum never analyzes.
    cluster.sql("create table parts (id int) partition by range (id)");
    cluster.sql("create table part partition of parts for values from (0) to (1000000)");
    cluster.sql("insert into parts select generate_series(1, 1000)");
    cluster.sql("insert into calm select generate_series(1, 20000)");
    installation.run(&["job", "run", "analyze"]);
    let analyzed = rows(&installation, "job = 'analyze' and result = 'done'").join("\n");
    for table in ["public.calm", "public.part", "public.parts"] {
        assert!(analyzed.contains(&format!("analyze done {table}:")), "{table}: {analyzed}");
    }
    assert!(installation.run(&["job", "run", "analyze"]).contains("no table needs it"));
}

#[test]
fn a_table_that_needs_it_every_night_gets_settings_recommended() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let installation = installation(directory.path(), &cluster, "[jobs.vacuum]\nkind = \"maintenance.vacuum\"\n");
    cluster.sql("create table busy as select g as id from generate_series(1, 50000) g");
    cluster.sql("vacuum analyze");
    let open = "select object || '|' || statement from recommendations where gone_at is null";
    installation.run(&["job", "run", "vacuum"]);
    for night in 1..=3 {
        assert_eq!(installation.journal(open), "", "night {night}");
        cluster.sql("update busy set id = id");
        installation.run(&["job", "run", "vacuum"]);
    }
    let recommended = installation.journal(open);
    assert!(
        recommended.starts_with("public.busy|ALTER TABLE public.busy SET (autovacuum_vacuum_scale_factor = 0."),
        "{recommended}"
    );
    cluster.sql(recommended.split_once('|').unwrap().1);
    // It is gone when the table needs it no more.
    installation.run(&["job", "run", "vacuum"]);
    assert_eq!(installation.journal(open), "");
    assert_eq!(installation.journal("select count(*) from recommendations"), "1");
}

#[test]
fn reindex_builds_bloated_indexes_anew_and_removes_what_an_interrupted_one_left() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let installation = installation(
        directory.path(),
        &cluster,
        "[jobs.reindex]\nkind = \"maintenance.reindex\"\nminimum-size = \"1MiB\"\npatience = \"1s\"\nlock-timeout = \"2s\"\nlock-retries = 0\n",
    );
    cluster.sql("create extension btree_gist");
    cluster.sql("create table t (id int primary key, v int, r int4range, exclude using gist (id with =, r with &&))");
    cluster.sql("create table calm (id int primary key)");
    cluster.sql("insert into t select g, g, int4range(g, g + 1) from generate_series(1, 100000) g");
    cluster.sql("insert into calm select generate_series(1, 200000)");
    cluster.sql("create index by_v on t (v)");
    cluster.sql("vacuum analyze");
    cluster.sql("delete from t where id % 10 > 0");
    cluster.sql("vacuum t");
    let before = size(&cluster, "by_v");

    // Somebody's reindex was interrupted while it waited for a transaction.
    let old = Session::open(&cluster, "begin; insert into t values (-1, 1, 'empty');");
    let mut interrupted = Command::new(postgres("psql"));
    interrupted.arg("-d").arg(cluster.connection()).args([
        "-Xqc",
        "set lock_timeout = '500ms'",
        "-c",
        "reindex index concurrently by_v",
    ]);
    assert!(!interrupted.stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(cluster.sql("select count(*) from pg_index where not indisvalid"), "1");

    let told = installation.run(&["job", "run", "reindex", "--dry-run"]);
    assert!(told.contains("DROP INDEX CONCURRENTLY public.by_v_ccnew"), "{told}");
    assert!(told.contains("REINDEX INDEX CONCURRENTLY public.by_v;"), "{told}");
    assert!(!told.contains("calm_pkey"), "{told}");

    // With the old transaction in the way nothing is built, and it is named.
    wait_until("it is old enough", seconds(10), || {
        cluster.sql(
            "select count(*) from pg_stat_activity where application_name = 'opened' and now() - xact_start > '3 s'",
        ) == "1"
    });
    installation.run(&["job", "run", "reindex"]);
    let skipped = rows(&installation, "action = 'reindex'").join("\n");
    assert!(skipped.contains("reindex skipped public.by_v: it would have to wait for process"), "{skipped}");
    let behind = "select count(*) from findings where object = 'locks' and detail like '%public.by_v%process%'";
    assert_eq!(installation.journal(behind), "1");
    drop(old);

    let told = installation.run(&["job", "run", "reindex"]);
    assert!(told.contains(" freed"), "{told}");
    assert_eq!(cluster.sql("select count(*) from pg_index where not indisvalid"), "0", "{told}");
    let all = rows(&installation, "true").join("\n");
    assert!(all.contains("drop done public.by_v_ccnew"), "{all}");
    assert!(all.contains("analyze done public.t: to estimate the bloat of its indexes"), "{all}");
    assert!(all.contains("reindex done public.by_v:") && all.contains("bloat"), "{all}");
    assert!(!all.contains("calm_pkey"), "{all}");
    let after = size(&cluster, "by_v");
    assert!(after < before / 4, "{before} -> {after}");
    // Of WAL it took three quarters of the index at most, since its pages are compressed there.
    let bytes = installation
        .journal("select bytes_before || ' ' || bytes_after || ' ' || (wal_bytes between 1 and bytes_after * 3 / 4) from maintenance where action = 'reindex' and result = 'done' and object = 'public.by_v'");
    assert_eq!(bytes, format!("{before} {after} 1"));

    // What was built is judged by what it took then.
    assert!(installation.run(&["job", "run", "reindex"]).contains("no index is bloated"));
}

#[test]
fn reindex_ends_with_its_budget_and_leaves_nothing() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let mut installation = installation(
        directory.path(),
        &cluster,
        "[history]\nconnection = \"host={dir} user=postgres dbname=postgres\"\n[jobs.short]\nkind = \"maintenance.reindex\"\nminimum-size = \"1MiB\"\nall = true\ntime-budget = \"2s\"\n\
         [jobs.long]\nkind = \"maintenance.reindex\"\nminimum-size = \"1MiB\"\nall = true\n",
    );
    for table in ["a", "b"] {
        cluster.sql(&format!("create table {table} as select g as id from generate_series(1, 100000) g"));
        cluster.sql(&format!("create index {table}_id on {table} (id)"));
    }
    cluster.sql("vacuum analyze");
    // It waits for a transaction until its time is over, and what it had begun is gone.
    let old = Session::open(&cluster, "begin; insert into a values (1); insert into b values (1);");
    installation.run(&["job", "run", "short"]);
    let all = rows(&installation, "job = 'short'").join("\n");
    assert!(all.contains("cancelled: the time budget of 2.0 s is used up"), "{all}");
    assert!(all.contains("reindex skipped public.b_id: the time budget of 2.0 s is used up"), "{all}");
    assert_eq!(
        cluster.sql("select count(*) from pg_class where relname like '%ccnew%'"),
        "1",
        "the transaction holds it"
    );

    // A run that is cancelled keeps what it knows.
    drop(old);
    let old = Session::open(&cluster, "begin; insert into b values (1);");
    installation.run(&["migrate"]);
    installation.start();
    installation.run(&["job", "run", "long"]);
    wait_until("it is at work", seconds(20), || {
        let running = installation.json(&["status"])["running"].to_string();
        running.contains("REINDEX INDEX CONCURRENTLY") && running.contains("waiting for")
    });
    installation.run(&["job", "cancel", "long"]);
    wait_until("it has ended", seconds(60), || installation.count("long", "cancelled") == 1);
    let all = rows(&installation, "job = 'long' and action = 'reindex'").join("\n");
    assert!(all.contains("cancelled: the run was told to stop"), "{all}");
    drop(old);
    installation.run(&["job", "run", "long", "--wait"]);
    assert_eq!(cluster.sql("select count(*) from pg_index where not indisvalid"), "0");
    let delivered = "select count(*) from dba_ops.maintenance where result = 'done' and seconds > 0";
    let count = installation.journal("select count(*) from maintenance where result = 'done' and seconds > 0");
    wait_until("dba_ops has them", seconds(20), || cluster.sql(delivered) == count);
    // One by the run that was cancelled, and then both.
    assert_eq!(rows(&installation, "job = 'long' and action = 'reindex' and result = 'done'").len(), 3);
}

#[test]
fn reindex_that_fails_or_is_in_somebodys_way_leaves_nothing_and_says_why() {
    let directory = directory();
    let settings = format!("{QUIET}\nmaintenance_work_mem = '1MB'");
    let cluster = Cluster::start_with(directory.path(), &settings);
    let job = "[jobs.reindex]\nkind = \"maintenance.reindex\"\nminimum-size = \"1MiB\"\nall = true\nlock-timeout = \"1s\"\npatience = \"2s\"\n";
    let installation = installation(directory.path(), &cluster, job);
    cluster.sql("create table t as select g as id from generate_series(1, 200000) g");
    cluster.sql("create index t_id on t (id)");
    cluster.sql("vacuum analyze");
    // What the server has no room for.
    cluster.sql("alter system set temp_file_limit = '100kB'");
    cluster.sql("select pg_reload_conf()");
    wait_until("the limit holds", seconds(10), || cluster.sql("show temp_file_limit") == "100kB");
    installation.run(&["job", "run", "reindex"]);
    let all = rows(&installation, "true").join("\n");
    assert!(all.contains("reindex failed public.t_id: temporary file size exceeds"), "{all}");
    assert!(all.contains("drop done public.t_id_ccnew"), "{all}");
    assert_eq!(cluster.sql("select count(*) from pg_index where not indisvalid"), "0");
    cluster.sql("alter system set temp_file_limit = -1");
    cluster.sql("select pg_reload_conf()");
    wait_until("the limit is gone", seconds(10), || cluster.sql("show temp_file_limit") == "-1");

    // A transaction that nobody ends, and nobody sees among the sessions.
    cluster.sql("begin; insert into t values (0); prepare transaction 'forgotten'");
    wait_until("it is old enough", seconds(10), || {
        cluster.sql("select count(*) from pg_prepared_xacts where prepared < now() - interval '2 s'") == "1"
    });
    installation.run(&["job", "run", "reindex"]);
    let all = rows(&installation, "result = 'skipped'").join("\n");
    assert!(all.contains("it would have to wait for the prepared transaction forgotten"), "{all}");
    cluster.sql("rollback prepared 'forgotten'");

    // One that begins while the index is built already: REINDEX waits for it, and not for ever.
    let writer = Session::open(&cluster, "begin; insert into t values (0);");
    installation.run(&["job", "run", "reindex"]);
    let all = rows(&installation, "result = 'skipped'").join("\n");
    let young = "cancelled: other transactions did not end within 2.0 s";
    let old = "it would have to wait for process";
    assert!(all.contains(young) || all.contains(old), "{all}");
    drop(writer);

    // A role that may not see statistics says so, where it cannot measure either.
    cluster.sql("create role keeper login");
    let connection = cluster.connection().replace("user=postgres", "user=keeper");
    let file = directory.path().join("pgbosun.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&cluster.connection(), &connection).replace("all = true", "all = false")).unwrap();
    fs::remove_dir_all(directory.path().join("state")).unwrap();
    installation.run(&["job", "run", "reindex"]);
    let told = installation.journal("select summary || ': ' || detail from findings where object = 'statistics'");
    assert_eq!(told, "this role may not see the statistics of 1 table: postgres: public.t");
}

#[test]
fn indexes_of_toast_are_built_anew_and_what_an_interrupted_reindex_left_there_goes() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let job = "[jobs.reindex]\nkind = \"maintenance.reindex\"\nminimum-size = \"256KiB\"\n";
    let installation = installation(directory.path(), &cluster, job);
    for table in ["docs", "fresh"] {
        cluster.sql(&format!("create table {table} (id int, body text)"));
        cluster.sql(&format!("alter table {table} alter body set storage external"));
        cluster.sql(&format!("insert into {table} select g, repeat('x', 2500) from generate_series(1, 10000) g"));
    }
    cluster.sql("delete from docs where id % 10 > 0");
    cluster.sql("vacuum docs");
    let index = cluster.sql(
        "select i.indexrelid::regclass from pg_index i join pg_class c on i.indrelid = c.reltoastrelid where c.relname = 'docs'",
    );
    let before = size(&cluster, &index);
    let old = Session::open(&cluster, "begin; insert into docs values (-1, repeat('y', 2500));");
    wait_until("it has written", seconds(10), || {
        cluster.sql("select count(*) from pg_stat_activity where state = 'idle in transaction'") == "1"
    });
    let mut interrupted = Command::new(postgres("psql"));
    let reindex = format!("reindex index concurrently {index}");
    interrupted.arg("-d").arg(cluster.connection()).args(["-Xqc", "set lock_timeout = '500ms'", "-c", &reindex]);
    assert!(!interrupted.stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(cluster.sql("select count(*) from pg_index where not indisvalid"), "1");
    drop(old);

    installation.run(&["job", "run", "reindex"]);
    let all = rows(&installation, "true").join("\n");
    assert!(all.contains(&format!("drop done {index}_ccnew: ")), "{all}");
    assert!(all.contains(&format!("reindex done {index}: ")) && all.contains("TOAST of public.docs"), "{all}");
    // What nobody has counted yet is not taken for bloated.
    assert!(!all.contains("public.fresh"), "{all}");
    assert_eq!(cluster.sql("select count(*) from pg_index where not indisvalid"), "0");
    let after = size(&cluster, &index);
    assert!(after < before / 4, "{before} -> {after}");
}

#[test]
fn reindex_waits_for_a_base_backup_of_its_cluster() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let jobs = "[repositories.local]\ntype = \"local\"\npath = \"{dir}/repo\"\n\
                [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nrate-limit = \"8MiB\"\n\
                [jobs.reindex]\nkind = \"maintenance.reindex\"\nminimum-size = \"1MiB\"\nall = true\n";
    let mut installation = installation(directory.path(), &cluster, jobs);
    cluster.sql("create table t as select g as id from generate_series(1, 100000) g");
    cluster.sql("create index t_id on t (id)");
    installation.start();
    installation.run(&["job", "run", "full"]);
    wait_until("it is at work", seconds(20), || installation.journal("select state from runs") == "running");
    installation.run(&["job", "run", "reindex", "--wait"]);
    assert_eq!(rows(&installation, "result = 'done' and action = 'reindex'").len(), 1);
    let order = "select (select finished_at from runs where job = 'full') <= (select started_at from runs where job = 'reindex')";
    assert_eq!(installation.journal(order), "1");
    assert_eq!((installation.count("full", "succeeded"), installation.count("reindex", "succeeded")), (1, 1));
}

#[test]
fn reindex_rests_as_long_as_its_wal_deserves() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let job = |name, more| {
        format!("[jobs.{name}]\nkind = \"maintenance.reindex\"\nminimum-size = \"1MiB\"\nall = true\n{more}\n")
    };
    let jobs = [
        job("calm", "wal-rate = \"1MiB\""),
        job("short", "wal-rate = \"10KiB\"\ntime-budget = \"30s\""),
        job("slow", "wal-rate = \"10KiB\""),
    ];
    let mut installation = installation(directory.path(), &cluster, &jobs.concat());
    for table in ["a", "b"] {
        cluster.sql(&format!("create table {table} as select g as id from generate_series(1, 100000) g"));
        cluster.sql(&format!("create index {table}_id on {table} (id)"));
    }
    cluster.sql("vacuum analyze");
    installation.run(&["job", "run", "calm"]);
    let early = "select (julianday(max(started_at)) - julianday(min(started_at))) * 86400 - min(wal_bytes) / 1048576.0
                 from maintenance where action = 'reindex' and result = 'done'";
    let early: f64 = installation.journal(early).parse().unwrap();
    assert!((-0.1..30.0).contains(&early), "the second began {early} s after the WAL of the first had had its time");
    assert_eq!(rows(&installation, "action = 'reindex' and result = 'done'").len(), 2);

    installation.run(&["job", "run", "short"]);
    let all = rows(&installation, "job = 'short'").join("\n");
    assert!(all.contains("reindex done") && all.contains("reindex skipped"), "{all}");
    assert!(all.contains("wal-rate allows no more WAL within the time budget"), "{all}");

    // Killed while it rests, the first index is a row.
    installation.start();
    installation.run(&["job", "run", "slow"]);
    wait_until("it rests", seconds(30), || {
        installation.json(&["status"])["running"].to_string().contains("pausing before the next index")
            && rows(&installation, "job = 'slow' and result = 'done'").len() == 1
    });
    installation.kill();
    installation.start();
    wait_until("the run has an end", seconds(20), || installation.count("slow", "interrupted") == 1);
    assert_eq!(rows(&installation, "job = 'slow' and result = 'done'").len(), 1);
}

#[test]
fn an_index_that_is_in_its_place_already_is_not_built_again() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let installation = installation(
        directory.path(),
        &cluster,
        "[jobs.reindex]\nkind = \"maintenance.reindex\"\nminimum-size = \"1MiB\"\nall = true\ntime-budget = \"4s\"\n",
    );
    cluster.sql("create table t as select g as id from generate_series(1, 100000) g");
    cluster.sql("create index t_id on t (id)");
    cluster.sql("vacuum analyze");
    let before = cluster.sql("select 't_id'::regclass::oid");
    // Somebody has read the table and not ended: REINDEX waits for that when the new index is in its place.
    let reader = Session::open(&cluster, "begin; select count(*) from t;");
    installation.run(&["job", "run", "reindex"]);
    let all = rows(&installation, "action = 'reindex'");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].starts_with("reindex done public.t_id:"), "{all:?}");
    assert_ne!(cluster.sql("select 't_id'::regclass::oid"), before);
    assert_eq!(cluster.sql("select count(*) from pg_class where relname like 't_id_cc%'"), "1", "the old one waits");
    drop(reader);
    installation.run(&["job", "run", "reindex"]);
    assert_eq!(cluster.sql("select count(*) from pg_class where relname like 't_id_cc%'"), "0");
}

/// Reference 000 (its lines by id): 000-D2.
#[test]
fn catalogues_are_vacuumed_and_their_indexes_built_anew() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let installation = installation(
        directory.path(),
        &cluster,
        "[jobs.catalog]\nkind = \"maintenance.catalog\"\nminimum-size = \"128KiB\"\n[jobs.all]\nkind = \"maintenance.catalog\"\nall = true\n",
    );
    cluster.sql("do $$ begin for i in 1..1500 loop execute format('create table t%s (a int, b int, c int, d int, e int, f int, g int, h int)', i); end loop; end $$");
    cluster.sql("do $$ begin for i in 1..1500 loop execute format('drop table t%s', i); end loop; end $$");
    let index = "pg_attribute_relid_attnam_index";
    let before = size(&cluster, index);
    let told = installation.run(&["job", "run", "catalog", "--dry-run"]);
    assert!(told.contains("pg_catalog.pg_attribute;"), "{told}");
    installation.run(&["job", "run", "catalog"]);
    let all = rows(&installation, "true").join("\n");
    assert!(all.contains("vacuum done pg_catalog.pg_attribute: "), "{all}");
    assert!(all.contains(&format!("reindex done pg_catalog.{index}: ")), "{all}");
    assert!(size(&cluster, index) < before / 2, "{before}");
    let told = installation.run(&["job", "run", "all"]);
    assert!(told.contains("reindex:") && !told.contains("failed"), "{told}");
    let shared = rows(&installation, "job = 'all' and object = 'pg_catalog.pg_database_oid_index'");
    assert_eq!(shared.len(), 1, "what all databases share is done once");
}

/// Reference 000 (its lines by id): 000-K3.
#[test]
fn damage_is_found_while_everybody_works() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let installation = installation(
        directory.path(),
        &cluster,
        "[jobs.integrity]\nkind = \"maintenance.integrity\"\ndatabases = [\"postgres\"]\n\
         [jobs.pieces]\nkind = \"maintenance.integrity\"\ndatabases = [\"postgres\"]\ntable-piece = \"64KiB\"\n",
    );
    let told = installation.check("integrity");
    assert!(told.contains("nothing to check"), "{told}");
    let advice = installation.journal("select statement from recommendations where gone_at is null");
    cluster.sql(&advice);
    cluster.sql("create table t as select g as id from generate_series(1, 5000) g");
    cluster.sql("create index t_id on t (id)");
    let told = installation.check("integrity");
    assert!(told.contains("done; page checksums: 0 failed"), "{told}");
    assert!(!rows(&installation, "object = 'public.t_id' and result = 'done'").is_empty());

    // A large table in pieces, which are the whole of it.
    installation.run(&["job", "run", "pieces"]);
    let pieces = "select count(*), sum(bytes_before), max(bytes_before) from maintenance where job = 'pieces' and object = 'public.t' and result = 'done'";
    let size: u64 = cluster.sql("select pg_relation_size('t')").parse().unwrap();
    assert_eq!(installation.journal(pieces), format!("{}|{size}|65536", size.div_ceil(65_536)));

    // Two keys change places on the disk.
    let path = cluster.data.join(cluster.sql("select pg_relation_filepath('t_id')"));
    cluster.sql("checkpoint");
    cluster.down();
    let mut bytes = std::fs::read(&path).unwrap();
    let page = &mut bytes[8192..16384];
    let pointer =
        |page: &[u8], item: usize| usize::from(u16::from_le_bytes([page[24 + 4 * item], page[25 + 4 * item]]) & 0x7fff);
    let (first, second) = (pointer(page, 10) + 8, pointer(page, 200) + 8);
    for byte in 0..4 {
        page.swap(first + byte, second + byte);
    }
    std::fs::write(&path, bytes).unwrap();
    // A page whose checksum is wrong would not even be read.
    let settings = cluster.data.join("postgresql.auto.conf");
    std::fs::write(&settings, std::fs::read_to_string(&settings).unwrap() + "ignore_checksum_failure = on\n").unwrap();
    cluster.up();
    installation.check("integrity");
    let alert = installation.journal("select severity || ' ' || summary from alerts where state = 'open'");
    assert_eq!(alert, "critical public.t_id in postgres is damaged");
    // It stays so until somebody has mended it; and a file that is gone is damage too.
    installation.check("integrity");
    let open = "select group_concat(summary, ' | ') from (select summary from alerts where state = 'open' order by 1)";
    assert_eq!(installation.journal(open), "public.t_id in postgres is damaged");
    cluster.sql("create table lost as select g as id from generate_series(1, 5000) g");
    let lost = cluster.data.join(cluster.sql("select pg_relation_filepath('lost')"));
    cluster.sql("checkpoint");
    cluster.down();
    std::fs::remove_file(&lost).unwrap();
    cluster.up();
    cluster.sql("reindex index t_id");
    installation.check("integrity");
    assert_eq!(installation.journal(open), "public.lost in postgres is damaged");
}

/// Reference 000 (its lines by id): 000-W3, 000-W4.
#[test]
fn what_could_be_better_is_said_and_not_done() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), QUIET);
    let installation = installation(
        directory.path(),
        &cluster,
        "[jobs.advice]\nkind = \"maintenance.advice\"\nminimum-size = \"8kB\"\nunused-days = 0\n",
    );
    cluster.sql("create table parent (id int primary key, a int, b int)");
    cluster.sql("create table child (id int primary key, parent int references parent, other int references parent)");
    cluster.sql("insert into parent select g, g, g from generate_series(1, 1000) g");
    cluster.sql("insert into child select g, g, g from generate_series(1, 1000) g");
    cluster.sql("create index child_other on child (other, id)");
    cluster.sql("create index ab on parent (a, b)");
    cluster.sql("create index a on parent (a)");
    cluster.sql("create index ab2 on parent (a, b)");
    cluster.sql("create unique index pkey2 on parent (id)");
    // None of these can take another's place, and the one of the foreign key has its use.
    cluster.sql("create table alike (a int, b int, c int, d int references parent)");
    cluster.sql("insert into alike select g, g, g, g from generate_series(1, 1000) g");
    cluster.sql("create index with_b on alike (a) include (b)");
    cluster.sql("create index with_c on alike (a) include (c)");
    cluster.sql("create unique index at_once on alike (b)");
    cluster.sql("alter table alike add constraint late unique (b) deferrable");
    cluster.sql("create index brin_4 on alike using brin (c) with (pages_per_range = 4)");
    cluster.sql("create index brin_128 on alike using brin (c) with (pages_per_range = 128)");
    cluster.sql("create index alike_d on alike (d) where d is not null");
    cluster.sql("create table wide as select g as id, repeat('x', 1000) as t from generate_series(1, 150000) g");
    cluster.sql("vacuum analyze");
    cluster.sql("delete from wide where id % 10 > 0");
    cluster.sql("vacuum analyze wide");
    let told = installation.run(&["job", "run", "advice"]);
    assert!(told.contains("recommendations: "), "{told}");
    let given =
        installation.journal("select topic || ' ' || object || ' ' || statement from recommendations order by 1");
    for expected in [
        "duplicate-index public.a DROP INDEX CONCURRENTLY public.a;",
        "duplicate-index public.ab2 DROP INDEX CONCURRENTLY public.ab2;",
        "duplicate-index public.pkey2 DROP INDEX CONCURRENTLY public.pkey2;",
        "foreign-key public.child (parent) CREATE INDEX CONCURRENTLY ON public.child (parent);",
        "repack public.wide VACUUM (FULL, ANALYZE) public.wide;",
    ] {
        assert!(given.contains(expected), "{expected}\n{given}");
    }
    for wrong in [
        "(other)",
        "duplicate-index public.ab ",
        "duplicate-index public.with",
        "duplicate-index public.at_once",
        "duplicate-index public.brin",
        "alike_d",
        "(d)",
        "unused-index public.a ",
        "unused-index public.ab2 ",
    ] {
        assert!(!given.contains(wrong), "{wrong}\n{given}");
    }
    assert!(given.contains("unused-index public.with_b "), "{given}");
    // What is recommended works, and then nothing is any more.
    for statement in installation
        .journal("select statement from recommendations where topic in ('duplicate-index', 'foreign-key')")
        .lines()
    {
        cluster.sql(statement.split(';').next().unwrap());
    }
    installation.run(&["job", "run", "advice"]);
    let left =
        "select count(*) from recommendations where gone_at is null and topic in ('duplicate-index', 'foreign-key')";
    assert_eq!(installation.journal(left), "0");
}
