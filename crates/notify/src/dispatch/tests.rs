use super::*;
use crate::channel_types;
use pgbosun_core::{
    alert::{Acknowledgement, Matcher, Silence},
    config::{Kind, Needs, Registry, load},
    finding::Reach,
};
use std::{cell::RefCell, sync::Arc};

/// What the database will hold, driven by hand.
struct World {
    config: Config,
    hosts: Hosts,
    snapshot: RefCell<AlertSnapshot>,
}

const KIND: Kind = Kind {
    exclusive: &[],
    name: "monitor.x",
    about: &[""],
    options: &[],
    needs: Needs::Cluster,
    group: "database",
    checks: 1,
    every: None,
    read: |_| Some(Arc::new(())),
};

fn at(minutes: i64) -> DateTime<Utc> {
    "2026-11-21T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + Duration::minutes(minutes)
}

impl World {
    fn new(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgbosun.toml");
        let text = format!(
            "[mail]\nfrom = \"a@example.com\"\n[clusters.main]\nconnection = \"host=db1\"\n\
             [jobs.x]\nkind = \"monitor.x\"\n{more}"
        );
        std::fs::write(&path, text).unwrap();
        let config = load(&path, &Registry { kinds: &[KIND], channels: &channel_types(), ..Registry::default() })
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config;
        let hosts = [("main".to_owned(), vec!["db1".to_owned()])].into();
        Self { config, hosts, snapshot: RefCell::default() }
    }

    /// An alert that stands like this from now on.
    fn put(&self, object: &str, severity: Severity, minute: i64) -> Uuid {
        let mut snapshot = self.snapshot.borrow_mut();
        let known = snapshot.alerts.iter_mut().find(|alert| alert.object() == object);
        if let Some(alert) = known {
            alert.changed_at = at(minute);
            if severity == Severity::Ok {
                (alert.state, alert.resolved_at) = (AlertState::Resolved, Some(at(minute)));
            } else {
                alert.severity = severity;
            }
            return alert.id;
        }
        let sample = crate::bulletin::samples::bulletin(Notice::Opened).items.remove(0).alert;
        let id = Uuid::now_v7();
        let (opened_at, changed_at, told) = (at(minute), at(minute), None);
        let (fingerprint, job) = (format!("x/{object}"), "x".to_owned());
        let seen_at = at(minute);
        snapshot.alerts.push(Alert {
            id,
            fingerprint,
            job,
            severity,
            opened_at,
            changed_at,
            seen_at,
            notified: told,
            ..sample
        });
        id
    }

    fn change(&self, id: Uuid, change: impl FnOnce(&mut Alert)) {
        change(self.snapshot.borrow_mut().alerts.iter_mut().find(|alert| alert.id == id).unwrap());
    }

    /// What is told at a minute, as `channel: notice object, …`, and remembered.
    fn dispatch(&self, minute: i64) -> Vec<String> {
        self.told(minute).into_iter().map(|(line, _)| line).collect()
    }

    fn told(&self, minute: i64) -> Vec<(String, Option<String>)> {
        let mut snapshot = self.snapshot.borrow_mut();
        let desk = Notifier { config: &self.config, instance: "db0", now: at(minute) };
        let dispatch = desk.dispatch(&snapshot, &self.hosts, false);
        for told in dispatch.alerts {
            let place = snapshot.alerts.iter().position(|alert| alert.id == told.id).unwrap();
            snapshot.alerts[place] = told;
        }
        snapshot.alerts.retain(|alert| {
            news(alert, Duration::zero(), at(minute)).is_some()
                || alert.state != AlertState::Resolved
                || alert.reach > Reach::Object
        });
        snapshot.held.retain(|message| !dispatch.digested.contains(&message.id));
        let mut lines = Vec::new();
        for message in dispatch.messages {
            let bulletin: Bulletin = serde_json::from_str(&message.content).unwrap();
            let items = bulletin.items.iter().map(|item| format!("{} {}", item.notice, item.alert.object()));
            let items = items.collect::<Vec<_>>().join(", ");
            let mark = if message.held { "held " } else { "" };
            lines.push((format!("{mark}{}: {items}", message.channel), bulletin.note));
            if message.held {
                snapshot.held.push(Notification {
                    id: message.id,
                    incidents: Vec::new().into(),
                    group_name: message.group,
                    channel: message.channel,
                    subject: message.subject,
                    content: message.content,
                    attempts: 0,
                    next_attempt_at: message.created_at,
                    created_at: message.created_at,
                    escalated_at: None,
                    last_error: None,
                    follows_escalated: false,
                    recipients: Vec::new().into(),
                });
            } else {
                *snapshot.sent.entry(message.channel).or_default() += 1;
            }
        }
        lines
    }
}

