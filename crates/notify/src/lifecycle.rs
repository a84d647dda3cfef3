//! The life of an alert, as pure functions of what is open, what was found, and the time.

use chrono::{DateTime, Duration, Utc};
use pgbosun_core::{
    alert::{Alert, AlertState, Notice},
    finding::Finding,
};
use uuid::Uuid;

/// The object of the alert that says the job itself failed.
const RUN: &str = "run";

/// Whose alerts are judged.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The job.
    pub job: String,
    /// Its cluster.
    pub cluster: Option<String>,
    /// The group that is told.
    pub group: String,
    /// How often a problem that stays is told again; zero is never.
    pub repeat: Duration,
    /// The run that looked.
    pub run_id: Option<Uuid>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It succeeded, and this is all that is wrong: whatever else was open is over.
    Complete(Vec<Finding>),
    /// It failed. Nobody knows how the rest stands.
    Failed(Finding),
}

/// An alert as it stands now, and what is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The alert.
    pub alert: Alert,
    /// What the group is told, if anything.
    pub notice: Option<Notice>,
}

/// Judges the end of a run against the open alerts of its job.
pub fn judge(subject: &Subject, open: &[Alert], verdict: Verdict, now: DateTime<Utc>) -> Vec<Change> {
    match verdict {
        Verdict::Failed(finding) => {
            let finding = Finding { object: RUN.into(), ..finding };
            vec![raise(subject, open, finding, now)]
        }
        Verdict::Complete(findings) => {
            let findings = merged(findings);
            let found: Vec<_> = findings.iter().map(|finding| fingerprint(&subject.job, &finding.object)).collect();
            let over = open.iter().filter(|alert| !found.contains(&alert.fingerprint));
            let over: Vec<_> = over.map(|alert| resolve(alert, subject.run_id, now)).collect();
            let here = findings.into_iter().map(|finding| raise(subject, open, finding, now));
            over.into_iter().chain(here).collect()
        }
    }
}

/// One finding per object, the worst: two of one object would be two alerts of one problem.
fn merged(findings: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    for finding in findings {
        match merged.iter_mut().find(|other| other.object == finding.object) {
            Some(other) if finding.severity > other.severity => *other = finding,
            Some(_) => {}
            None => merged.push(finding),
        }
    }
    merged
}

/// Opens an alert for a finding, or goes on with the one that is open.
pub fn raise(subject: &Subject, open: &[Alert], finding: Finding, now: DateTime<Utc>) -> Change {
    let fingerprint = fingerprint(&subject.job, &finding.object);
    let known = open.iter().find(|alert| alert.fingerprint == fingerprint);
    let notice = match known {
        None => Some(Notice::Opened),
        Some(alert) if alert.severity != finding.severity => Some(Notice::Changed),
        Some(alert) => {
            let told = alert.notified_at.unwrap_or(alert.opened_at);
            let due = subject.repeat > Duration::zero() && now - told >= subject.repeat;
            (due && alert.state == AlertState::Open).then_some(Notice::Reminder)
        }
    };
    let alert = Alert {
        id: known.map_or_else(Uuid::now_v7, |alert| alert.id),
        fingerprint,
        job: subject.job.clone(),
        cluster: subject.cluster.clone(),
        group: subject.group.clone(),
        severity: finding.severity,
        // What got worse or better wants to be looked at again.
        state: match (known, notice) {
            (Some(alert), None | Some(Notice::Reminder)) => alert.state,
            _ => AlertState::Open,
        },
        summary: finding.summary,
        meaning: finding.meaning,
        advice: finding.advice,
        detail: finding.detail,
        opened_at: known.map_or(now, |alert| alert.opened_at),
        seen_at: now,
        notified_at: if notice.is_some() { Some(now) } else { known.and_then(|alert| alert.notified_at) },
        resolved_at: None,
        run_id: subject.run_id.or_else(|| known.and_then(|alert| alert.run_id)),
    };
    Change { alert, notice }
}

fn resolve(alert: &Alert, run_id: Option<Uuid>, now: DateTime<Utc>) -> Change {
    let alert = Alert {
        state: AlertState::Resolved,
        resolved_at: Some(now),
        notified_at: Some(now),
        run_id: run_id.or(alert.run_id),
        ..alert.clone()
    };
    Change { alert, notice: Some(Notice::Resolved) }
}

