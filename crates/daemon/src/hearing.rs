//! Who hears of what a group is told by mail, and who in its place where it has nobody.
//!
//! Invariant: [`Hearing::of`] is the one rule of who that is; what is sent, tried, checked and told at a removal asks it. That a group which
//! was switched off is passed on at once, and not after a while, is the outbox's.

use crate::{
    alerts,
    engine::Engine,
    error::{Error, chain},
    history,
};
use pgbosun_core::{
    alert::{Alert, OPERATORS},
    config::Config,
    detail::Detail,
    finding::{Finding, Severity},
    human,
};
use pgbosun_history::{Judge, Operators, operators_beside};
use pgbosun_notify::{MAIL, Notifier, Observation, judge, resolve};
use uuid::Uuid;

/// Who gets a group's mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hearing {
    /// Addresses.
    pub to: Vec<String>,
    /// Whose they are.
    pub by: By,
}

/// By what right somebody hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// As an operator of the group in `dba_ops`.
    Operators,
    /// As its recipient in the configuration, where `dba_ops` names nobody.
    Configuration,
    /// As the fail-safe group, to which its messages are passed on.
    FailSafe(String),
    /// By its channels that are no mail.
    Channels(Vec<String>),
    /// As the daemon's own group, where there is no fail-safe group.
    AlertGroup(String),
    /// Nobody does.
    Nobody,
}

impl Hearing {
    /// Of a group. One that `dba_ops` switched off, or of which everybody is on leave, is not told by way of the configuration.
    pub fn of(operators: &Operators, config: &Config, group: &str) -> Self {
        let own = |group: &str| match operators.of(group) {
            Some(active) => (active.to_vec(), By::Operators),
            None => {
                let listed = config.groups.get(group).into_iter().flat_map(|group| &group.recipients);
                (listed.map(ToString::to_string).collect(), By::Configuration)
            }
        };
        let (to, by) = own(group);
        if !to.is_empty() {
            return Self { to, by };
        }
        let daemon = &config.daemon;
        let nobody = || match others(config, group) {
            channels if channels.is_empty() => By::Nobody,
            channels => By::Channels(channels),
        };
        match &daemon.fail_safe_group {
            // By a message of its own, which says why, and by each of its channels.
            Some(spare) if spare.0 != group && !(own(&spare.0).0.is_empty() && others(config, &spare.0).is_empty()) => {
                Self { to, by: By::FailSafe(spare.0.clone()) }
            }
            Some(_) => Self { to, by: nobody() },
            None => match own(&daemon.alert_group.0).0 {
                to if to.is_empty() => Self { to, by: nobody() },
                to => Self { to, by: By::AlertGroup(daemon.alert_group.0.clone()) },
            },
        }
    }

    /// The group whose people hear, where this one has no operators; the daemon's `own` where nobody does.
    fn told(&self, group: &str, own: &str) -> String {
        match &self.by {
            By::Configuration | By::Channels(_) => group.to_owned(),
            By::FailSafe(other) | By::AlertGroup(other) => other.clone(),
            By::Operators | By::Nobody => own.to_owned(),
        }
    }

    /// Who hears in place of the operators of `dba_ops`, in words; nothing where they do themselves.
    pub fn instead(&self) -> Option<String> {
        match &self.by {
            By::Operators => None,
            By::Configuration => {
                Some(format!("its recipients in the configuration receive its alerts: {}", self.to.join(", ")))
            }
            By::FailSafe(group) => Some(format!("group {group}, the fail-safe group, receives its alerts")),
            By::AlertGroup(group) => Some(format!("group {group}, the alert-group of the daemon, receives its alerts")),
            By::Channels(channels) => Some(format!("it receives its alerts through {} only", channels.join(", "))),
            By::Nobody => Some("nobody receives its alerts".to_owned()),
        }
    }
}

/// The operators as they are now, or as the daemon last read them, which is said.
///
/// # Errors
/// Where the connection string of the history database is wrong.
pub async fn operators(config: &Config) -> Result<(Operators, Option<String>), Error> {
    let Some(mut delivery) = history::open(config, Uuid::nil())? else { return Ok((Operators::default(), None)) };
    let read = async { Ok(Operators::new(&delivery.operators().await?, &delivery.operator_groups().await?)) };
    let error: pgbosun_history::Error = match read.await {
        Ok(operators) => return Ok((operators, None)),
        Err(error) => error,
    };
    let (operators, who) = match operators_beside(&config.daemon.state_directory).await {
        Ok(Some(operators)) => (operators, "the operators last read from it are notified".to_owned()),
        Ok(None) => (Operators::default(), "the recipients in the configuration are notified".to_owned()),
        Err(unread) => {
            let why = format!("the recipients in the configuration are notified, since {}", chain(&unread));
            (Operators::default(), why)
        }
    };
    Ok((operators, Some(format!("history database unavailable: {}: {who}", chain(&error)))))
}

/// The channels of a group.
fn channels(config: &Config, group: &str) -> Vec<String> {
    let notifier = Notifier { config, instance: "", now: pgbosun_core::clock::now() };
    let group = config.groups.get(group).into_iter();
    group.flat_map(|group| notifier.channels(group)).map(str::to_owned).collect()
}

/// Those that are no mail.
fn others(config: &Config, group: &str) -> Vec<String> {
    channels(config, group).into_iter().filter(|channel| channel != MAIL).collect()
}

