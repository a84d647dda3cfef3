//! From alerts to messages, as pure functions: what is news, to whom, by which channels, and how much at a time.
//!
//! Invariants: an alert is news while it stands otherwise than its group was told; news that come up together are one
//! message a channel; a channel gets no more messages an hour than its limit, and what was held back comes in a digest, before
//! anything later of the same group.

mod order;

use crate::{
    bulletin::{Attached, Bulletin, Item, Occasion},
    inhibit::InhibitionContext,
};
use chrono::{DateTime, Duration, Utc};
use order::{sort, together};
use pgbosun_core::{
    alert::{Alert, AlertState, DELIVERY, Notice, Notified},
    config::{Config, Group},
    detail::Detail,
    finding::Severity,
    human,
    report::Report,
    run::Run,
};
use pgbosun_history::{AlertSnapshot, Dispatch, NewNotification, Notification};
use std::{collections::BTreeMap, path::Path};
use uuid::Uuid;

/// The channel that has a section of its own.
pub const MAIL: &str = "mail";
/// The most alerts of one message.
const MOST: usize = 100;

/// What a group is told at a time.
#[derive(Default)]
struct News {
    items: Vec<Item>,
    /// What there is more, for the next message.
    left: Vec<Item>,
}

/// Who asks, and from where.
#[derive(Clone, Copy, Debug)]
pub struct Notifier<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// Name of the installation.
    pub instance: &'a str,
    /// The time.
    pub now: DateTime<Utc>,
}

/// The machines of each cluster.
pub type Hosts = BTreeMap<String, Vec<String>>;

/// What is news of an alert, and since when it is.
fn news(alert: &Alert, repeat: Duration, now: DateTime<Utc>) -> Option<(Notice, DateTime<Utc>)> {
    match (alert.state, alert.notified) {
        (AlertState::Pending, _) | (AlertState::Resolved, None) => None,
        (AlertState::Resolved, Some(told)) => {
            (told.severity != Severity::Ok).then_some((Notice::Resolved, alert.changed_at))
        }
        (_, None) => Some((Notice::Opened, alert.changed_at)),
        (_, Some(told)) if told.severity != alert.severity => Some((Notice::Changed, alert.changed_at)),
        (AlertState::Open, Some(told)) if repeat > Duration::zero() => {
            (now - told.at >= repeat).then(|| (Notice::Reminder, told.at + repeat))
        }
        _ => None,
    }
}

