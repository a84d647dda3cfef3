//! A pooler where a server should be: taken where every session has a server of its own (C39 holds there too), named anywhere else.

use crate::{
    planted,
    support::{Cluster, Installation, directory, output, postgres, seconds, wait_until},
};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

struct Pooler(Child);

impl Pooler {
    fn start(directory: &Path, cluster: &Cluster, port: u16, mode: &str, ignored: &str) -> Self {
        let text = format!(
            "[databases]\n* = host={} port=5432 user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\n{ignored}\nlogfile = {}/pooler.log\n",
            cluster.socket.display(),
            directory.display()
        );
        let file = directory.join("pgbouncer.ini");
        fs::write(&file, text).unwrap();
        let stores = std::env::var_os("PGBOSUN_TEST_STORES").unwrap_or_else(|| "/opt/pgbosun-test".into());
        let mut command = Command::new(Path::new(&stores).join("bin/pgbouncer"));
        let child = command.arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgbouncer");
        wait_until("the pooler answers", seconds(10), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self(child)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

const NAMED: &str = "connect directly to the PostgreSQL server, with its own host and port";
const IGNORED: &str = "ignore_startup_parameters = extra_float_digits,options";

#[test]
fn c39_a_pooler_is_named_unless_every_session_has_a_server_of_its_own() {
    let directory = directory();
    let dir = directory.path();
    let cluster = Cluster::start(dir);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    cluster.sql("create role eve login");
    cluster.sql("create database shop owner eve");
    let psql = |statements: &str| {
        let connection = format!("host={} user=eve dbname=shop", cluster.socket.display());
        let file = dir.join("statements.sql");
        fs::write(&file, statements).unwrap();
        output(
            Command::new(postgres("psql")).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &connection, "-f"]).arg(file),
        );
    };
    psql(&planted::STRIKE.replace("{role}", "eve"));
    psql(planted::PLANT);
    psql(
        "create table public.orders (a int primary key); insert into public.orders select generate_series(1, 20000);
         alter database shop set search_path = trap, pg_catalog, public; alter database shop set statement_timeout = '1ms'",
    );
    let configuration = format!(
        "[clusters.main]\nconnection = \"host=127.0.0.1 port={port} user=postgres dbname=shop\"\nwatch = true\n\
         connect-timeout = \"6s\"\n[repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nsource = \"stream\"\nrepositories = [\"local\"]\nretries = 0\n\
         [jobs.vacuum]\nkind = \"maintenance.vacuum\"\n[jobs.analyze]\nkind = \"maintenance.analyze\"\n\
         [jobs.sample]\nkind = \"sample\"\n\
         [jobs.own]\nkind = \"sql\"\nstatement = \"select pg_catalog.pg_sleep(0.2)\"\ntimeout = \"5s\"\n"
    );
    let installation = Installation::new(dir, &configuration);
    let is_taken = || cluster.sql("select rolsuper from pg_roles where rolname = 'eve'") == "t";
    for (mode, ignored) in [("transaction", ""), ("session", ""), ("transaction", IGNORED), ("statement", IGNORED)] {
        let pooler = Pooler::start(dir, &cluster, port, mode, ignored);
        let words = said(&installation.try_run(&["check"]));
        assert!(words.contains(NAMED) && words.contains("pool_mode = session"), "{mode} {ignored}: {words}");
        let done = installation.try_run(&["job", "run", "full", "--wait"]);
        assert!(!done.status.success() && said(&done).contains(NAMED), "{mode} {ignored}: {}", said(&done));
        assert!(!is_taken(), "{mode} {ignored}");
        drop(pooler);
    }
    // A pooler that leaves in a session what others did there, and one that has no place for a second session.
    let pooler = Pooler::start(dir, &cluster, port, "session", &format!("{IGNORED}\nserver_reset_query =\n"));
    let words = [(); 2].map(|()| said(&installation.try_run(&["check"])));
    assert!(words[1].contains(NAMED), "{words:?}");
    drop(pooler);
    let pooler = Pooler::start(dir, &cluster, port, "session", &format!("{IGNORED}\ndefault_pool_size = 1\n"));
    let words = said(&installation.try_run(&["check"]));
    assert!(words.contains(NAMED), "{words}");
    drop(pooler);
    let _pooler = Pooler::start(dir, &cluster, port, "session", IGNORED);
    let words = said(&installation.try_run(&["check"]));
    assert!(words.contains("answers as postgres"), "{words}");
    for job in installation.json(&["job", "list"]).as_array().unwrap() {
        let job = job["name"].as_str().unwrap();
        let done = installation.try_run(&["job", "run", job, "--wait"]);
        assert!(!is_taken(), "{job}: {}", said(&done));
        // PgBouncer passes replication on since 1.24.
        let is_whole = job == "full" || !said(&done).starts_with("failed");
        assert!(is_whole && !said(&done).contains("statement timeout"), "{job}: {}", said(&done));
    }
}