const WARNING: Severity = Severity::Warning;
const CRITICAL: Severity = Severity::Critical;
const OVER: Severity = Severity::Ok;

#[test]
fn a_storm_is_told_in_parts_and_each_says_that_more_follows() {
    let world = World::new("");
    for number in 0..250 {
        world.put(&format!("{number}"), WARNING, 0);
    }
    let mut told = Vec::new();
    for minute in 10..14 {
        for (line, note) in world.told(minute) {
            told.push((line.matches("opened").count(), note.unwrap_or_default()));
        }
    }
    let more = |count: u32| format!("{count} more follow; \"pgbosun alert list\" shows all of them.");
    assert_eq!(told, [(100, more(150)), (100, more(50)), (50, String::new())]);
}

#[test]
fn what_comes_up_together_is_one_message_and_is_told_once() {
    let world = World::new("[groups.database]\ngather = \"2m\"\n");
    world.put("a", WARNING, 0);
    world.put("b", CRITICAL, 1);
    assert!(world.dispatch(1).is_empty());
    assert_eq!(world.dispatch(2), ["mail: opened b, opened a"]);
    assert!(world.dispatch(3).is_empty());
    world.put("a", CRITICAL, 4);
    world.put("b", OVER, 5);
    assert_eq!(world.dispatch(6), ["mail: changed a, resolved b"]);
    // What came and went while others were waited for is nobody's business.
    world.put("c", CRITICAL, 7);
    world.put("c", OVER, 8);
    assert!(world.dispatch(60).is_empty());
}

#[test]
fn what_it_is_about_may_begin_with_a_slash() {
    let world = World::new("");
    world.put("/data", WARNING, 0);
    let alert = world.snapshot.borrow().alerts[0].clone();
    assert_eq!(alert.object(), "/data");
    assert!(Matcher { object: Some("/d*".into()), ..Matcher::default() }.matches(&alert));
}

#[test]
fn reminders_come_together_and_not_to_whoever_looks_already() {
    let world = World::new("[groups.database]\ngather = \"0s\"\nrepeat = \"4h\"\n");
    let a = world.put("a", WARNING, 0);
    assert_eq!(world.dispatch(0), ["mail: opened a"]);
    world.put("b", WARNING, 90);
    assert_eq!(world.dispatch(90), ["mail: opened b"]);
    assert!(world.dispatch(239).is_empty());
    assert_eq!(world.dispatch(240), ["mail: reminder a, reminder b"]);
    world.change(a, |alert| {
        alert.state = AlertState::Acknowledged;
        alert.acknowledged = Some(Acknowledgement { by: "anna".into(), at: at(241), reason: String::new() });
    });
    assert_eq!(world.dispatch(480), ["mail: reminder b"]);
    world.put("a", CRITICAL, 500);
    assert_eq!(world.dispatch(500), ["mail: changed a"]);
}

