//! The health report and the drill report: what they say is what happened, and what a person must know comes first.

use crate::support::{Cluster, Installation, MAIL, directory, postgres, subject};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// A cluster that archives, one that is away, backups into two repositories, restore tests, and both reports.
fn installation(directory: &Path, jobs: &str) -> (Installation, Cluster) {
    let configuration = format!(
        "[clusters.main]\nconnection = \"host={0} user=postgres dbname=postgres\"\ndata-directory = \"{0}/pg\"\n\
         [clusters.away]\nconnection = \"host={0}/nowhere user=postgres dbname=postgres\"\n\
         [repositories.local]\ntype = \"local\"\npath = \"{{dir}}/repo\"\n\
         [repositories.share]\ntype = \"local\"\npath = \"{{dir}}/share\"\n{MAIL}\
         [jobs.full]\nkind = \"backup.physical\"\ncluster = \"main\"\nrepositories = [\"local\", \"share\"]\nretention = {{ count = 2 }}\n\
         [jobs.week]\nkind = \"report.health\"\n\
         [jobs.day]\nkind = \"report.health\"\nabout = \"backups\"\nwindow = \"1d\"\n{jobs}",
        directory.display()
    );
    let installation = Installation::new(directory, &configuration);
    let cluster = Cluster::start_with(directory, &Cluster::archiving(directory));
    (installation, cluster)
}

fn verdict(report: &Value) -> Vec<String> {
    let lines = report["verdict"].as_array().unwrap();
    let told = |line: &Value| format!("{}: {}", line["severity"].as_str().unwrap(), line["text"].as_str().unwrap());
    lines.iter().map(told).collect()
}

fn section<'a>(report: &'a Value, title: &str) -> &'a Value {
    let sections = report["sections"].as_array().unwrap();
    sections.iter().find(|section| section["title"] == title).unwrap_or_else(|| panic!("{title} in {report}"))
}

/// The rows of the first table of a section.
fn rows(report: &Value, title: &str) -> Vec<Vec<String>> {
    let rows = section(report, title)["tables"][0]["rows"].as_array().unwrap();
    let cells = |row: &Value| row["cells"].as_array().unwrap().iter().map(|c| c.as_str().unwrap().to_owned()).collect();
    rows.iter().map(cells).collect()
}

