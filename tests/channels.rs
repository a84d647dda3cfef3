//! Channels against what stands at their other ends: a mail server with STARTTLS and AUTH, and services that check what
//! they get against the published schemas.

use crate::support::{Installation, directory, file, output, program, seconds, subject, wait_until};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A server of the tests, which says its port first.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    fn start(program: &str, directory: &Path, port: u16) -> Self {
        let mut command = Command::new("/usr/bin/python3");
        // Their time says nothing, and asyncio does not go together with a clock that is moved by a library.
        command.env_remove("LD_PRELOAD");
        command.arg(file(program)).arg(directory).arg(port.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().expect("a port") }
    }

    /// A new mail server.
    pub fn mail(directory: &Path) -> Self {
        output(Command::new(file("tests/tools/certificates.sh")).arg(directory));
        Self::mail_at(directory, 0)
    }

    /// The mail server again, at the port it had; 0 is any.
    pub fn mail_at(directory: &Path, port: u16) -> Self {
        Self::start("tests/tools/smtp-sink.py", directory, port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The mails it took, in order.
pub fn received(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "eml"))
        .collect();
    names.sort();
    names.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Reference 000 (its lines by id): 000-E1, 000-E2.
#[test]
fn mail_goes_over_starttls_with_a_login_and_waits_while_the_server_is_out_of_order() {
    let directory = directory();
    let server_directory = directory.path().join("smtp");
    fs::create_dir(&server_directory).unwrap();
    let server = Server::mail(&server_directory);
    let secret = directory.path().join("secret");
    let write_secret = |text: &str| {
        fs::write(&secret, text).unwrap();
        output(Command::new("chmod").arg("600").arg(&secret));
    };
    write_secret("right password\n");
    let configuration = format!(
        "[mail]\nserver = \"localhost\"\nport = {}\nuser = \"alerts\"\npassword-file = \"{{dir}}/secret\"\nca-file = \"{{dir}}/smtp/ca.pem\"\nfrom = \"pgbosun <alerts@example.com>\"\n\
         [groups.database]\ngather = \"0s\"\nrecipients = [\"dba@example.com\", \"Second Person <second@example.com>\"]\n\
         [jobs.failing]\nkind = \"command\"\nprogram = \"/bin/false\"\n\
         [jobs.another]\nkind = \"command\"\nprogram = \"/bin/false\"\n",
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

    // Somebody who left costs the others nothing.
    installation
        .configure(&configuration.replace("[\"dba@example.com\"", "[\"gone@example.com\", \"dba@example.com\""));
    let count = received(&server_directory).len();
    let accepted = installation.run(&["alert", "test", "database"]);
    assert!(
        accepted.contains("accepted to dba@example.com, Second") && accepted.contains("; not to gone@example.com: "),
        "{accepted}"
    );
    assert_eq!(received(&server_directory).len(), count + 2, "one for each of the others");
    installation.configure(&configuration);

    // A password that was changed counts from the next try on, without a reload; the test goes by the daemon, as a message does.
    installation.start();
    write_secret("quite falsch\n");
    let refused = installation.try_run(&["alert", "test", "database"]);
    let words = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(refused.status.code() == Some(1) && words.contains("535"), "{words}");
    installation.try_run(&["job", "run", "another", "--wait"]);
    wait_until("a try", seconds(20), || {
        installation.journal("select last_error like '%535%' from notifications where state = 'pending'") == "1"
    });
    write_secret("right password\n");
    let count = received(&server_directory).len();
    assert!(installation.run(&["alert", "test", "database"]).contains("accepted to dba@example.com"));
    let audited = "select action || ' ' || object || ' ' || outcome from audit_log where action = 'alert test' order by at desc limit 2";
    assert_eq!(installation.journal(audited), "alert test database accepted\nalert test database not accepted by mail");
    wait_until("the message arrives", seconds(90), || received(&server_directory).len() > count + 1);
    installation.stop();

    // C25: a wrong password is said so, and not shown.
    write_secret("quite falsch\n");
    let refused = installation.try_run(&["alert", "test", "database"]);
    let words = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(
        !refused.status.success()
            && words.contains("not accepted to dba@example.com")
            && words.contains("mail server localhost:")
            && words.contains("535"),
        "{words}"
    );
    assert!(!words.contains("falsch"), "{words}");
    // Without the certificate the server is not trusted.
    installation.configure(&configuration.replace("ca-file = \"{dir}/smtp/ca.pem\"\n", ""));
    let refused = installation.try_run(&["alert", "test", "database"]);
    assert!(!refused.status.success());
}

#[test]
fn a_full_mailbox_costs_the_others_nothing_and_gets_what_it_missed_once_and_in_order() {
    let directory = directory();
    let server_directory = directory.path().join("smtp");
    fs::create_dir(&server_directory).unwrap();
    let server = Server::mail(&server_directory);
    secret_file(&directory.path().join("secret"), "right password\n");
    let configuration = format!(
        "[mail]\nserver = \"localhost\"\nport = {}\nuser = \"alerts\"\npassword-file = \"{{dir}}/secret\"\n\
         ca-file = \"{{dir}}/smtp/ca.pem\"\nfrom = \"alerts@example.com\"\n[groups.database]\ngather = \"0s\"\n\
         recipients = [\"gone@example.com\", \"full@example.com\", \"dba@example.com\"]\n{FRAGILE}",
        server.port
    );
    // The mails to one of them, in order: Message-ID and subject.
    let told = |who: &str| -> Vec<(String, String)> {
        let mut names: Vec<_> = fs::read_dir(&server_directory).unwrap().flatten().map(|entry| entry.path()).collect();
        names.retain(|path| path.extension().is_some_and(|e| e == "eml"));
        names.retain(|path| fs::read_to_string(path.with_extension("to")).unwrap() == who);
        names.sort();
        let mails = names.iter().map(|path| fs::read_to_string(path).unwrap());
        let id = |mail: &str| mail.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_owned();
        mails.map(|mail| (id(&mail), subject(&mail))).collect()
    };
    fs::write(server_directory.join("full"), "").unwrap();
    fs::write(directory.path().join("broken"), "").unwrap();
    let mut installation = Installation::new(directory.path(), &configuration);
    installation.start();
    wait_until("it is written down who has it", seconds(30), || {
        installation.journal("select state, recipients, last_error like 'full@%mailbox is full%' from notifications")
            == "pending|[\"dba@example.com\"]|1"
    });
    fs::remove_file(directory.path().join("broken")).unwrap();
    wait_until("the end is told too", seconds(30), || told("dba@example.com").len() == 2);
    fs::remove_file(server_directory.join("full")).unwrap();
    wait_until("the other hears both", seconds(120), || told("full@example.com").len() == 2);
    wait_until("all is sent", seconds(20), || {
        installation.journal("select group_concat(distinct state || recipients) from notifications")
            == "sent[\"dba@example.com\",\"full@example.com\"]"
    });
    assert_eq!(told("dba@example.com"), told("full@example.com"));
    assert_eq!(received(&server_directory).len(), 4);
}

#[test]
fn an_address_beyond_ascii_costs_the_others_nothing_and_is_told_where_the_server_can() {
    for is_ascii in [true, false] {
        let directory = directory();
        let server_directory = directory.path().join("smtp");
        fs::create_dir(&server_directory).unwrap();
        if is_ascii {
            fs::write(server_directory.join("ascii"), "").unwrap();
        }
        let server = Server::mail(&server_directory);
        secret_file(&directory.path().join("secret"), "right password\n");
        let configuration = format!(
            "[mail]\nserver = \"localhost\"\nport = {}\nuser = \"alerts\"\npassword-file = \"{{dir}}/secret\"\n\
             ca-file = \"{{dir}}/smtp/ca.pem\"\nfrom = \"pgbosun <alerts@bücher.example>\"\nreply-to = \"dba@example.com\"\n\
             [groups.database]\ngather = \"0s\"\n\
             recipients = [\"jürg@example.com\", \"dba@example.com\", \"Bücher <dba@bücher.example>\"]\n{FRAGILE}",
            server.port
        );
        fs::write(directory.path().join("broken"), "").unwrap();
        let mut installation = Installation::new(directory.path(), &configuration);
        installation.start();
        let told = || -> Vec<String> {
            let files = fs::read_dir(&server_directory).unwrap().flatten().map(|entry| entry.path());
            let files = files.filter(|path| path.extension().is_some_and(|end| end == "eml"));
            let mut told: Vec<_> = files
                .flat_map(|mail| {
                    let text = fs::read_to_string(&mail).unwrap();
                    assert!(text.contains("From: pgbosun <alerts@xn--bcher-kva.example>"), "{text}");
                    assert!(text.contains("Reply-To: dba@example.com"), "{text}");
                    let to = fs::read_to_string(mail.with_extension("to")).unwrap();
                    to.lines().map(str::to_owned).collect::<Vec<_>>()
                })
                .collect();
            told.sort();
            told
        };
        let mut expected = vec!["dba@example.com".to_owned(), "dba@xn--bcher-kva.example".to_owned()];
        if !is_ascii {
            expected.push("jürg@example.com".to_owned());
        }
        wait_until("all are told that can be", seconds(30), || told() == expected);
        if is_ascii {
            wait_until("whoever cannot is named", seconds(30), || {
                let log = installation.log();
                log.lines().any(|line| line.contains("jürg@example.com gets no mail") && line.contains("SMTPUTF8"))
            });
        }
        assert_eq!(told(), expected);
    }
    // What is no address is refused when it is read.
    let directory = directory();
    let text = "[mail]\nserver = \"localhost\"\nsecurity = \"none\"\nfrom = \"pgbosun alerts@example.com\"\n\
                [groups.database]\nrecipients = [\"dba\", \"dba@example.com\"]\n";
    fs::write(directory.path().join("pgbosun.toml"), text).unwrap();
    let mut check = Command::new(program());
    let done =
        check.arg("--config").arg(directory.path().join("pgbosun.toml")).args(["config", "check"]).output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    for key in ["mail.from = ", "groups.database.recipients = "] {
        let line = said.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("expected a mail address such as"), "{line}");
    }
}

/// The services behind channels, and what they took.
struct Services {
    server: Server,
    directory: PathBuf,
}

impl Services {
    fn start(directory: &Path) -> Self {
        let directory = directory.join("services");
        fs::create_dir(&directory).unwrap();
        Self { server: Server::start("tests/tools/services.py", &directory, 0), directory }
    }

    /// What a service took, in order.
    fn taken(&self, service: &str) -> Vec<Value> {
        let taken = fs::read_to_string(self.directory.join("taken.jsonl")).unwrap_or_default();
        let taken = taken.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        taken.filter(|request| request["service"] == service).collect()
    }

    /// The actions that PagerDuty took.
    fn actions(&self) -> Vec<String> {
        let events = self.taken("pagerduty");
        events.iter().map(|event| event["message"]["event_action"].as_str().unwrap().to_owned()).collect()
    }

    /// What is refused from now on.
    fn refuse(&self, lines: &str) {
        fs::write(self.directory.join("refuse"), lines).unwrap();
    }

    /// Nothing came that a service cannot read.
    fn all_was_right(&self) {
        let faults = fs::read_to_string(self.directory.join("faults")).unwrap_or_default();
        assert_eq!(faults, "");
    }

    /// All four channels, told by group `database`; `{dir}` is the test's directory.
    fn configuration(&self, directory: &Path) -> String {
        for (name, secret) in [
            ("slack", format!("http://127.0.0.1:{}/services/T0/B0/secret", self.server.port)),
            ("pager", "0123456789abcdef0123456789abcdef".into()),
            ("hook", "hook key".into()),
        ] {
            secret_file(&directory.join(name), &secret);
        }
        format!(
            "[channels.slack]\ntype = \"slack\"\nsecret-file = \"{{dir}}/slack\"\n\
             [channels.pager]\ntype = \"pagerduty\"\nurl = \"http://127.0.0.1:{0}/v2/enqueue\"\nsecret-file = \"{{dir}}/pager\"\n\
             [channels.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{0}/hook\"\nsecret-file = \"{{dir}}/hook\"\n\
             [channels.script]\ntype = \"command\"\nprogram = \"/bin/sh\"\n\
             arguments = [\"-c\", \"cat >> {{dir}}/script.jsonl; echo >> {{dir}}/script.jsonl\"]\n\
             [groups.database]\nchannels = [\"slack\", \"pager\", \"hook\", \"script\"]\ngather = \"0s\"\n",
            self.server.port
        )
    }
}

/// A file that only its owner reads.
fn secret_file(path: &Path, secret: &str) {
    fs::write(path, secret).unwrap();
    output(Command::new("chmod").arg("600").arg(path));
}

/// A job that fails while `broken` is there.
const FRAGILE: &str = "[jobs.fragile]\nkind = \"command\"\nprogram = \"/bin/sh\"\n\
                       arguments = [\"-c\", \"test ! -e {dir}/broken\"]\nschedule = \"* * * * * *\"\n";

#[test]
fn every_channel_of_a_group_hears_of_an_alert_from_its_begin_to_its_end() {
    let directory = directory();
    let services = Services::start(directory.path());
    let configuration = format!("{}{FRAGILE}", services.configuration(directory.path()));
    let mut installation = Installation::new(directory.path(), &configuration);
    let tested = installation.run(&["alert", "test", "database"]);
    assert_eq!(tested.matches(" accepted: ").count(), 4, "{tested}");
    assert_eq!(services.actions(), ["trigger", "resolve"], "a test wakes nobody for long");
    let checked = String::from_utf8_lossy(&installation.try_run(&["check"]).stdout).into_owned();
    for channel in ["slack", "pager", "hook", "script"] {
        assert!(
            checked.lines().any(|line| line.contains("OK") && line.contains(&format!("channel {channel}"))),
            "{checked}"
        );
    }

    services.refuse("slack 429 3\n");
    let before = services.taken("slack").len();
    fs::write(directory.path().join("broken"), "").unwrap();
    installation.start();
    wait_until("it is told", seconds(20), || services.taken("hook").len() + services.actions().len() >= 3);
    wait_until("Slack is left alone and asked again", seconds(20), || services.taken("slack").len() > before);
    let (first, second) = (services.taken("webhook").pop().unwrap(), services.taken("slack").pop().unwrap());
    let waited = second["at"].as_f64().unwrap() - first["at"].as_f64().unwrap();
    assert!(waited > 2.0, "{waited} s");
    let id = installation.json(&["alert", "list"])[0]["id"].clone();
    installation.run(&["alert", "ack", id.as_str().unwrap(), "--reason", "on it"]);
    wait_until("they know", seconds(20), || services.actions().last().is_some_and(|action| action == "acknowledge"));
    fs::remove_file(directory.path().join("broken")).unwrap();
    wait_until("it is over", seconds(20), || services.actions().last().is_some_and(|action| action == "resolve"));
    let events = services.taken("pagerduty");
    // The test's two, the check's one, and those of the alert, under one key.
    let keys: Vec<_> = events[3..].iter().map(|event| &event["message"]["dedup_key"]).collect();
    assert!(keys.len() == 3 && keys.iter().all(|key| **key == id), "{keys:?}");
    let script = || fs::read_to_string(directory.path().join("script.jsonl")).unwrap();
    wait_until("the program hears it too", seconds(10), || script().contains("\"resolved\""));
    wait_until("the outbox is empty", seconds(20), || {
        installation.journal("select count(*) from notifications where state <> 'sent'") == "0"
    });
    services.all_was_right();

    // C25: an address that is a secret is shown nowhere.
    services.refuse("slack 500 always\n");
    fs::write(directory.path().join("broken"), "").unwrap();
    wait_until("a refusal", seconds(20), || {
        installation.journal("select count(*) from notifications where last_error like 'Slack: 500%'") == "1"
    });
    drop(services);
    let refused = installation.try_run(&["alert", "test", "database"]);
    assert!(!refused.status.success());
    let words = format!("{}{}", String::from_utf8_lossy(&refused.stdout), installation.log());
    assert!(words.contains("Slack: ") && !words.contains("T0/B0") && !words.contains("hook key"), "{words}");
}

#[test]
fn a_service_that_asks_to_be_left_alone_gets_no_other_message_either() {
    let directory = directory();
    let services = Services::start(directory.path());
    let other = FRAGILE.replace("fragile", "other").replace("broken", "cracked");
    let configuration = format!("{}{FRAGILE}{other}", services.configuration(directory.path()));
    let mut installation = Installation::new(directory.path(), &configuration);
    services.refuse("slack 429 8\n");
    fs::write(directory.path().join("broken"), "").unwrap();
    installation.start();
    wait_until("Slack asks for it", seconds(20), || {
        installation.journal("select count(*) from notifications where last_error like '%429%'") == "1"
    });
    fs::write(directory.path().join("cracked"), "").unwrap();
    wait_until("both are told", seconds(60), || services.taken("slack").len() == 2);
    let at = |service: &str| services.taken(service)[0]["at"].as_f64().unwrap();
    let waited = at("slack") - at("webhook");
    assert!(waited > 7.0, "{waited} s");
    services.all_was_right();
}

#[test]
fn messages_of_one_incident_keep_their_order_and_a_dead_channel_is_told_by_another() {
    let directory = directory();
    let services = Services::start(directory.path());
    let channels = services.configuration(directory.path());
    let configuration = format!(
        "fail-safe-group = \"boss\"\nfail-safe-after = \"3s\"\n{}\
         [groups.boss]\nchannels = [\"hook\"]\ngather = \"0s\"\n{FRAGILE}",
        channels.replace("[\"slack\", \"pager\", \"hook\", \"script\"]", "[\"slack\", \"script\"]")
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    services.refuse("slack 500 always\n");
    installation.start();
    fs::write(directory.path().join("broken"), "").unwrap();
    let script = || fs::read_to_string(directory.path().join("script.jsonl")).unwrap_or_default();
    wait_until("the others hear it", seconds(20), || script().contains("\"opened\""));
    fs::remove_file(directory.path().join("broken")).unwrap();
    wait_until("and its end", seconds(20), || script().contains("\"resolved\""));
    // Slack failed for three seconds: the fail-safe group hears it in its place, once, and that Slack fails is an alert.
    wait_until("the fail-safe group", seconds(60), || !services.taken("webhook").is_empty());
    wait_until("an alert about it", seconds(60), || script().contains("delivery/slack"));
    // It hears the end too, though that waits behind what Slack does not take.
    wait_until("its end", seconds(60), || {
        services.taken("webhook").iter().any(|told| told["message"]["alerts"][0]["notice"] == "resolved")
    });
    let told = services.taken("webhook");
    assert!(
        told[0]["message"]["note"].as_str().unwrap().contains("could not be reached by slack: Slack: 500"),
        "{told:?}"
    );
    assert!(services.taken("slack").is_empty());
    services.refuse("");
    wait_until("Slack hears both", seconds(90), || services.taken("slack").len() == 2);
    let texts: Vec<_> =
        services.taken("slack").iter().map(|m| m["message"]["text"].as_str().unwrap().to_owned()).collect();
    assert!(texts[0].contains("CRITICAL") && texts[1].contains("RESOLVED"), "{texts:?}");
    wait_until("that is over too", seconds(60), || {
        installation.journal("select state from alerts where fingerprint = 'delivery/slack'") == "resolved"
    });
    services.all_was_right();
}

/// Reference 000 (its lines by id): 000-E3.
#[test]
fn mail_logs_in_by_oauth_and_fetches_a_new_token_when_the_old_one_is_not_good_any_more() {
    let directory = directory();
    let services = Services::start(directory.path());
    let server = Server::mail(&services.directory);
    secret_file(&directory.path().join("refresh"), "refresh/me+1");
    secret_file(&directory.path().join("client"), "client secret");
    let configuration = format!(
        "[mail]\nserver = \"localhost\"\nport = {}\nuser = \"alerts\"\npassword-file = \"{{dir}}/refresh\"\n\
         oauth2-token-url = \"http://127.0.0.1:{}/token\"\noauth2-client-id = \"client\"\n\
         oauth2-client-secret-file = \"{{dir}}/client\"\nca-file = \"{{dir}}/services/ca.pem\"\nfrom = \"a@example.com\"\n\
         [groups.database]\ngather = \"0s\"\nrecipients = [\"dba@example.com\"]\n{FRAGILE}",
        server.port, services.server.port
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    fs::write(services.directory.join("rotate"), "").unwrap();
    installation.run(&["alert", "test", "database"]);
    let kept = directory.path().join("state/mail-refresh-token.json");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((services.taken("token").len(), received(&services.directory).len()), (1, 1));
    fs::write(directory.path().join("broken"), "").unwrap();
    installation.start();
    wait_until("it is mailed", seconds(20), || received(&services.directory).len() == 2);
    let tokens = services.taken("token").len();
    assert_eq!(tokens, 2, "one for the test, one for the daemon");
    // The token is revoked and the server cut the connection: the first try fails, the next one has a new token.
    fs::write(services.directory.join("token"), "another").unwrap();
    fs::write(services.directory.join("down"), "").unwrap();
    fs::remove_file(directory.path().join("broken")).unwrap();
    wait_until("a try", seconds(20), || {
        installation.journal("select max(attempts) from notifications where state = 'pending'") == "1"
    });
    fs::remove_file(services.directory.join("down")).unwrap();
    wait_until("the end is mailed", seconds(60), || received(&services.directory).len() == 3);
    assert!(services.taken("token").len() > tokens);
    services.all_was_right();
}

#[test]
fn the_dead_mans_switch_is_fetched_only_while_every_part_moves() {
    let directory = directory();
    let services = Services::start(directory.path());
    let configuration = format!(
        "alive-url = \"http://127.0.0.1:{}/alive\"\nalive-every = \"6s\"\n[jobs.x]\nkind = \"command\"\nprogram = \"/bin/true\"\n",
        services.server.port
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    // The scheduler stands still ten seconds after its start.
    installation.fault = Some("stall-scheduler".into());
    installation.start();
    wait_until("it is fetched", seconds(20), || !services.taken("alive").is_empty());
    wait_until("it is not any more, and the log says why", seconds(40), || {
        installation.log().contains("alive-url was not fetched: these parts made no progress since the last time: [")
    });
    let fetched = services.taken("alive").len();
    std::thread::sleep(seconds(8));
    assert_eq!(services.taken("alive").len(), fetched);
}

/// Whoever answers there goes on for ever: its port.
fn endless() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut asked);
            if asked.starts_with(b"HEAD ") {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let piece = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
            while stream.write_all(&piece).is_ok() {}
        }
    });
    port
}