impl Notifier<'_> {
    /// Everything that is told at this moment; `at_once` without waiting for others.
    pub fn dispatch(&self, snapshot: &AlertSnapshot, hosts: &Hosts, at_once: bool) -> Dispatch {
        let mut dispatch = Dispatch::default();
        let mut sent = snapshot.sent.clone();
        self.digest(snapshot, &mut sent, &mut dispatch);
        let mut groups: BTreeMap<&str, Vec<&Alert>> = BTreeMap::new();
        for alert in &snapshot.alerts {
            groups.entry(self.group_of(alert)).or_default().push(alert);
        }
        let (config, now, alerts, silences) = (self.config, self.now, &snapshot.alerts, &snapshot.silences);
        let context = InhibitionContext { config, hosts, alerts, silences, now };
        for (name, alerts) in groups {
            let Some(group) = self.config.groups.get(name) else { continue };
            let news = self.news_of((name, group), &alerts, &context, at_once);
            self.dispatch_to_group((name, group), news, snapshot, &mut sent, &mut dispatch);
        }
        dispatch
    }

    /// A group that left the configuration is no reason to keep silent, nor is one whose only channel fails.
    fn group_of<'a>(&'a self, alert: &'a Alert) -> &'a str {
        let daemon = &self.config.daemon;
        let own = if self.config.groups.contains_key(&alert.group) { &alert.group } else { &daemon.alert_group.0 };
        let group = self.config.groups.get(own).filter(|_| alert.job == DELIVERY);
        let deaf = group.is_some_and(|group| self.channels(group).all(|channel| is_own_failure(alert, channel)));
        daemon.fail_safe_group.as_ref().filter(|_| deaf).map_or(own, |spare| &spare.0)
    }

    /// Whether a channel of a group tells of an alert. None tells of its own failure where another can; the people of the
    /// fail-safe group may be reached by one that reaches others not.
    fn may_report(&self, name: &str, group: &Group, channel: &str, alert: &Alert) -> bool {
        let spare = self.config.daemon.fail_safe_group.as_ref().is_some_and(|spare| spare.0 == name);
        let only = || spare && alert.group != name && self.channels(group).all(|other| is_own_failure(alert, other));
        !is_own_failure(alert, channel) || only()
    }

    /// What is news to a group, worst first; nothing while others are waited for.
    fn news_of(
        &self,
        (name, group): (&str, &Group),
        alerts: &[&Alert],
        context: &InhibitionContext<'_>,
        at_once: bool,
    ) -> News {
        let heard = |alert: &Alert, notice| notice == Notice::Resolved || context.inhibited_by(alert).is_none();
        let span = |duration| Duration::from_std(duration).unwrap_or(Duration::MAX);
        let (repeat, gather) = (span(group.repeat), span(group.gather));
        let new: Vec<_> = alerts
            .iter()
            .filter_map(|alert| news(alert, repeat, self.now).map(|(notice, since)| (*alert, notice, since)))
            .filter(|(alert, notice, _)| heard(alert, *notice) && self.is_reportable(alert, name, group))
            .collect();
        let first = new.iter().map(|(_, _, since)| *since).min();
        if first.is_none_or(|first| self.now - first < gather && !at_once) {
            return News::default();
        }
        let mut chosen: Vec<_> = new.iter().map(|(alert, notice, _)| (*alert, *notice)).collect();
        if chosen.iter().any(|(_, notice)| *notice == Notice::Reminder) {
            // Reminders keep together: what would be due before half the time is over comes along.
            let soon = alerts.iter().filter(|alert| news(alert, repeat, self.now).is_none());
            let soon = soon.filter(|alert| news(alert, repeat / 2, self.now).is_some());
            chosen.extend(soon.filter(|alert| heard(alert, Notice::Reminder)).map(|alert| (*alert, Notice::Reminder)));
        }
        let incident = Uuid::now_v7();
        let mut items: Vec<_> = chosen.iter().map(|(alert, notice)| self.item(alert, *notice, incident)).collect();
        sort(&mut items);
        // The rest stays news, for the next message.
        let left = items.split_off(MOST.min(items.len()));
        News { items, left }
    }

    fn dispatch_to_group(
        &self,
        (name, group): (&str, &Group),
        News { items, left }: News,
        snapshot: &AlertSnapshot,
        sent: &mut BTreeMap<String, u32>,
        dispatch: &mut Dispatch,
    ) {
        for channel in self.channels(group) {
            let hears =
                |item: &&Item| self.may_report(name, group, channel, &item.alert) && self.hears(channel, &item.alert);
            let mine: Vec<_> = items.iter().filter(hears).cloned().collect();
            if mine.is_empty() {
                continue;
            }
            let count = sent.entry(channel.to_owned()).or_default();
            let held = *count >= self.limit(channel) || waits(snapshot, dispatch, channel, name);
            *count += u32::from(!held);
            let last = *count == self.limit(channel) && !held;
            let left = left.iter().filter(hears).count();
            let left = (left > 0).then(|| format!("{left} more follow; \"pgbosun alert list\" shows all of them."));
            let full = last.then(|| {
                format!(
                    "This channel has reached its limit of {} per hour: further alerts arrive as a digest.",
                    human::count(*count, "message")
                )
            });
            let note = left.into_iter().chain(full).reduce(|left, full| format!("{left} {full}"));
            let bulletin = self.bulletin(name, group, Occasion::Alerts, mine, note);
            dispatch.messages.push(NewNotification { held, ..message(channel, &bulletin) });
        }
        dispatch.alerts.extend(items.into_iter().map(|item| item.alert));
    }

    /// Whether there is a channel for it at all: where there is none it stays news.
    fn is_reportable(&self, alert: &Alert, name: &str, group: &Group) -> bool {
        self.channels(group).any(|channel| self.may_report(name, group, channel, alert))
    }

    /// What was held back, where there is room again.
    fn digest(&self, snapshot: &AlertSnapshot, sent: &mut BTreeMap<String, u32>, dispatch: &mut Dispatch) {
        let mut held: BTreeMap<(&str, &str), Vec<&Notification>> = BTreeMap::new();
        for message in &snapshot.held {
            held.entry((&message.channel, &message.group_name)).or_default().push(message);
        }
        for ((channel, name), messages) in held {
            let count = sent.entry(channel.to_owned()).or_default();
            if *count >= self.limit(channel) {
                continue;
            }
            dispatch.digested.extend(messages.iter().map(|message| message.id));
            // A group that left the configuration is no reason to keep silent.
            let own = &self.config.daemon.alert_group.0;
            let name = if self.config.groups.contains_key(name) { name } else { own };
            let Some(group) = self.config.groups.get(name) else { continue };
            let bulletins = messages.iter().filter_map(|message| serde_json::from_str(&message.content).ok());
            let items = together(bulletins.flat_map(|bulletin: Bulletin| bulletin.items));
            for items in items.chunks(MOST) {
                *count += 1;
                let note = format!(
                    "Held back by the hourly limit of this channel: {}.",
                    human::count(messages.len(), "message")
                );
                let bulletin = self.bulletin(name, group, Occasion::Digest, items.to_vec(), Some(note));
                dispatch.messages.push(message(channel, &bulletin));
            }
        }
    }

    /// The messages that tell that somebody looks at an alert: to all that keep its state. Nobody needs a mail for it.
    pub fn acknowledged(&self, alert: &Alert) -> Vec<NewNotification> {
        let name = self.group_of(alert);
        let Some(group) = self.config.groups.get(name).filter(|_| alert.notified.is_some()) else { return Vec::new() };
        let channels = self.channels(group).filter(|channel| *channel != MAIL && self.hears(channel, alert));
        let item = Item { notice: Notice::Acknowledged, alert: alert.clone() };
        let bulletin = self.bulletin(name, group, Occasion::Alerts, vec![item], None);
        channels.map(|channel| message(channel, &bulletin)).collect()
    }

    /// The same message for the fail-safe group, where its own was not reached. `works` says that the channel does, and only
    /// this group is not reached by it; otherwise it is used where there is no other.
    pub fn escalated(&self, failed: &Notification, works: bool, reason: &str) -> Vec<NewNotification> {
        let Some(name) = self.config.daemon.fail_safe_group.as_ref().map(|name| name.0.as_str()) else {
            return Vec::new();
        };
        let bulletin: Option<Bulletin> = serde_json::from_str(&failed.content).ok();
        let (Some(bulletin), Some(group)) = (bulletin, self.config.groups.get(name)) else { return Vec::new() };
        if failed.group_name == name || failed.escalated_at.is_some() {
            return Vec::new();
        }
        let note = format!(
            "Sent to you because group {} could not be reached by {}: {reason}",
            failed.group_name, failed.channel
        );
        let report = bulletin.report;
        let bulletin = self.bulletin(name, group, bulletin.occasion, bulletin.items, Some(note));
        let bulletin = Bulletin { report, ..bulletin };
        let others = self.channels(group).any(|channel| channel != failed.channel);
        let channels = self.channels(group).filter(|channel| works || !others || *channel != failed.channel);
        channels.map(|channel| message(channel, &bulletin)).collect()
    }

    /// A message for one channel of a group by which a person sees whether it arrives.
    pub fn test(&self, name: &str, group: &Group, alert: Alert) -> Bulletin {
        self.bulletin(name, group, Occasion::Test, vec![Item { notice: Notice::Test, alert }], None)
    }

    /// The mail that carries a report to a group, where there is mail.
    pub fn reported(&self, name: &str, report: &Report, path: &Path) -> Option<NewNotification> {
        let group = self.config.groups.get(name).filter(|_| self.config.mail.is_some())?;
        let place = report.cluster.as_deref().unwrap_or(self.instance);
        let first = report.verdict.first().map_or("", |line| line.text.as_str());
        let headline = format!("{} report {place}: {first}", report.kind);
        let attached = Attached { path: path.to_owned(), headline, severity: report.severity() };
        let bulletin = self.bulletin(name, group, Occasion::Report, Vec::new(), None);
        Some(message(MAIL, &Bulletin { report: Some(attached), ..bulletin }))
    }

    /// The messages by which a group hears that a job has succeeded: by channels that hear of anything below a critical alert.
    pub fn succeeded(&self, name: &str, run: &Run) -> Vec<NewNotification> {
        let Some(group) = self.config.groups.get(name) else { return Vec::new() };
        let took = run.started_at.zip(run.finished_at).map(|(from, to)| human::span(to - from)).unwrap_or_default();
        let at = run.finished_at.unwrap_or(self.now);
        let summary = format!("job {} succeeded", run.job);
        let alert = Alert {
            cluster: run.cluster.clone(),
            detail: Detail::new().fact("result", &run.summary).time("finished", at).fact("took", took),
            opened_at: run.started_at.unwrap_or(at),
            run_id: Some(run.id),
            ..Alert::of_message(run.id, &run.job, name, summary, at)
        };
        let item = Item { notice: Notice::Success, alert: plain(&alert) };
        let bulletin = self.bulletin(name, group, Occasion::Success, vec![item], None);
        let quiet = Alert { severity: Severity::Warning, ..alert };
        let channels = self.channels(group).filter(|channel| self.hears(channel, &quiet));
        let written = channels.map(|channel| NewNotification { alerts: Vec::new(), ..message(channel, &bulletin) });
        written.collect()
    }

    /// The channels of a group that are configured.
    pub fn channels<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a str> {
        let configured = |name: &&str| match *name {
            MAIL => self.config.mail.is_some(),
            name => self.config.channels.contains_key(name),
        };
        group.channels.iter().map(|name| name.0.as_str()).filter(configured)
    }

    fn limit(&self, channel: &str) -> u32 {
        let mail = self.config.mail.as_ref().filter(|_| channel == MAIL).map(|mail| mail.hourly_limit);
        mail.or_else(|| self.config.channels.get(channel).map(|channel| channel.common.hourly_limit))
            .unwrap_or(u32::MAX)
    }

    /// Whether a channel takes what is as bad as this, or was.
    fn hears(&self, channel: &str, alert: &Alert) -> bool {
        let mail = self.config.mail.as_ref().filter(|_| channel == MAIL).map(|mail| mail.from_severity);
        let from = mail.or_else(|| self.config.channels.get(channel).map(|channel| channel.common.from_severity));
        let worst = alert.notified.map_or(alert.severity, |told| told.worst.max(alert.severity));
        from.is_none_or(|from| worst >= from)
    }

    /// An alert as it stands once this was told.
    fn item(&self, alert: &Alert, notice: Notice, incident: Uuid) -> Item {
        let severity = alert.current();
        let before = alert.notified.unwrap_or(Notified { at: self.now, severity, worst: severity, incident });
        let told = Notified { at: self.now, severity, worst: before.worst.max(severity), incident: before.incident };
        Item { notice, alert: Alert { notified: Some(told), ..plain(alert) } }
    }

    fn bulletin(
        &self,
        name: &str,
        group: &Group,
        occasion: Occasion,
        items: Vec<Item>,
        note: Option<String>,
    ) -> Bulletin {
        Bulletin {
            group: name.to_owned(),
            prefix: match occasion {
                Occasion::Report | Occasion::Success => group.report_prefix.clone(),
                Occasion::Alerts | Occasion::Digest | Occasion::Test => group.subject_prefix.clone(),
            },
            instance: self.instance.to_owned(),
            zone: self.config.daemon.time_zone,
            occasion,
            items,
            note,
            report: None,
            at: self.now,
        }
    }
}