fn fingerprint(job: &str, object: &str) -> String {
    format!("{job}/{object}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::finding::Severity;

    fn subject() -> Subject {
        Subject {
            job: "disk".into(),
            cluster: Some("main".into()),
            group: "system".into(),
            repeat: Duration::hours(4),
            run_id: None,
        }
    }

    fn finding(object: &str, severity: Severity) -> Finding {
        Finding {
            object: object.into(),
            severity,
            summary: "full".into(),
            meaning: String::new(),
            advice: String::new(),
            detail: String::new(),
        }
    }

    fn at(hour: u32) -> DateTime<Utc> {
        format!("2026-11-21T{hour:02}:00:00Z").parse().unwrap()
    }

    fn complete(open: &[Alert], findings: Vec<Finding>, hour: u32) -> Vec<Change> {
        judge(&subject(), open, Verdict::Complete(findings), at(hour))
    }

    fn notices(changes: &[Change]) -> Vec<Option<Notice>> {
        changes.iter().map(|change| change.notice).collect()
    }

    #[test]
    fn opens_once_reminds_as_configured_and_resolves() {
        let opened = complete(&[], vec![finding("/data", Severity::Warning)], 0);
        assert_eq!(notices(&opened), [Some(Notice::Opened)]);
        let mut open = vec![opened[0].alert.clone()];
        for (hour, expected) in
            [(1, None), (3, None), (4, Some(Notice::Reminder)), (7, None), (8, Some(Notice::Reminder))]
        {
            let again = complete(&open, vec![finding("/data", Severity::Warning)], hour);
            assert_eq!(notices(&again), [expected], "hour {hour}");
            assert_eq!((again[0].alert.id, again[0].alert.opened_at), (open[0].id, at(0)));
            open = vec![again[0].alert.clone()];
        }
        let over = complete(&open, Vec::new(), 9);
        assert_eq!(notices(&over), [Some(Notice::Resolved)]);
        assert_eq!((over[0].alert.state, over[0].alert.resolved_at), (AlertState::Resolved, Some(at(9))));
        assert_ne!(complete(&[], vec![finding("/data", Severity::Warning)], 10)[0].alert.id, open[0].id);
    }

    #[test]
    fn getting_worse_is_told_at_once_even_when_acknowledged() {
        let mut open = complete(&[], vec![finding("/data", Severity::Warning)], 0)[0].alert.clone();
        open.state = AlertState::Acknowledged;
        let worse = complete(&[open.clone()], vec![finding("/data", Severity::Critical)], 1);
        assert_eq!((worse[0].notice, worse[0].alert.state), (Some(Notice::Changed), AlertState::Open));
        let same = complete(&[open], vec![finding("/data", Severity::Warning)], 23);
        assert_eq!((same[0].notice, same[0].alert.state), (None, AlertState::Acknowledged));
    }

    #[test]
    fn two_findings_of_one_object_are_one_alert_and_the_worse_counts() {
        let both = vec![finding("/data", Severity::Warning), finding("/data", Severity::Critical)];
        let changes = complete(&[], both, 0);
        assert_eq!((changes.len(), changes[0].alert.severity), (1, Severity::Critical));
    }

    #[test]
    fn a_failed_run_touches_only_its_own_alert() {
        let open = complete(&[], vec![finding("/data", Severity::Critical)], 0)[0].alert.clone();
        let failed =
            judge(&subject(), std::slice::from_ref(&open), Verdict::Failed(finding("x", Severity::Unknown)), at(1));
        assert_eq!(failed.len(), 1);
        assert_eq!((failed[0].alert.fingerprint.as_str(), failed[0].notice), ("disk/run", Some(Notice::Opened)));
        let both = [open, failed[0].alert.clone()];
        let well = complete(&both, vec![finding("/data", Severity::Critical)], 2);
        assert_eq!(well.iter().find(|c| c.alert.fingerprint == "disk/run").unwrap().notice, Some(Notice::Resolved));
        assert_eq!(well.len(), 2);
    }
}
