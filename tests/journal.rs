//! A journal that cannot be used: what is said, with which code, and the way back.

use crate::support::{Cluster, Installation, MAIL, directory, output, program, seconds, wait_until};
use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::Path,
    process::{Command, Stdio},
};

/// An installation with some history in its journal, and nobody at work.
fn with_history(directory: &Path, configuration: &str) -> Installation {
    let jobs = "[jobs.quick]\nkind = \"command\"\nprogram = \"/bin/true\"\n[jobs.failing]\nkind = \"command\"\nprogram = \"/bin/false\"\n";
    let installation = Installation::new(directory, &format!("{configuration}{MAIL}{jobs}"));
    installation.check("quick");
    installation
}

/// The end of a daemon that does not start.
fn refused(installation: &Installation) -> (Option<i32>, String) {
    let command = installation.command(&["daemon"]);
    let done = Command::new("timeout").arg("60").arg(program()).args(command.get_args()).output().unwrap();
    (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

/// All of it in one file, as a copy of it has to have.
fn settle(journal: &Path) {
    output(Command::new("sqlite3").arg(journal).arg("pragma wal_checkpoint(truncate)"));
}

/// The journal as it was.
fn put_back(journal: &Path, whole: &[u8]) {
    for beside in ["sqlite-wal", "sqlite-shm"] {
        let _ = fs::remove_file(journal.with_extension(beside));
    }
    fs::write(journal, whole).unwrap();
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn what_is_wrong_with_the_journal_is_said_and_ends_for_good_where_another_start_cannot_help() {
    let directory = directory();
    let installation = with_history(directory.path(), "");
    let journal = directory.path().join("state/journal.sqlite");
    settle(&journal);
    let whole = fs::read(&journal).unwrap();

    for (at, bytes) in [(0, vec![b'x'; 100]), (4096, vec![0xa5; 16 * 4096])] {
        overwrite(&journal, at, &bytes);
        for (code, said) in [refused(&installation), {
            let done = installation.try_run(&["job", "list"]);
            (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
        }] {
            assert!(
                code == Some(78) && said.contains("is damaged") && said.contains("pgbosun journal renew"),
                "{code:?} {said}"
            );
        }
        put_back(&journal, &whole);
    }

    output(Command::new("sqlite3").arg(&journal).arg(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'x', 1, x'00', 0)",
    ));
    let (code, said) = refused(&installation);
    assert!(code == Some(78) && said.contains("is from a newer pgbosun (its migration 9999"), "{code:?} {said}");
    put_back(&journal, &whole);

    // Somebody looks into it with sqlite3, and goes home.
    let mut holds = Command::new("sqlite3").arg(&journal).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    holds
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"pragma locking_mode = exclusive; begin exclusive; select 'held';\n")
        .unwrap();
    let mut held = [0; 9];
    std::io::Read::read(holds.stdout.as_mut().unwrap(), &mut held).unwrap();
    let (code, said) = refused(&installation);
    assert!(
        code == Some(1) && said.contains("is locked by another program") && said.contains("fuser"),
        "{code:?} {said}"
    );
    holds.kill().unwrap();
    holds.wait().unwrap();

    // A disk that an error has turned read-only.
    let state = directory.path().join("state");
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && shift 0 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script]).arg(&state).arg(program());
    let done = command.args(installation.command(&["daemon"]).get_args()).output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.code() == Some(78) && said.contains("cannot be written"), "{:?} {said}", done.status);
    assert!(installation.try_run(&["job", "list"]).status.success());
}