#[test]
fn a_silence_holds_news_back_until_it_ends_but_not_the_end() {
    let world = World::new("[groups.database]\ngather = \"0s\"\n");
    world.put("known", WARNING, 0);
    assert_eq!(world.dispatch(0), ["mail: opened known"]);
    world.snapshot.borrow_mut().silences.push(Silence {
        id: Uuid::nil(),
        matcher: Matcher { job: Some("x".into()), ..Matcher::default() },
        reason: "upgrade".into(),
        created_by: "anna".into(),
        created_at: at(0),
        until: at(60),
        ended_at: None,
    });
    world.put("new", CRITICAL, 10);
    world.put("passing", CRITICAL, 10);
    assert!(world.dispatch(10).is_empty());
    world.put("passing", OVER, 20);
    world.put("known", OVER, 20);
    assert_eq!(world.dispatch(20), ["mail: resolved known"]);
    assert_eq!(world.dispatch(60), ["mail: opened new"]);
}

#[test]
fn a_dead_server_explains_what_needs_it_and_a_dead_machine_the_dead_server() {
    let world = World::new(
        "cluster = \"main\"\n[groups.database]\ngather = \"0s\"\nrepeat = \"1h\"\n[clusters.other]\nconnection = \"host=db2\"\n",
    );
    let server = world.put("connection", CRITICAL, 0);
    world.change(server, |alert| alert.reach = Reach::Cluster);
    world.put("locks", CRITICAL, 0);
    let other = world.put("elsewhere", CRITICAL, 0);
    world.change(other, |alert| alert.cluster = Some("other".into()));
    assert_eq!(world.dispatch(0), ["mail: opened connection, opened elsewhere"]);
    let machine = world.put("db1", CRITICAL, 1);
    world.change(machine, |alert| (alert.reach, alert.cluster) = (Reach::Host, None));
    assert_eq!(world.dispatch(1), ["mail: opened db1"]);
    // Nobody is reminded of what the machine explains.
    assert_eq!(world.dispatch(61), ["mail: reminder db1, reminder elsewhere"]);
    world.put("db1", OVER, 62);
    world.put("connection", OVER, 62);
    assert_eq!(world.dispatch(62), ["mail: resolved db1, resolved connection"]);
    // A while later, or seen again: what the machine explained is told for itself.
    assert!(world.dispatch(71).is_empty());
    assert_eq!(world.dispatch(72), ["mail: opened locks"]);
}

const PAGER: &str = "[channels.pager]\ntype = \"command\"\nprogram = \"/bin/true\"\nfrom-severity = \"critical\"\n\
                     [groups.database]\ngather = \"0s\"\nchannels = [\"mail\", \"pager\"]\n";

#[test]
fn a_channel_for_the_worst_hears_the_end_of_what_it_heard_of() {
    let world = World::new(PAGER);
    world.put("a", WARNING, 0);
    assert_eq!(world.dispatch(0), ["mail: opened a"]);
    world.put("a", CRITICAL, 1);
    assert_eq!(world.dispatch(1), ["mail: changed a", "pager: changed a"]);
    world.put("a", WARNING, 2);
    world.dispatch(2);
    world.put("a", OVER, 3);
    assert_eq!(world.dispatch(3), ["mail: resolved a", "pager: resolved a"]);
    world.put("b", WARNING, 4);
    world.put("b", OVER, 5);
    assert!(world.dispatch(5).is_empty());
}

#[test]
fn past_its_limit_a_channel_gets_a_digest_and_nothing_out_of_order() {
    let world = World::new(&PAGER.replace("from-severity = \"critical\"", "hourly-limit = 2"));
    let pager =
        |minute| -> Vec<String> { world.dispatch(minute).into_iter().filter(|line| line.contains("pager")).collect() };
    world.put("a", CRITICAL, 0);
    assert_eq!(pager(0), ["pager: opened a"]);
    world.put("b", CRITICAL, 1);
    let told = world.told(1);
    assert!(told[1].1.as_ref().unwrap().contains("arrive as a digest"), "{told:?}");
    world.put("c", CRITICAL, 2);
    world.put("d", CRITICAL, 2);
    assert_eq!(pager(2), ["held pager: opened c, opened d"]);
    world.put("d", OVER, 3);
    assert_eq!(pager(3), ["held pager: resolved d"]);
    // An hour is over.
    world.snapshot.borrow_mut().sent.clear();
    world.put("e", CRITICAL, 61);
    assert_eq!(pager(61), ["pager: opened c, resolved d", "pager: opened e"]);
    assert!(world.snapshot.borrow().held.is_empty());
}

