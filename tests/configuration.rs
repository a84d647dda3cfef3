//! Configuration: ten kinds of mistakes and their messages, sources, secrets, and the pages that are made from it.

use crate::support::{Cluster, Installation, MAIL, directory, file, output, program};
use std::{fs, os::unix::fs::PermissionsExt, process::Command};

fn check(configuration: &str) -> String {
    let directory = directory();
    let installation = Installation::new(directory.path(), configuration);
    let done = installation.try_run(&["config", "check"]);
    assert_eq!(done.status.code(), Some(78), "{}", String::from_utf8_lossy(&done.stdout));
    String::from_utf8_lossy(&done.stderr).replace(&directory.path().display().to_string(), "DIR")
}

/// Everything wrong at once; every line must be there.
#[test]
fn ten_mistakes_are_ten_clear_messages() {
    let messages = check(
        r#"
        time-zone = "Europe/Belin"
        max-concurent-jobs = 3
        [clusters.main]
        connection = "hots=localhost"
        statement-timeout = 30
        [repositories.local]
        type = "loca"
        [repositories.second]
        type = "local"
        path = "backups"
        bucket = "b"
        storage-class = "STANDARD_IA"
        secret = "geheim"
        [channels.chat]
        type = "slack"
        program = "/bin/true"
        [mail]
        password = "geheim"
        from = "a@example.com"
        [jobs.full]
        kind = "backup.phisical"
        [jobs.disk]
        kind = "monitor.disk"
        schedule = "61 * * * *"
        minimum-free = "lots"
        alert-group = "databse"
        critical-percent = 300
        paths = "/var"
        [jobs.age]
        kind = "monitor.backup-age"
        repositories = ["offsite"]
        blackout = ["Mun 08:00-09:00"]
        [job.x]
        "#,
    );
    for expected in [
        "DIR/pgbosun.toml: daemon.time-zone = \"Europe/Belin\": expected a time zone such as \"Europe/Berlin\" or \"UTC\"; did you mean \"Europe/Berlin\"?",
        "DIR/pgbosun.toml: daemon.max-concurent-jobs: unknown key; did you mean \"max-concurrent-jobs\"?",
        "DIR/pgbosun.toml: clusters.main.statement-timeout = 30: expected a duration such as \"90s\"",
        "DIR/pgbosun.toml: repositories.local.type: \"loca\" is not a type of repository; did you mean \"local\"?",
        "DIR/pgbosun.toml: repositories.second.path = \"backups\": expected an absolute path",
        "DIR/pgbosun.toml: repositories.second.bucket: is an option of type s3, gcs, azure, not of local",
        "DIR/pgbosun.toml: repositories.second.secret: is an option of type s3, azure, not of local",
        "DIR/pgbosun.toml: repositories.second.storage-class: is an option of type s3, gcs, not of local",
        "DIR/pgbosun.toml: channels.chat.program: is an option of type command, not of slack",
        "DIR/pgbosun.toml: channels.chat.secret-file: is missing: a channel of type slack needs it",
        "DIR/pgbosun.toml: mail.password: a secret does not belong here; put it in a file of mode 0600 and set password-file to its path",
        "DIR/pgbosun.toml: jobs.full.kind: \"backup.phisical\" is not a kind of job; did you mean \"backup.physical\"?",
        "DIR/pgbosun.toml: jobs.disk.schedule = \"61 * * * *\": expected a schedule such as \"59 23 * * *\" or \"@hourly\" (\"61\" is not a valid minute: 0 to 59 are allowed)",
        "DIR/pgbosun.toml: jobs.disk.minimum-free = \"lots\": expected a size such as",
        "DIR/pgbosun.toml: jobs.disk.alert-group = \"databse\": expected the name of a group",
        "did you mean \"database\"?",
        "DIR/pgbosun.toml: jobs.disk.critical-percent = 300: expected a whole number from 0 to 255",
        "DIR/pgbosun.toml: jobs.disk.paths = \"/var\": expected a list of paths",
        "DIR/pgbosun.toml: jobs.age.repositories = [\"offsite\"]: expected the name of a repository defined under [repositories.NAME]; \"offsite\" is not defined; defined: local",
        "jobs.age.blackout = [\"Mun 08:00-09:00\"]: expected a window such as \"Mon-Fri 08:00-18:00\" (\"Mun\" is not a day of the week",
        "DIR/pgbosun.toml: job: unknown section; did you mean [jobs]?",
    ] {
        let first = expected.split(" (").next().unwrap_or(expected);
        assert!(messages.contains(expected) || messages.contains(first), "missing: {expected}\nin:\n{messages}");
    }
    assert!(!messages.contains("geheim"), "a secret is shown:\n{messages}");
}