/// The groups that are told by mail of something that is configured.
pub fn told_by_mail(config: &Config) -> impl Iterator<Item = &str> {
    let by_mail = |name: &&str| channels(config, name).iter().any(|channel| channel == MAIL);
    let used = |name: &&str| {
        let jobs = config.jobs.values().any(|job| job.common.enabled && job.group == **name);
        jobs || config.daemon.alert_group.0 == **name
            || config.daemon.fail_safe_group.as_ref().is_some_and(|group| group.0 == **name)
    };
    config.groups.keys().map(String::as_str).filter(used).filter(by_mail)
}

/// Tells those who hear now that a group has lost its last operator, once, and ends that when it has one again.
pub(crate) async fn compare(engine: &Engine, before: &Operators, now: &Operators) -> Result<(), Error> {
    let (config, at) = (engine.config(), engine.now());
    let has = |operators: &Operators, group: &str| operators.of(group).is_some_and(|active| !active.is_empty());
    let groups: Vec<_> = told_by_mail(&config).map(str::to_owned).collect();
    let lost: Vec<_> = groups.iter().filter(|group| has(before, group) && !has(now, group)).cloned().collect();
    let staffed: Vec<_> = groups.into_iter().filter(|group| has(now, group)).collect();
    let open = engine.journal.open_alerts(Some(OPERATORS)).await?;
    if lost.is_empty() && !open.iter().any(|alert| staffed.iter().any(|group| alert.object() == group)) {
        return Ok(());
    }
    let own = &config.daemon.alert_group.0;
    let found = lost.iter().map(|group| {
        let hearing = Hearing::of(now, &config, group);
        (alerts::own_subject(OPERATORS, hearing.told(group, own)), finding(group, &hearing))
    });
    let found: Vec<_> = found.collect();
    let judge: Judge = Box::new(move |open: Vec<Alert>| {
        let over = open.iter().filter(|alert| staffed.iter().any(|group| alert.object() == group));
        let mut changed: Vec<_> = over.map(|alert| resolve(alert, None, at)).collect();
        for (subject, finding) in found {
            changed.extend(judge(&subject, &open, Observation::Partial { failure: None, findings: vec![finding] }, at));
        }
        changed
    });
    let changes = engine.journal.change_alerts(Some(OPERATORS.into()), judge).await?;
    alerts::note(engine, &changes);
    Ok(())
}

fn finding(group: &str, hearing: &Hearing) -> Finding {
    let instead = hearing.instead().unwrap_or_default();
    let severity = if hearing.by == By::Nobody { Severity::Critical } else { Severity::Warning };
    Finding::new(severity, group, format!("group {group} no longer has an operator"))
        .meaning(format!("The last one was removed or made inactive, or the group was switched off: {}.", human::line(&instead)))
        .advice(format!(
            "\"pgbosun operator add {group} ADDRESS\" adds one; if this is intended, end this alert with \"pgbosun alert \
             resolve\"."
        ))
        .detail(Detail::new().fact("group", group).fact("now", human::line(&instead)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;
    use pgbosun_history::Operator;

    fn config(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgbosun.toml");
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|problems| problems.to_string()).unwrap().config
    }

    #[test]
    fn who_hears_is_said_and_nobody_hears_twice() {
        let person = |group: &str, email: &str, active| Operator {
            group_name: group.into(),
            email: email.into(),
            name: None,
            active,
        };
        let none = Operators::default();
        let some =
            Operators::new(&[person("database", "anna@x.org", true), person("security", "away@x.org", false)], &[]);
        let spare = config(
            "[daemon]\nfail-safe-group = \"system\"\n[groups.system]\nrecipients = [\"boss@x.org\"]\n\
             [groups.security]\nrecipients = [\"guard@x.org\"]\n",
        );
        let plain = config("[groups.database]\nrecipients = [\"dba@x.org\"]\n");
        let of = |operators: &Operators, config: &Config, group: &str| {
            let Hearing { to, by } = Hearing::of(operators, config, group);
            (to.join(" "), by)
        };
        let (to, nobody) = (str::to_owned, String::new);
        assert_eq!(of(&some, &spare, "database"), (to("anna@x.org"), By::Operators));
        assert_eq!(of(&none, &spare, "database"), (nobody(), By::FailSafe("system".into())));
        assert_eq!(of(&none, &spare, "security"), (to("guard@x.org"), By::Configuration));
        assert_eq!(of(&some, &spare, "security"), (nobody(), By::FailSafe("system".into())), "on leave is on leave");
        assert_eq!(of(&some, &spare, "system"), (to("boss@x.org"), By::Configuration));
        assert_eq!(of(&none, &plain, "system"), (to("dba@x.org"), By::AlertGroup("database".into())));
        assert_eq!(of(&none, &config(""), "system"), (nobody(), By::Nobody));
        let paged = config(
            "[daemon]\nfail-safe-group = \"system\"\n[channels.pager]\ntype = \"command\"\nprogram = \"/bin/true\"\n\
             [groups.system]\nchannels = [\"pager\"]\n",
        );
        assert_eq!(of(&none, &paged, "database"), (nobody(), By::FailSafe("system".into())));
        assert_eq!(of(&none, &paged, "system"), (nobody(), By::Channels(vec!["pager".into()])));
        assert_eq!(of(&none, &config("[daemon]\nfail-safe-group = \"system\"\n"), "database"), (nobody(), By::Nobody));
    }
}