#[test]
fn no_channel_tells_of_its_own_failure() {
    let world = World::new(PAGER);
    let id = world.put("mail", CRITICAL, 0);
    world.change(id, |alert| (alert.job, alert.fingerprint) = (DELIVERY.into(), "delivery/mail".into()));
    assert_eq!(world.dispatch(0), ["pager: opened mail"]);
    // With nobody else to tell, it stays news, and is none when it is over.
    let alone = World::new("");
    let id = alone.put("mail", CRITICAL, 0);
    alone.change(id, |alert| (alert.job, alert.fingerprint) = (DELIVERY.into(), "delivery/mail".into()));
    assert!(alone.dispatch(1).is_empty());
    alone.put("mail", OVER, 2);
    assert!(alone.dispatch(3).is_empty());
}

#[test]
fn the_fail_safe_group_is_told_once_by_another_channel() {
    let world = World::new(&format!(
        "{PAGER}[groups.boss]\nchannels = [\"mail\", \"pager\"]\n[daemon]\nfail-safe-group = \"boss\"\n"
    ));
    world.put("a", CRITICAL, 0);
    let desk = Notifier { config: &world.config, instance: "db0", now: at(0) };
    let message = desk.dispatch(&world.snapshot.borrow(), &world.hosts, true).messages.remove(0);
    let failed = Notification {
        id: message.id,
        incidents: message.incidents.into(),
        group_name: message.group,
        channel: message.channel,
        subject: message.subject,
        content: message.content,
        attempts: 9,
        next_attempt_at: at(20),
        created_at: at(0),
        escalated_at: None,
        last_error: None,
        follows_escalated: false,
        recipients: Vec::new().into(),
    };
    let by = |works| -> Vec<String> {
        desk.escalated(&failed, works, "refused")
            .into_iter()
            .map(|copy| format!("{} {}", copy.group, copy.channel))
            .collect()
    };
    assert_eq!(
        (by(false), by(true)),
        (vec!["boss pager".to_owned()], vec!["boss mail".to_owned(), "boss pager".into()])
    );
    let again = Notification { escalated_at: Some(at(1)), ..failed };
    assert!(desk.escalated(&again, false, "refused").is_empty());
}

#[test]
fn where_there_is_only_mail_the_fail_safe_group_is_told_by_it() {
    let world = World::new(
        "[groups.database]\ngather = \"0s\"\n[groups.boss]\ngather = \"0s\"\n[daemon]\nfail-safe-group = \"boss\"\n",
    );
    let id = world.put("mail", CRITICAL, 0);
    world.change(id, |alert| (alert.job, alert.fingerprint) = (DELIVERY.into(), "delivery/mail".into()));
    let desk = Notifier { config: &world.config, instance: "db0", now: at(0) };
    let mut messages = desk.dispatch(&world.snapshot.borrow(), &world.hosts, true).messages;
    let message = messages.remove(0);
    assert_eq!((message.group.as_str(), message.channel.as_str(), messages.len()), ("boss", MAIL, 0));
    let failed = Notification {
        id: message.id,
        incidents: message.incidents.into(),
        group_name: "database".into(),
        channel: message.channel,
        subject: message.subject,
        content: message.content,
        attempts: 9,
        next_attempt_at: at(20),
        created_at: at(0),
        escalated_at: None,
        last_error: None,
        follows_escalated: false,
        recipients: Vec::new().into(),
    };
    let copies = desk.escalated(&failed, false, "refused");
    let copies: Vec<_> = copies.iter().map(|copy| (copy.group.as_str(), copy.channel.as_str())).collect();
    assert_eq!(copies, [("boss", MAIL)]);
}
