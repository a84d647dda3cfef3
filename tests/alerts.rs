//! From a problem to the mail about it, and to the mail that it is over.

use crate::support::{Cluster, Installation, MAIL, directory, file, output, seconds, subject, wait_until};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

#[test]
fn a_dead_server_is_told_once_reminded_and_resolved() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let configuration = format!(
        "[clusters.main]\nconnection = \"{}\"\n{MAIL}repeat = \"4s\"\n[jobs.connectivity]\nkind = \"monitor.connectivity\"\nschedule = \"* * * * * *\"\n",
        cluster.connection()
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("it is watched", seconds(10), || installation.count("connectivity", "succeeded") >= 2);
    assert!(installation.mails().is_empty());
    cluster.down();
    wait_until("a reminder", seconds(30), || installation.mails().len() >= 2);
    let status = installation.try_run(&["status"]);
    assert_eq!(status.status.code(), Some(2));
    cluster.up();
    wait_until("resolved", seconds(20), || installation.mails().iter().any(|subject| subject.contains("RESOLVED")));
    let mails = installation.mails();
    assert_eq!(mails[0], "[DB-ALERT] CRITICAL main: does not accept connections");
    assert_eq!(mails[1], "[DB-ALERT] CRITICAL main: still: does not accept connections");
    assert_eq!(mails.last().unwrap(), "[DB-ALERT] RESOLVED main: does not accept connections");
    let open =
        installation.journal("select count(*), count(distinct fingerprint), sum(state = 'resolved') from alerts");
    assert_eq!(open, "1|1|1");
    let sent = installation.journal("select count(*) from notifications where notice = 'opened'");
    assert_eq!(sent, "1");
    // All of one incident are one thread, written by a program.
    let mails: Vec<_> = fs::read_dir(directory.path().join("mail"))
        .unwrap()
        .flatten()
        .map(|f| fs::read_to_string(f.path()).unwrap())
        .collect();
    let thread = mails[0].lines().find(|line| line.starts_with("References: ")).unwrap();
    assert!(mails.iter().all(|mail| mail.contains(thread) && mail.contains("Auto-Submitted: auto-generated")));
}

#[test]
fn a_monitor_that_cannot_look_is_unknown_and_alerts() {
    let directory = directory();
    let configuration = format!(
        "{MAIL}[clusters.main]\nconnection = \"host=/nowhere user=postgres\"\n[repositories.closed]\ntype = \"local\"\n\
         path = \"/root/pgbosun-closed\"\n[jobs.age]\nkind = \"monitor.backup-age\"\nschedule = \"* * * * * *\"\n"
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("mail", seconds(10), || !installation.mails().is_empty());
    assert!(
        installation.mails()[0].contains("UNKNOWN main: check age could not be made"),
        "{:?}",
        installation.mails()
    );
    assert_eq!(installation.try_run(&["status"]).status.code(), Some(3));
}

#[test]
fn the_disk_monitor_fires_and_stays_quiet() {
    let directory = directory();
    let configuration = |critical: u8| {
        format!(
            "{MAIL}[jobs.disk]\nkind = \"monitor.disk\"\npaths = [\"/\"]\nwarning-percent = {critical}\ncritical-percent = {critical}\nminimum-free = \"1B\"\n"
        )
    };
    let installation = Installation::new(directory.path(), &configuration(0));
    installation.run(&["job", "run", "disk", "--wait"]);
    assert!(installation.mails()[0].contains("CRITICAL test: file system of / is"), "{:?}", installation.mails());
    installation.configure(&configuration(100));
    installation.run(&["job", "run", "disk", "--wait"]);
    assert!(installation.mails()[1].contains("RESOLVED"), "{:?}", installation.mails());
}

/// A mail server with STARTTLS and AUTH.
struct MailServer {
    child: Child,
    port: u16,
}

impl MailServer {
    fn start(directory: &Path) -> Self {
        output(Command::new(file("tests/tools/certificates.sh")).arg(directory));
        let mut child = Command::new("/usr/bin/python3")
            .arg(file("tests/tools/smtp-sink.py"))
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3-aiosmtpd");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("a port") }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn received(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "eml"))
        .collect();
    names.sort();
    names.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn mail_goes_over_starttls_with_a_login_and_waits_while_the_server_is_out_of_order() {
    let directory = directory();
    let server_directory = directory.path().join("smtp");
    fs::create_dir(&server_directory).unwrap();
    let server = MailServer::start(&server_directory);
    let secret = directory.path().join("secret");
    let write_secret = |text: &str| {
        fs::write(&secret, text).unwrap();
        output(Command::new("chmod").arg("600").arg(&secret));
    };
    write_secret("right password\n");
    let configuration = format!(
        "[mail]\nserver = \"localhost\"\nport = {}\nuser = \"alerts\"\npassword-file = \"{{dir}}/secret\"\nca-file = \"{{dir}}/smtp/ca.pem\"\nfrom = \"pgbosun <alerts@example.com>\"\n\
         [groups.database]\nrecipients = [\"dba@example.com\", \"Second Person <second@example.com>\"]\n\
         [jobs.failing]\nkind = \"command\"\nprogram = \"/bin/false\"\n",
        server.port
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    let accepted = installation.run(&["alert", "test", "database"]);
    assert!(accepted.contains("accepted to dba@example.com"), "{accepted}");
    let mails = received(&server_directory);
    assert_eq!(subject(&mails[0]), "[DB-ALERT] TEST test: this is a test, nothing is wrong");
    assert!(mails[0].contains("multipart/alternative") && mails[0].contains("text/html"));

    // Out of order: the message waits, durably, over a restart.
    fs::write(server_directory.join("down"), "").unwrap();
    installation.start();
    installation.try_run(&["job", "run", "failing", "--wait"]);
    wait_until("a try", seconds(20), || {
        installation.journal("select state, attempts > 0, last_error like '%out of order%' from notifications")
            == "pending|1|1"
    });
    installation.kill();
    fs::remove_file(server_directory.join("down")).unwrap();
    output(
        Command::new("sqlite3")
            .arg(directory.path().join("state/journal.sqlite"))
            .arg("update notifications set next_attempt_at = '2000-01-01T00:00:00+00:00'"),
    );
    installation.start();
    wait_until("it arrives", seconds(20), || received(&server_directory).len() == 2);
    assert_eq!(subject(&received(&server_directory)[1]), "[DB-ALERT] CRITICAL test: job failing failed");
    wait_until("it is sent", seconds(10), || installation.journal("select state from notifications") == "sent");
    installation.stop();

    // C25: a wrong password is said so, and not shown.
    write_secret("quite falsch\n");
    let refused = installation.try_run(&["alert", "test", "database"]);
    let words = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(
        !refused.status.success() && words.contains("not accepted: mail server localhost:") && words.contains("535"),
        "{words}"
    );
    assert!(!words.contains("falsch"), "{words}");
    // Without the certificate the server is not trusted.
    installation.configure(&configuration.replace("ca-file = \"{dir}/smtp/ca.pem\"\n", ""));
    let refused = installation.try_run(&["alert", "test", "database"]);
    assert!(!refused.status.success());
}