#[test]
fn a_journal_that_is_lost_comes_back_from_the_history_database() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let history = format!("[history]\nconnection = \"{}\"\n", cluster.connection());
    let mut installation = with_history(directory.path(), &history);
    installation.run(&["migrate"]);
    installation.start();
    installation.try_run(&["job", "run", "failing", "--wait"]);
    wait_until("it is told", seconds(20), || installation.mails().len() == 1);
    installation.run(&["job", "pause", "quick", "--reason", "somebody works there"]);
    installation.run(&["alert", "silence", "--job", "quick", "--for", "2h", "--reason", "somebody works there"]);
    let everything = "select (select count(*) from runs) || ' ' || (select count(*) || sum(length(origin) + length(outcome)) from audit_log where action <> 'journal renew') || ' ' || (select value from settings where name = 'instance')
         || (select group_concat(summary || state || told_severity) from alerts) || (select group_concat(reason) from silences)
         || (select group_concat(name || coalesce(pause_reason, '-')) from (select * from jobs order by name))";
    let before = installation.journal(everything);
    let delivered =
        || cluster.sql("select count(*) from dba_ops.audit_log where action in ('pause', 'silence', 'run')") == "4";
    wait_until("it is delivered", seconds(20), || {
        delivered() && cluster.sql("select count(*) from dba_ops.alerts where told_severity = 'critical'") == "1"
    });
    let refused = installation.try_run(&["journal", "renew"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && words.contains("stop it first"), "{words}");
    installation.stop();

    let state = directory.path().join("state");
    settle(&state.join("journal.sqlite"));
    overwrite(&state.join("journal.sqlite"), 0, &[b'x'; 100]);
    let renewed = installation.run(&["journal", "renew"]);
    assert!(renewed.contains("set aside: ") && renewed.contains("refilled: "), "{renewed}");
    let aside = fs::read_dir(&state)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("journal.sqlite.2"));
    assert!(aside.count() >= 1);
    assert_eq!(installation.journal(everything), before);
    installation.start();
    // Nothing is told twice, nothing doubled, and it goes on.
    installation.run(&["job", "resume", "quick", "--reason", "done"]);
    installation.check("quick");
    assert_eq!(installation.mails().len(), 1);
    wait_until("it is delivered", seconds(30), || {
        cluster.sql("select count(*) from dba_ops.job_runs") == installation.journal("select count(*) from runs")
    });
    assert_eq!(cluster.sql("select count(*) from dba_ops.instances"), "1");
    assert_eq!(cluster.sql("select count(*) from dba_ops.alerts"), "1");
}

#[test]
fn a_journal_made_anew_or_put_back_is_delivered_whole_however_much_it_holds_by_then() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let mut installation =
        with_history(directory.path(), &format!("[history]\nconnection = \"{}\"\n", cluster.connection()));
    installation.run(&["migrate"]);
    let journal = directory.path().join("state/journal.sqlite");
    let check_times = |installation: &Installation, count| (0..count).for_each(|_| drop(installation.check("quick")));
    let delivered = |installation: &mut Installation| {
        installation.start();
        let runs = || installation.journal("select group_concat(quote(id)) from runs");
        wait_until("every run is delivered", seconds(30), || {
            let there = cluster.sql(&format!("select count(*) from dba_ops.job_runs where id in ({})", runs()));
            there == installation.journal("select count(*) from runs")
        });
        installation.stop();
    };
    let reached = || cluster.sql("select delivered_seq from dba_ops.instances").parse::<i64>().unwrap();
    let newest =
        |installation: &Installation| installation.journal("select max(seq) from changes").parse::<i64>().unwrap();
    check_times(&installation, 5);
    delivered(&mut installation);

    fs::remove_file(&journal).unwrap();
    installation.run(&["journal", "renew"]);
    while newest(&installation) <= reached() {
        check_times(&installation, 1);
    }
    // The first attempt fails half-way.
    cluster.sql("alter table dba_ops.job_runs add constraint refused check (false) not valid");
    installation.start();
    wait_until("it is refused", seconds(20), || installation.log().contains("history has not been delivered"));
    installation.stop();
    cluster.sql("alter table dba_ops.job_runs drop constraint refused");
    delivered(&mut installation);

    settle(&journal);
    let copy = fs::read(&journal).unwrap();
    check_times(&installation, 3);
    delivered(&mut installation);
    put_back(&journal, &copy);
    while newest(&installation) <= reached() {
        check_times(&installation, 1);
    }
    delivered(&mut installation);
}