#[test]
fn an_answer_without_end_is_no_acceptance_and_fills_no_memory() {
    let directory = directory();
    let port = endless();
    secret_file(&directory.path().join("hook"), "hook key");
    let text = format!(
        "[channels.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\nsecret-file = \"{{dir}}/hook\"\ntimeout = \"20s\"\n\
         [groups.database]\nchannels = [\"hook\"]\n"
    );
    let installation = Installation::new(directory.path(), &text);
    let begun = std::time::Instant::now();
    let done = installation.try_run(&["alert", "test", "database"]);
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(!done.status.success() && said.contains("an answer of more than 64 KiB"), "{said}");
    assert!(begun.elapsed() < seconds(15), "it was not read to the time limit");
}

/// A store that answers without end, and one that has listings without end: both are an error, soon and in little memory.
#[test]
fn c36_a_store_that_answers_without_end_fills_no_memory() {
    let directory = directory();
    let port = endless();
    secret_file(&directory.path().join("key"), "key");
    let text = format!(
        "[repositories.bucket]\ntype = \"s3\"\nbucket = \"b\"\nendpoint = \"http://127.0.0.1:{port}\"\naccess-key = \"k\"\n\
         secret-file = \"{{dir}}/key\"\ntimeout = \"20s\"\n[clusters.main]\nconnection = \"host=/nowhere\"\n"
    );
    let installation = Installation::new(directory.path(), &text);
    let command = installation.command(&["backup", "list"]);
    let mut limited = Command::new("prlimit");
    limited.arg("--data=400000000").arg(program()).args(command.get_args());
    let begun = std::time::Instant::now();
    let done = limited.output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(said.contains("the answer is longer than 16777216 bytes: it cannot be from the store"), "{said}");
    assert!(!done.status.success() && begun.elapsed() < seconds(15), "{:?} {:?}", done.status, begun.elapsed());
}