#[test]
fn c25_addresses_hold_no_secrets_and_passwords_do_not_go_in_the_clear() {
    let messages = check(
        "[mail]\nserver = \"smtp.example.com\"\nsecurity = \"none\"\nuser = \"alerts\"\nfrom = \"a@example.com\"\n\
         [channels.hook]\ntype = \"webhook\"\nurl = \"https://me:geheim@hooks.example.com/x\"\n\
         [channels.file]\ntype = \"webhook\"\nurl = \"file:///etc/passwd\"\n\
         [repositories.bucket]\ntype = \"s3\"\nbucket = \"b\"\nendpoint = \"http://key:geheim@store:9000\"\n",
    );
    for line in [
        "mail.security: \"none\" would send the password over the network",
        "channels.hook.url: contains a user or a password",
        "channels.file.url: expected a URL that starts with https:// or http://",
        "repositories.bucket.endpoint: contains a user or a password",
    ] {
        assert!(messages.contains(line), "{line}\n{messages}");
    }
    assert!(!messages.contains("geheim"), "{messages}");
    let folder = "[mail]\ntransport = \"folder\"\nfolder = \"/tmp/x\"\nserver = \"smtp.example.com\"\nfrom = \"a@example.com\"\n";
    let told = "mail.server: has no effect: transport is \"folder\"; remove transport and folder to send to the server";
    assert!(check(folder).contains(told), "{}", check(folder));
    let directory = directory();
    let relay = "[mail]\nserver = \"localhost\"\nsecurity = \"none\"\nuser = \"alerts\"\nfrom = \"a@example.com\"\n";
    Installation::new(directory.path(), relay).run(&["config", "check"]);
}

#[test]
fn connection_strings_are_checked_too() {
    let messages = check("[clusters.main]\nconnection = \"hots=localhost\"\n");
    assert!(
        messages.contains("clusters.main.connection: connection string: unknown key \"hots\"; did you mean \"host\"?"),
        "{messages}"
    );
    let messages = check("[clusters.main]\nconnection = \"host=a user=b password=geheim\"\n");
    assert!(messages.contains("a password does not belong here") && !messages.contains("geheim"), "{messages}");
}

