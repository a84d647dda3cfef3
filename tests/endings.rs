//! TERM ends every command within seconds, whatever it waits for.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, postgres, seconds, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a command may take to end.
const LIMIT: Duration = seconds(20);

fn ends_on_term(mut child: Child, what: &str) {
    let begun = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    wait_until(&format!("{what} ends on TERM"), LIMIT, || child.try_wait().unwrap().is_some());
    println!("{what} ended in {:?}", begun.elapsed());
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_store_that_never_answers_keeps_no_command_from_ending() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    // Takes connections, and says nothing.
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = store.local_addr().unwrap();
    let (asked, questions) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for connection in store.incoming().flatten() {
            held.push(connection);
            if asked.send(()).is_err() {
                return;
            }
        }
    });
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\n[repositories.silent]\ntype = \"s3\"\nbucket = \"b\"\n\
         endpoint = \"http://{address}\"\naccess-key = \"a\"\nsecret-file = \"{{dir}}/secret\"\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"silent\"]\n\
         [jobs.test]\nkind = \"restore-test\"\n",
        cluster.connection()
    );
    let installation = Installation::new(directory.path(), &configuration);
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "s").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let target = directory.path().join("target");
    let target = target.to_str().unwrap();
    for arguments in [
        &["backup", "create"][..],
        &["backup", "list"],
        &["backup", "verify", "--all"],
        &["backup", "expire", "--dry-run"],
        &["restore", "physical", "--to", target],
        &["restore", "table", "a.b.c", "--to", "-"],
        &["restore-test"],
        &["wal", "list"],
        &["status"],
    ] {
        while questions.try_recv().is_ok() {}
        let child = spawn(installation.command(arguments));
        questions.recv_timeout(seconds(30)).unwrap_or_else(|_| panic!("{arguments:?} asks the store"));
        ends_on_term(child, &arguments.join(" "));
    }
}

#[test]
fn a_restore_that_is_slow_on_purpose_ends_when_it_is_told() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    installation.run(&["backup", "create"]);
    let target = directory.path().join("target");
    let arguments = ["restore", "physical", "--to", target.to_str().unwrap(), "--rate-limit", "64KiB"];
    let child = spawn(installation.command(&arguments));
    wait_until("it has begun", seconds(30), || target.join("base").exists() || target.join("PG_VERSION").exists());
    ends_on_term(child, "restore");
    assert!(!target.join("global/pg_control").exists());
    // The next one is not kept from it.
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--delta", "--force"]);
    assert!(target.join("global/pg_control").exists() && postgres("postgres").exists());
}