#[test]
fn the_example_templates_reach_their_services_and_a_wrong_one_says_what_is_wrong() {
    let directory = directory();
    let services = Services::start(directory.path());
    let server = format!("http://127.0.0.1:{}", services.server.port);
    fs::create_dir(directory.path().join("templates")).unwrap();
    // As the first lines of each example have it, with this server's address.
    let mut configuration = String::new();
    let examples = [
        ("telegram", "https://api.telegram.org", "123:secret".to_owned()),
        ("discord", "", format!("{server}/api/webhooks/1/secret")),
        ("ntfy", "https://ntfy.example.com", "secret".to_owned()),
        ("google-chat", "", format!("{server}/v1/spaces/S/messages?key=k&token=secret")),
        ("teams", "", format!("{server}/workflows/secret")),
    ];
    for (name, address, secret) in &examples {
        let template = fs::read_to_string(file(&format!("etc/channels/{name}.json"))).unwrap();
        fs::write(directory.path().join(format!("templates/{name}.json")), &template).unwrap();
        secret_file(&directory.path().join(format!("secret-{name}")), secret);
        let section = template.lines().skip_while(|line| !line.trim().starts_with("[channels."));
        for line in section.take_while(|line| !line.trim().is_empty()).map(str::trim) {
            let line = line
                .replace("/etc/pgbosun/secrets/", "{dir}/secret-")
                .replace("/etc/pgbosun/channels/", "{dir}/templates/");
            let line = if address.is_empty() { line } else { line.replace(address, &server) };
            configuration.push_str(&format!("{line}\n"));
        }
    }
    configuration.push_str(
        "[groups.database]\nchannels = [\"telegram\", \"discord\", \"ntfy\", \"google-chat\", \"teams\"]\ngather = \"0s\"\n\
         [jobs.fine]\nkind = \"command\"\nprogram = \"/bin/true\"\nnotify-success = true\n",
    );
    let installation = Installation::new(directory.path(), &configuration);
    let tested = installation.run(&["alert", "test", "database"]);
    assert_eq!(tested.matches("accepted").count(), 5, "{tested}");
    for (name, ..) in &examples {
        assert_eq!(services.taken(name).len(), 1, "{name}");
    }
    assert!(services.taken("teams")[0]["message"].to_string().contains("this is a test"));
    let checked = String::from_utf8_lossy(&installation.try_run(&["check"]).stdout).into_owned();
    assert!(
        checked.contains("channel telegram") && services.taken("telegram").len() == 1,
        "check tells nobody: {checked}"
    );

    // A template that is wrong is named, with what is wrong in it, and the secret nowhere.
    for (text, words) in [
        ("{ \"text\": {{ subject }} }", "not valid JSON"),
        ("{ \"text\": \"{{ nonsense }}\" }", "undefined"),
        ("{{ subject", "syntax error"),
    ] {
        fs::write(directory.path().join("templates/teams.json"), text).unwrap();
        let done = installation.try_run(&["check"]);
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(said.contains("templates/teams.json") && said.contains(words), "{words}: {said}");
        assert!(!said.contains("/workflows/"), "{said}");
    }
    services.all_was_right();
}