/// The alert as people are told of it: names and messages of strangers are in it, and are text and no more (C44).
fn plain(alert: &Alert) -> Alert {
    let line = |text: &str| human::line(text).into_owned();
    let lines = |text: &str| human::plain(text).into_owned();
    Alert {
        fingerprint: line(&alert.fingerprint),
        summary: line(&alert.summary),
        meaning: lines(&alert.meaning),
        advice: lines(&alert.advice),
        detail: alert.detail.map(lines),
        resolution: alert.resolution.as_deref().map(line),
        ..alert.clone()
    }
}

/// Whether it is about this channel itself.
fn is_own_failure(alert: &Alert, channel: &str) -> bool {
    alert.job == DELIVERY && alert.object() == channel
}

/// Whether earlier messages of the group still wait for their digest.
fn waits(snapshot: &AlertSnapshot, dispatch: &Dispatch, channel: &str, group: &str) -> bool {
    let waiting = |message: &&Notification| message.channel == channel && message.group_name == group;
    snapshot.held.iter().filter(waiting).any(|message| !dispatch.digested.contains(&message.id))
}

fn message(channel: &str, bulletin: &Bulletin) -> NewNotification {
    NewNotification {
        id: Uuid::now_v7(),
        alerts: bulletin.items.iter().map(|item| item.alert.id).collect(),
        incidents: bulletin.incidents(),
        group: bulletin.group.clone(),
        channel: channel.to_owned(),
        notice: bulletin.items.first().map_or(Notice::Report, |item| item.notice),
        severity: bulletin.severity(),
        subject: bulletin.subject(),
        content: serde_json::json!(bulletin).to_string(),
        held: false,
        created_at: bulletin.at,
    }
}

#[cfg(test)]
mod tests;