#[test]
fn the_health_report_says_how_everything_stands() {
    let directory = directory();
    let test = format!(
        "[jobs.proof]\nkind = \"restore-test\"\ncluster = \"main\"\namcheck = false\nprogram-directory = \"{}\"\n\
         recovery-time-objective = \"1h\"\n[jobs.broken]\nkind = \"command\"\nprogram = \"/bin/false\"\n",
        postgres("").display()
    );
    let (installation, cluster) = installation(directory.path(), &test);

    // Nothing yet: that is the first thing it says, and the server that is away the next.
    let before = installation.json(&["report", "health"]);
    let told = verdict(&before);
    assert!(told[0].starts_with("critical: ") && told[1].starts_with("critical: "), "{told:?}");
    assert!(told.iter().any(|line| line.contains("There is no good backup of main")), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("critical: away does not answer: connect to")), "{told:?}");
    assert!(section(&before, "Restore tests")["note"].as_str().unwrap().contains("main has never had a restore test"));

    installation.run(&["backup", "create"]);
    installation.run(&["backup", "verify"]);
    installation.run(&["job", "run", "proof"]);
    installation.try_run(&["job", "run", "broken"]);
    cluster.sql("create table after (i int)");
    cluster.archive_all();

    let after = installation.json(&["report", "health"]);
    let told = verdict(&after);
    let main = told.iter().find(|line| line.contains("main: newest backup")).unwrap_or_else(|| panic!("{told:?}"));
    assert!(main.contains("restorable up to") && main.contains("restore test passed"), "{main}");
    assert!(told.iter().any(|line| line.contains("Last run failed: broken.")), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("no good backup")), "{told:?}");
    // What it counts is what the repositories hold.
    let places = section(&after, "Backups")["tables"][0]["rows"].as_array().unwrap().len();
    assert_eq!(places, 2, "{after}");
    let listed = installation.json(&["backup", "list"]);
    let clusters = rows(&after, "Clusters");
    assert_eq!((clusters[0][0].as_str(), clusters[0][1].as_str()), ("away", "does not answer"));
    assert_eq!(
        clusters[1][1],
        format!("{} primary", cluster.sql("select split_part(current_setting('server_version'), ' ', 1)")),
        "{clusters:?}"
    );
    let new = &section(&after, "Backups")["tables"][1];
    assert_eq!(new["title"], "Finished in this window: 2");
    let label = listed[0]["label"].as_str().unwrap();
    assert!(new["rows"].as_array().unwrap().iter().all(|row| row["cells"][2] == label), "{new} {label}");
    let tests = rows(&after, "Restore tests");
    assert_eq!((tests[0][1].as_str(), tests[0][3].as_str(), tests[0][5].as_str()), (label, "passed", "1 h"));
    let reach = section(&after, "Backups")["figures"][0]["value"].as_str().unwrap();
    assert!(reach.starts_with("any moment from "), "{reach}");

    // An alert is told once, in its own words.
    let alerted = installation.journal("select summary from alerts where job = 'broken' and state = 'open'");
    assert!(!alerted.is_empty());
    assert_eq!(told.iter().filter(|line| line.contains(&alerted)).count(), 1, "{told:?} {alerted}");

    // As jobs: kept, and mailed; the one about backups says nothing of what is not about them.
    installation.run(&["job", "run", "week"]);
    installation.run(&["job", "run", "day"]);
    let mails: Vec<_> = installation.mails().into_iter().filter(|mail| mail.contains(" report ")).collect();
    assert!(mails[0].starts_with("[DB-REPORT] health report test: "), "{mails:?}");
    assert!(mails[1].starts_with("[DB-REPORT] backups report test: main: newest backup"), "{mails:?}");
    let kept: Vec<_> = fs::read_dir(directory.path().join("state/reports"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with("-backups.json"))
        .collect();
    let day: Value = serde_json::from_slice(&fs::read(&kept[0]).unwrap()).unwrap();
    assert_eq!(verdict(&day).len(), 2, "{day}");
    let text = day.to_string();
    assert!(!text.contains("broken") && !text.contains("does not answer"), "{text}");

    // A share in whose place there is nothing is no repository with all its backups.
    fs::rename(directory.path().join("share"), directory.path().join("away")).unwrap();
    fs::create_dir(directory.path().join("share")).unwrap();
    let told = verdict(&installation.json(&["report", "health", "main", "--backups"]));
    assert!(told.iter().any(|line| line.contains("epository share")), "{told:?}");
    fs::remove_dir(directory.path().join("share")).unwrap();
    fs::rename(directory.path().join("away"), directory.path().join("share")).unwrap();
    // A job that fails where another cluster's did not is that job's alone; what nobody backs up any more is told.
    let told = verdict(&installation.json(&["report", "health", "main", "--backups"]));
    assert!(told.len() == 1 && told[0].starts_with("ok: main: newest backup"), "{told:?}");
    let path = directory.path().join("pgbosun.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[jobs.full]\n", "[jobs.full]\nenabled = false\n")).unwrap();
    let told = verdict(&installation.json(&["report", "health", "main", "--backups"]));
    assert!(told[0].starts_with("warning: main: newest backup") && told[0].contains("no job backs it up"), "{told:?}");
    fs::write(&path, text).unwrap();

    // On demand: one cluster, any form.
    let file = directory.path().join("health.md");
    installation.run(&["report", "health", "main", "--backups", "--to", file.to_str().unwrap()]);
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("# Backups of main") && text.contains("| cluster | repository |"), "{text}");
}