/// Reference 000 (its lines by id): 000-K2.
#[test]
fn a_success_is_told_to_those_who_asked_with_a_prefix_of_its_own() {
    let directory = directory();
    let mut installation = Installation::new(
        directory.path(),
        &format!(
            "{}report-prefix = \"[REPORT]\"\n[jobs.told]\nkind = \"command\"\nprogram = \"/bin/echo\"\narguments = [\"all went well\"]\n\
             notify-success = true\n[jobs.quiet]\nkind = \"command\"\nprogram = \"/bin/true\"\n",
            crate::support::MAIL
        ),
    );
    installation.start();
    installation.run(&["job", "run", "quiet", "--wait"]);
    installation.run(&["job", "run", "told", "--wait"]);
    wait_until("the mail", seconds(20), || !installation.mails().is_empty());
    let mails = installation.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let told = &mails[0];
    assert!(told.starts_with("[REPORT] SUCCESS ") && told.ends_with("job told succeeded"), "{told}");
    let folder = fs::read_dir(directory.path().join("mail")).unwrap().next().unwrap().unwrap();
    let mail = fs::read_to_string(folder.path()).unwrap();
    assert!(mail.contains("all went well") && !mail.contains("What to do"), "{mail}");
    // It is no alert.
    assert_eq!(installation.json(&["alert", "list", "--all"]).as_array().unwrap().len(), 0);
    installation.stop();
}