#[test]
fn files_and_syntax() {
    let messages = check("[clusters.main\n");
    assert!(messages.contains("DIR/pgbosun.toml: ") && messages.contains("invalid"), "{messages}");
    let nowhere =
        Command::new(program()).args(["--config", "/nonexistent/pgbosun.toml", "config", "check"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(78));
    let words = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(words.contains("/nonexistent/pgbosun.toml: cannot be read") && words.contains("config init"), "{words}");
}

/// Reference 000 (its lines by id): 000-S3.
#[test]
fn a_secret_file_open_to_others_is_an_error() {
    let directory = directory();
    let secret = directory.path().join("secret");
    fs::write(&secret, "geheim\n").unwrap();
    let text = "[mail]\nfrom = \"a@example.com\"\npassword-file = \"{dir}/secret\"\n";
    let installation = Installation::new(directory.path(), text);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let done = installation.try_run(&["config", "check"]);
    let words = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(words.contains("open to others (mode 0640)") && words.contains("chmod 0600"), "{words}");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    installation.run(&["config", "check"]);
    let shown = installation.run(&["config", "show"]);
    assert!(!shown.contains("geheim"), "{shown}");
}

#[test]
fn layers_win_in_order_and_show_names_each_source() {
    let directory = directory();
    let installation =
        Installation::new(directory.path(), "max-concurrent-jobs = 2\n[clusters.main]\nconnection = \"user=a\"\n");
    let more = directory.path().join("conf.d");
    fs::create_dir(&more).unwrap();
    fs::write(more.join("10-a.toml"), "[daemon]\nmax-concurrent-jobs = 3\nblackout = [\"Sat\"]\n").unwrap();
    fs::write(more.join("20-b.toml"), "[daemon]\nmax-concurrent-jobs = 5\n").unwrap();
    let shown = installation.run(&["config", "show"]);
    assert!(
        shown.lines().any(|l| l.starts_with("max-concurrent-jobs = 5") && l.ends_with("conf.d/20-b.toml")),
        "{shown}"
    );
    assert!(shown.lines().any(|l| l.starts_with("blackout = [\"Sat\"]") && l.ends_with("conf.d/10-a.toml")), "{shown}");
    assert!(shown.lines().any(|l| l.starts_with("time-zone = \"UTC\"") && l.ends_with("# default")), "{shown}");
    // What editors leave behind is no part of it: a swap file, a copy, and Emacs' lock, a link to nowhere.
    for left in [".10-a.toml.swp", "10-a.toml~", ".30-c.toml", "#10-a.toml#", "10-a.toml.dpkg-old", "README"] {
        fs::write(more.join(left), "[\0 no TOML").unwrap();
    }
    std::os::unix::fs::symlink("somebody@host.1:2", more.join(".#10-a.toml")).unwrap();
    assert_eq!(installation.run(&["config", "show"]), shown);
    let mut command = installation.command(&["config", "show"]);
    let done = command
        .env("PGBOSUN_DAEMON__TIME_ZONE", "America/New_York")
        .env("PGBOSUN_MAIL__PASSWORD", "geheim")
        .env("PGBOSUN_MAIL__FROM", "a@b.c")
        .env("PGBOSUN_MAIL__USER", "0123")
        .output();
    let shown = String::from_utf8(done.unwrap().stdout).unwrap();
    assert!(
        shown.lines().any(|l| l.starts_with("time-zone = \"America/New_York\"")
            && l.ends_with("environment: PGBOSUN_DAEMON__TIME_ZONE")),
        "{shown}"
    );
    assert!(shown.contains("password = \"********\"") && !shown.contains("geheim"), "{shown}");
    assert!(shown.contains("user = \"0123\""), "{shown}");
}

#[test]
fn the_sample_is_valid_and_the_reference_is_in_step() {
    let pages = [("--markdown", "configuration"), ("--monitors", "monitors"), ("--samples", "samples")];
    for (option, page) in pages.map(|(option, page)| (option, format!("docs/{page}.md"))) {
        let reference = Command::new(program()).args(["config", "reference", option]).output().unwrap();
        let written = fs::read_to_string(file(&page)).unwrap();
        assert!(written == String::from_utf8_lossy(&reference.stdout), "{page} is not in step: run \"make docs\"");
    }
    let sample = file("etc/pgbosun.toml");
    let done = Command::new(program()).arg("--config").arg(sample).args(["config", "check"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Reference 000 (its lines by id): 000-X.
#[test]
fn the_configuration_of_the_reference_is_valid_and_has_its_schedules() {
    let directory = directory();
    let password = directory.path().join("password");
    fs::write(&password, "secret").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let target = directory.path().join("reference.toml");
    let text = fs::read_to_string(file("etc/reference-000.toml")).unwrap();
    fs::write(&target, text.replace("/etc/pgbosun/secrets/mail", password.to_str().unwrap())).unwrap();
    let run = |words: &[&str]| Command::new(program()).arg("--config").arg(&target).args(words).output().unwrap();
    let check = run(&["config", "check"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    // The times of the crontab, in its own order.
    for (job, schedule) in [
        ("connectivity", "*/5 * * * *"),
        ("disk", "*/5 * * * *"),
        ("cpu", "*/5 * * * *"),
        ("failed-logins", "*/5 * * * *"),
        ("temporary-files", "*/5 * * * *"),
        ("backup-age", "*/5 * * * *"),
        ("full-backup", "59 23 * * *"),
        ("daily-vacuum", "0 3 * * *"),
        ("weekly-index-maintenance", "0 4 * * 0"),
        ("wal-cleanup", "30 4 * * 0"),
        ("log-rotation", "0 1 * * *"),
        ("performance-report", "0 6 * * *"),
    ] {
        let section = text.split(&format!("[jobs.{job}]")).nth(1).unwrap().split("\n[").next().unwrap();
        assert!(section.contains(&format!("schedule = \"{schedule}\"")), "{job}");
    }
    // Who reads no further is no mistake.
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!(
        "{} --config {} schedule --days 30 | head -n 1",
        program().display(),
        target.display()
    ));
    let done = shell.output().unwrap();
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn mistakes_are_told_to_programs_too() {
    let directory = directory();
    let installation = Installation::new(directory.path(), "[jobs.full]\nkind = \"backup.phisical\"\n");
    let done = installation.try_run(&["--json", "config", "check"]);
    assert_eq!(done.status.code(), Some(78));
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&said["valid"], &said["problems"][0]["key"]), (&false.into(), &"jobs.full.kind".into()), "{said}");
    assert!(said["problems"][0]["hint"].as_str().unwrap().contains("backup.physical"), "{said}");
    installation.configure("");
    let said = installation.json(&["config", "check"]);
    assert_eq!(
        (&said["valid"], &said["clusters"], &said["warnings"]),
        (&true.into(), &0.into(), &serde_json::json!([])),
        "{said}"
    );
}

#[test]
fn init_writes_a_valid_configuration_once() {
    let directory = directory();
    let target = directory.path().join("new.toml");
    let init = || Command::new(program()).args(["config", "init", "--output"]).arg(&target).output().unwrap();
    assert!(init().status.success());
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
    let check = Command::new(program()).arg("--config").arg(&target).args(["config", "check"]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let again = init();
    assert!(
        !again.status.success() && String::from_utf8_lossy(&again.stderr).contains("already exists and is left alone")
    );
    // What a package brings, in which everything is a comment, makes way; nothing else does.
    fs::write(&target, "# pgbosun\n\n   # [clusters.main]\n").unwrap();
    assert!(init().status.success() && fs::read_to_string(&target).unwrap().contains("\n[clusters.main]"));
    fs::write(&target, "# pgbosun\n[daemon]\n").unwrap();
    assert!(!init().status.success() && fs::read_to_string(&target).unwrap() == "# pgbosun\n[daemon]\n");
    fs::remove_file(&target).unwrap();
    std::os::unix::fs::symlink(directory.path().join("elsewhere"), &target).unwrap();
    assert!(!init().status.success() && !directory.path().join("elsewhere").exists());
}

#[test]
fn init_finds_what_the_server_says_of_its_log_and_its_archive() {
    let directory = directory();
    let cluster = Cluster::start_with(
        directory.path(),
        "logging_collector = on\nlog_directory = 'my log'\narchive_mode = on\narchive_command = 'cp %p /mnt/%f'\n",
    );
    let init = |more: &[&str]| {
        let target = directory.path().join("new.toml");
        let _ = fs::remove_file(&target);
        let mut command = Command::new(program());
        command.args(["config", "init", "--data-directory"]).arg(&cluster.data).arg("--output").arg(&target).args(more);
        let done = command.output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.success(), said, fs::read_to_string(&target).unwrap_or_default())
    };
    let (done, said, text) = init(&[]);
    assert!(done && said.contains("by other means: archive_command = cp %p /mnt/%f"), "{said}");
    assert!(text.contains(&format!("log-directory = \"{}/my log\"", cluster.data.display())), "{text}");
    let (done, said, _) = init(&["--archive"]);
    assert!(!done && said.contains("with cp %p /mnt/%f: see docs/migrating.md"), "{said}");
    cluster.sql("alter system set archive_mode = off");
    cluster.down();
    cluster.up();
    // A command that waits for the mode is somebody's, too.
    let (done, said, _) = init(&["--archive"]);
    assert!(!done && said.contains("with cp %p /mnt/%f"), "{said}");
    cluster.sql("alter system reset archive_command");
    cluster.sql("select pg_reload_conf()");
    let lost = directory.path().join("none");
    let mut command = Command::new(program());
    let done = command.args(["config", "init", "--data-directory"]).arg(&lost).output().unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).contains("no server runs there"));
    let (done, said, _) = init(&[]);
    assert!(done && said.contains("archives no WAL") && said.contains("alter system set archive_mode = on"), "{said}");
    let (done, said, _) = init(&["--archive"]);
    assert!(done && said.contains("from its next restart on"), "{said}");
    cluster.down();
    cluster.up();
    assert_eq!(cluster.sql("show archive_mode") + &cluster.sql("show archive_command"), "onpgbosun wal push \"%p\"");
    let (done, said, text) = init(&["--archive"]);
    assert!(done && !said.contains("archive"), "{said}");
    let file = directory.path().join("check.toml");
    fs::write(&file, text).unwrap();
    let check = Command::new(program()).arg("--config").arg(&file).args(["config", "check"]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn the_command_describes_itself_to_shells_and_manuals() {
    let directory = directory();
    let command = |arguments: &[&str]| output(Command::new(program()).args(arguments));
    assert!(command(&["completions", "bash"]).contains("_pgbosun"));
    let pages = directory.path().join("man");
    command(&["man", pages.to_str().unwrap()]);
    let page = fs::read_to_string(pages.join("pgbosun-backup-create.1")).unwrap();
    for part in [".TH", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES", "pgbosun backup create full"] {
        assert!(page.replace('\\', "").contains(part), "{part}\n{page}");
    }
    assert!(pages.join("pgbosun.1").exists() && !pages.join("pgbosun-fence.1").exists());
    let help = command(&["backup", "show", "--help"]);
    assert!(help.contains("Global options:") && help.contains("Examples:\n  pgbosun backup show "), "{help}");
}

#[test]
fn commands_go_on_with_what_the_daemon_works_with_while_its_file_is_wrong() {
    let directory = directory();
    let text = format!("{MAIL}[jobs.fine]\nkind = \"command\"\nprogram = \"/bin/true\"\n");
    let mut installation = Installation::new(directory.path(), &text);
    installation.start();
    let path = directory.path().join("pgbosun.toml");
    let right = fs::read_to_string(&path).unwrap();
    for wrong in [format!("{right}[jobs.other]\nkind = \"nonsense\"\n"), right.replace("[mail]", "[mail]\nfrom = 7\nx")]
    {
        fs::write(&path, wrong).unwrap();
        let done = installation.try_run(&["job", "run", "fine", "--wait"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success() && said.contains("uses the last valid one"), "{said}");
        assert_eq!(installation.try_run(&["config", "check"]).status.code(), Some(78));
    }
    installation.stop();
    assert_eq!(installation.try_run(&["status"]).status.code(), Some(78), "nobody works with it any more");
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let done = Command::new(program()).args(["backup", "lsit"]).output().unwrap();
    assert_eq!(done.status.code(), Some(64));
    assert!(Command::new(program()).arg("--help").output().unwrap().status.success());
}