#[test]
fn a_drill_is_measured_by_restore_tests_and_judged_by_its_objectives() {
    let directory = directory();
    let tests = format!(
        "[jobs.latest]\nkind = \"restore-test\"\ncluster = \"main\"\namcheck = false\nprogram-directory = \"{0}\"\n\
         extract = \"postgres.public.orders\"\n\
         [jobs.end]\nkind = \"restore-test\"\ncluster = \"main\"\namcheck = false\nprogram-directory = \"{0}\"\ntarget = \"backup-end\"\n\
         [jobs.drill]\nkind = \"report.drill\"\ncluster = \"main\"\nrecovery-time-objective = \"4h\"\nscenarios = [\n\
           {{ name = \"Server failure\", restore = \"latest\", before = [{{ what = \"New server\", takes = \"1h\", who = \"on call\" }}], after = [{{ what = \"DNS\", takes = \"15m\" }}] }},\n\
           {{ name = \"Site lost\", restore = \"backup-end\", recovery-time-objective = \"1ms\" }},\n\
           {{ name = \"One table\", restore = \"table\", recovery-time-objective = \"15m\" }},\n\
           {{ name = \"Mistake\", restore = \"moment\" }},\n]\n",
        postgres("").display()
    );
    let (installation, cluster) = installation(directory.path(), &tests);
    cluster.sql("create table orders as select g as id, repeat('x', 100) as text from generate_series(1, 5000) g");
    let report = installation.json(&["report", "drill", "main"]);
    assert!(verdict(&report)[0].starts_with("critical: No restore test ran"), "{report}");

    installation.run(&["backup", "create"]);
    cluster.archive_all();
    let file = directory.path().join("drill.json");
    installation.run(&["report", "drill", "main", "--run", "--to", file.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let result = |name: &str| rows(&report, "Objectives").into_iter().find(|row| row[0] == name).unwrap();
    assert_eq!((result("Server failure")[2].as_str(), result("Server failure")[5].as_str()), ("4 h", "PASS"));
    assert_eq!(result("Site lost")[5], "FAIL: takes too long");
    assert_eq!(result("One table")[5], "PASS");
    assert_eq!(result("Mistake")[5], "not measured");
    let told = verdict(&report);
    assert!(
        told[0].starts_with("critical: Site lost: back in ") && told[0].ends_with(": objective missed."),
        "{told:?}"
    );
    assert!(
        told[1].contains("Mistake: not measured in this window; a job of kind restore-test with target"),
        "{told:?}"
    );

    // What people plan for and what was measured add up, as the journal has it.
    let phases = rows(&report, "Server failure");
    let names: Vec<_> = phases.iter().map(|row| (row[0].as_str(), row[3].as_str())).collect();
    assert_eq!((names[0], names[names.len() - 1]), (("New server", "planned"), ("DNS", "planned")));
    assert!(names[1..names.len() - 1].iter().all(|(_, known)| *known == "measured"), "{names:?}");
    let measured: f64 = installation
        .journal("select total_seconds from restore_tests where target = 'the end of the archive'")
        .parse()
        .unwrap();
    let all = &phases[phases.len() - 1][2];
    assert!(measured < 60.0 && all == "1 h 15 min", "{measured} {all}");
    let dump = rows(&report, "One table").into_iter().find(|row| row[0].starts_with("Extract the table"));
    assert!(dump.is_some(), "{report}");

    // A table that is not there is a fault of the test, and told.
    cluster.sql("drop table orders");
    installation.run(&["backup", "create"]);
    installation.try_run(&["job", "run", "latest"]);
    let report = installation.json(&["report", "drill", "main"]);
    let told = verdict(&report);
    for scenario in ["Server failure", "One table"] {
        let line = told.iter().find(|line| line.contains(scenario)).unwrap();
        assert!(line.starts_with(&format!("critical: {scenario}: the newest restore test failed: ")), "{told:?}");
        let result = rows(&report, "Objectives").into_iter().find(|row| row[0] == scenario).unwrap();
        assert_eq!((result[1].as_str(), result[5].as_str()), ("unknown", "FAIL: the test failed"));
    }
    assert!(report.to_string().contains("there is no table"), "{report}");

    cluster.sql("create table orders as select 1 as id");
    installation.run(&["backup", "create"]);
    cluster.archive_all();
    installation.run(&["job", "run", "latest"]);
    let well = verdict(&installation.json(&["report", "drill", "main"]));
    assert!(well.iter().any(|line| line.starts_with("ok: One table: extracted in ")), "{well:?}");

    // A backup that does not restore is no row that is missing: it is what the drill tells.
    let broken =
        Command::new("find").arg(directory.path().join("repo")).args(["-name", "*.tar.zst", "-delete"]).status();
    assert!(broken.unwrap().success());
    let broken =
        Command::new("find").arg(directory.path().join("share")).args(["-name", "*.tar.zst", "-delete"]).status();
    assert!(broken.unwrap().success());
    installation.try_run(&["job", "run", "end"]);
    let report = installation.json(&["report", "drill", "main"]);
    let line = verdict(&report).into_iter().find(|line| line.contains("Site lost")).unwrap();
    assert!(line.starts_with("critical: Site lost: the newest restore test failed: "), "{line}");
    installation.try_run(&["job", "run", "latest"]);
    let told = verdict(&installation.json(&["report", "drill", "main"]));
    let failed = "critical: One table: the newest restore test failed: ";
    assert!(told.iter().any(|line| line.starts_with(failed)), "{told:?}");

    installation.run(&["job", "run", "drill"]);
    let mails = installation.mails();
    assert!(mails.iter().any(|mail| mail.starts_with("[DB-REPORT] drill report main: Server failure:")), "{mails:?}");
    let first = fs::read_dir(directory.path().join("mail")).unwrap().flatten().next().unwrap();
    assert!(!subject(&fs::read_to_string(first.path()).unwrap()).is_empty());
}
