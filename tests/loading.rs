//! What a restored table brings along is code of its owner: it is loaded with the owner's rights and no others (C36).

use crate::support::{Cluster, Installation, cluster_and_repository, directory, output, postgres, seconds, wait_until};
use std::fs;

struct Rescue<'a> {
    cluster: &'a Cluster,
    installation: &'a Installation,
}

impl Rescue<'_> {
    /// `pgbosun restore KIND … --into rescue`: the exit code, and what was said.
    fn restore(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let programs = postgres("").display().to_string();
        let arguments = [&["restore"][..], arguments, &["--into", "rescue", "--program-directory", &programs]].concat();
        let done = self.installation.try_run(&arguments);
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    }

    fn sql(&self, statement: &str) -> String {
        self.sql_as("postgres", "rescue", statement)
    }

    fn sql_as(&self, user: &str, database: &str, statement: &str) -> String {
        let connection = format!("host={} user={user} dbname={database}", self.cluster.socket.display());
        let mut command = std::process::Command::new(postgres("psql"));
        output(command.arg("-d").arg(&connection).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]))
            .trim()
            .to_owned()
    }

    fn roles(&self) -> String {
        self.sql(
            "select string_agg(rolname || case when rolsuper then ' superuser' else '' end, ', ' order by rolname) \
                  from pg_roles where rolname !~ '^pg_'",
        )
    }
}

/// Functions of a hostile owner that try to make him a superuser by each way back that a session may have, and say nothing of it.
const HOSTILE: &str = "
    create function app.grab() returns int language plpgsql as $f$
    declare way text;
    begin
        foreach way in array array['reset role', 'reset session authorization', 'set role none', 'set session authorization default',
            'set session authorization postgres', 'set role postgres']
        loop
            begin
                execute way;
                execute 'alter role hostile superuser';
            exception when others then null;
            end;
        end loop;
        insert into app.ran values (current_user, session_user);
        return 1;
    end $f$;
    create function app.grab(any_value int) returns boolean language sql as 'select app.grab() = 1';
    create function app.grab_immutable(any_value int) returns int language plpgsql immutable as $f$
    begin
        begin
            execute 'reset session authorization'; execute 'alter role hostile superuser';
        exception when others then null;
        end;
        return any_value;
    end $f$;
    create function app.grab_trigger() returns trigger language plpgsql as $f$
    begin perform app.grab(); return new; end $f$;
";

#[test]
fn c36_a_restored_table_runs_its_owners_code_with_its_owners_rights_alone() {
    let directory = directory();
    // As Debian has it: by the socket as oneself, by password over the loopback.
    let cluster = Cluster::start_with(directory.path(), "listen_addresses = '127.0.77.1'");
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    let rescue = Rescue { cluster: &cluster, installation: &installation };
    for statement in [
        "create role hostile login",
        "create role clerk",
        "create database rescue",
        "create schema app authorization hostile",
    ] {
        cluster.sql(statement);
    }
    // His own sessions: in one of a superuser the ways back would work.
    for statement in [
        "create table app.ran (who text, session text)",
        HOSTILE,
        "create domain app.money as int check (app.grab(value))",
        "create table app.orders (id int default app.grab(), price app.money check (app.grab(price)), \
         twice int generated always as (app.grab_immutable(id)) stored) partition by range (id)",
        "create table app.low partition of app.orders for values from (0) to (100)",
        "create table app.high partition of app.orders for values from (100) to (1000)",
        "create table app.part partition of app.orders for values from (1000) to (2000)",
        "create index on app.orders (app.grab_immutable(id))",
        "create trigger t before insert on app.orders for each row execute function app.grab_trigger()",
        "insert into app.orders (id, price) select g, g from generate_series(1, 300) g",
        "grant select on app.orders to clerk",
        "create function app.strict(id int) returns boolean language sql as 'select true'",
        "create table app.strict (id int check (app.strict(id)))",
        "insert into app.strict values (1)",
    ] {
        rescue.sql_as("hostile", "postgres", statement);
    }
    installation.run(&["backup", "create"]);
    // The database that it is brought back to: the hostile role has its functions there.
    rescue.sql("create schema app authorization hostile");
    for statement in [
        "create table app.ran (who text, session text)",
        HOSTILE,
        "create domain app.money as int check (app.grab(value))",
        "create function app.strict(id int) returns boolean language plpgsql as \
         'begin execute ''alter role hostile superuser''; return true; end'",
    ] {
        rescue.sql_as("hostile", "rescue", statement);
    }
    let roles = rescue.roles();
    let rules = "local all postgres,hostile trust\nlocal all all reject\nhost all all 127.0.0.0/8 scram-sha-256\n";
    fs::write(cluster.data.join("pg_hba.conf"), rules).expect("pg_hba.conf");
    cluster.sql("select pg_reload_conf()");
    wait_until("only two come in by the socket", seconds(10), || {
        let mut command = std::process::Command::new(postgres("psql"));
        let connection = format!("host={} user=stranger dbname=postgres", cluster.socket.display());
        let refused = command.arg("-d").arg(connection).args(["-Xc", "select 1"]).output().expect("psql");
        String::from_utf8_lossy(&refused.stderr).contains("rejects")
    });
    assert_eq!(roles, "clerk, hostile, postgres superuser");

    let orders = ["table", "postgres.app.orders"];
    let (code, said) = rescue.restore(&[&orders[..], &["--role", "nobody"]].concat());
    assert!(code == Some(1) && said.contains("no role nobody"), "{said}");
    let (code, said) = rescue.restore(&[&orders[..], &["--role", "clerk"]].concat());
    assert!(code == Some(1) && said.contains("grant create on the schema"), "{said}");
    let (code, said) = rescue.restore(&orders);
    assert!(code == Some(0) && said.contains("300 rows in the recovered state, 300 written"), "{said}");
    assert!(said.contains("loaded as hostile, which owns it"), "{said}");
    // The monitor of failed logins would take it for a stranger's attempt.
    let log = fs::read_to_string(cluster.socket.join("pg.log")).unwrap();
    assert!(!log.lines().any(|line| line.contains("FATAL") && line.contains("pgbosun_load_")), "{log}");
    assert_eq!(rescue.sql("select count(*) from app.orders"), "300");
    assert_eq!(
        rescue.sql("select has_table_privilege('clerk', 'app.orders', 'select')"),
        "t",
        "what was granted still is"
    );
    assert_ne!(rescue.sql("select count(*) from app.ran"), "0", "the code ran");
    let powers = "select count(*) from app.ran where who in (select rolname from pg_roles where rolsuper) \
                  or session in (select rolname from pg_roles where rolsuper)";
    assert_eq!(rescue.sql(powers), "0", "and had no power");
    assert_eq!(rescue.roles(), roles, "nobody became a superuser, and no role was left behind");
    let owners = "select string_agg(distinct pg_get_userbyid(relowner), ',') from pg_class where relname in ('orders', 'low', 'part')";
    assert_eq!(rescue.sql(owners), "hostile");
    let (code, said) = rescue.restore(&orders);
    assert!(code == Some(1) && said.contains("already exists in database rescue"), "{said}");
    assert!(!said.contains("recovering"), "told before anything is recovered: {said}");

    // Where the code insists, nothing is loaded, and the server's reason is told.
    let (code, said) = rescue.restore(&["table", "postgres.app.strict"]);
    assert!(code == Some(1) && said.contains("as hostile; nothing was changed there"), "{said}");
    assert!(said.contains("strict(integer)") && said.contains("superuser"), "{said}");
    assert_eq!((rescue.sql("select to_regclass('app.strict') is null"), rescue.roles()), ("t".into(), roles));
}
