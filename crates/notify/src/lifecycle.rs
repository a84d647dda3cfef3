//! The life of an alert, as pure functions of what is open, what was found, and the time.

use chrono::{DateTime, Utc};
use pgbosun_core::{
    alert::{Alert, AlertState, Notice},
    config::Patience,
    finding::{Finding, Reach},
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
    /// How long a problem must be there before it is an alert.
    pub patience: Patience,
    /// The run that looked.
    pub run_id: Option<Uuid>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub enum Observation {
    /// It succeeded, and this is all that is wrong: whatever else was open is over.
    Complete(Vec<Finding>),
    /// It failed, or was broken off: what was found until then stands, and nobody knows how the rest does.
    Partial {
        /// That the job itself failed.
        failure: Option<Finding>,
        /// What was found.
        findings: Vec<Finding>,
    },
}

/// Judges the end of a run against the unresolved alerts of its job; the alerts as they stand now.
pub fn judge(subject: &Subject, open: &[Alert], verdict: Observation, now: DateTime<Utc>) -> Vec<Alert> {
    match verdict {
        Observation::Partial { failure, findings } => {
            let found = merged(findings).into_iter().map(|finding| raise(subject, open, finding, now));
            failure.into_iter().map(|failure| fail(subject, open, failure, now)).chain(found).collect()
        }
        Observation::Complete(findings) => {
            let findings = merged(findings);
            let found: Vec<_> = findings.iter().map(|finding| fingerprint(&subject.job, &finding.object)).collect();
            let over = open.iter().filter(|alert| !found.contains(&alert.fingerprint));
            let over: Vec<_> = over.map(|alert| resolve(alert, subject.run_id, now)).collect();
            let here = findings.into_iter().map(|finding| raise(subject, open, finding, now));
            over.into_iter().chain(here).collect()
        }
    }
}

/// Opens the alert that says the job itself failed, or goes on with it. Its retries were its patience.
fn fail(subject: &Subject, open: &[Alert], finding: Finding, now: DateTime<Utc>) -> Alert {
    let subject = Subject { patience: Patience::Checks(1), ..subject.clone() };
    raise(&subject, open, Finding { object: RUN.into(), ..finding }, now)
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

/// Opens an alert for a finding, or goes on with the one that is there.
fn raise(subject: &Subject, open: &[Alert], finding: Finding, now: DateTime<Utc>) -> Alert {
    let fingerprint = fingerprint(&subject.job, &finding.object);
    let known = open.iter().find(|alert| alert.fingerprint == fingerprint);
    let checks = known.map_or(1, |alert| alert.checks.saturating_add(1));
    let opened_at = known.map_or(now, |alert| alert.opened_at);
    let ripe = finding.reach > Reach::Object
        || match subject.patience {
            Patience::Checks(needed) => checks >= needed,
            Patience::Time(time) => (now - opened_at).to_std().is_ok_and(|age| age >= time),
        };
    let worse = known.is_some_and(|alert| finding.severity > alert.severity);
    let state = match known.map(|alert| alert.state) {
        None | Some(AlertState::Pending) if !ripe => AlertState::Pending,
        // What got worse needs attention again.
        Some(AlertState::Acknowledged) if !worse => AlertState::Acknowledged,
        _ => AlertState::Open,
    };
    let unchanged = known.filter(|alert| alert.state == state && alert.severity == finding.severity);
    Alert {
        id: known.map_or_else(Uuid::now_v7, |alert| alert.id),
        fingerprint,
        job: subject.job.clone(),
        cluster: subject.cluster.clone(),
        // Whoever was told of it is told of its end.
        group: known.filter(|alert| alert.notified.is_some()).map_or(&subject.group, |alert| &alert.group).clone(),
        severity: finding.severity,
        state,
        reach: finding.reach,
        summary: finding.summary,
        meaning: finding.meaning,
        advice: finding.advice,
        detail: finding.detail,
        checks,
        opened_at,
        changed_at: unchanged.map_or(now, |alert| alert.changed_at),
        seen_at: now,
        resolved_at: None,
        resolution: None,
        run_id: subject.run_id.or_else(|| known.and_then(|alert| alert.run_id)),
        acknowledged: known.filter(|_| state == AlertState::Acknowledged).and_then(|alert| alert.acknowledged.clone()),
        notified: known.and_then(|alert| alert.notified),
    }
}

/// Ends an alert.
pub fn resolve(alert: &Alert, run_id: Option<Uuid>, now: DateTime<Utc>) -> Alert {
    Alert {
        state: AlertState::Resolved,
        changed_at: now,
        resolved_at: Some(now),
        run_id: run_id.or(alert.run_id),
        ..alert.clone()
    }
}

/// An alert that ends though nobody saw that it is over, for this reason.
pub fn end(alert: &Alert, reason: String, now: DateTime<Utc>) -> Alert {
    Alert { resolution: Some(reason), ..resolve(alert, None, now) }
}

/// What happened to an alert, if it is worth a word: nobody hears of one that was only pending.
pub fn transition(before: Option<&Alert>, after: &Alert) -> Option<Notice> {
    let was_open = before.is_some_and(|before| before.state != AlertState::Pending);
    match (was_open, after.state) {
        (_, AlertState::Pending) | (false, AlertState::Resolved) => None,
        (false, _) => Some(Notice::Opened),
        (true, AlertState::Resolved) => Some(Notice::Resolved),
        (true, _) => before.is_some_and(|before| before.severity != after.severity).then_some(Notice::Changed),
    }
}

fn fingerprint(job: &str, object: &str) -> String {
    format!("{job}/{object}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgbosun_core::{alert::Acknowledgement, finding::Severity};
    use std::time::Duration;

    fn subject(patience: Patience) -> Subject {
        let (job, cluster, group) = ("disk".into(), Some("main".into()), "system".into());
        Subject { job, cluster, group, patience, run_id: None }
    }

    fn finding(object: &str, severity: Severity) -> Finding {
        Finding::new(severity, object, "full")
    }

    fn at(minute: u32) -> DateTime<Utc> {
        format!("2026-11-21T00:{minute:02}:00Z").parse().unwrap()
    }

    /// One check after the other; what is told of the only alert each time.
    fn checks(patience: Patience, seen: &[Option<Severity>]) -> Vec<Option<Notice>> {
        let mut open: Vec<Alert> = Vec::new();
        let mut told = Vec::new();
        for (minute, severity) in seen.iter().enumerate() {
            let findings = severity.map(|severity| finding("/data", severity)).into_iter().collect();
            let changed = judge(&subject(patience), &open, Observation::Complete(findings), at(minute as u32));
            assert!(changed.len() <= 1);
            told.push(changed.first().and_then(|after| transition(open.first(), after)));
            open = changed.into_iter().filter(|alert| alert.state != AlertState::Resolved).collect();
        }
        told
    }

    const WARNING: Option<Severity> = Some(Severity::Warning);
    const CRITICAL: Option<Severity> = Some(Severity::Critical);

    #[test]
    fn opens_once_changes_and_resolves() {
        let seen = [WARNING, WARNING, CRITICAL, CRITICAL, WARNING, None, None, WARNING];
        let told = [
            Some(Notice::Opened),
            None,
            Some(Notice::Changed),
            None,
            Some(Notice::Changed),
            Some(Notice::Resolved),
            None,
            Some(Notice::Opened),
        ];
        assert_eq!(checks(Patience::Checks(1), &seen), told);
    }

    #[test]
    fn waits_for_looks_in_a_row_or_a_time() {
        let seen = [WARNING, WARNING, None, WARNING, CRITICAL, WARNING];
        let told = [None, None, None, None, None, Some(Notice::Opened)];
        assert_eq!(checks(Patience::Checks(3), &seen), told);
        assert_eq!(checks(Patience::Time(Duration::from_secs(120)), &seen), told);
    }

    #[test]
    fn a_server_that_is_down_is_told_at_the_first_look() {
        let down = finding("connection", Severity::Critical).reaching(Reach::Cluster);
        let alert = &judge(&subject(Patience::Checks(9)), &[], Observation::Complete(vec![down]), at(0))[0];
        assert_eq!(alert.state, AlertState::Open);
    }

    #[test]
    fn getting_worse_ends_an_acknowledgement_and_getting_better_does_not() {
        let check = |open: &[Alert], severity| {
            let verdict = Observation::Complete(vec![finding("/data", severity)]);
            judge(&subject(Patience::Checks(1)), open, verdict, at(1)).remove(0)
        };
        let open = check(&[], Severity::Unknown);
        let acknowledged = Some(Acknowledgement { by: "anna".into(), at: at(1), reason: "on it".into() });
        let open = Alert { state: AlertState::Acknowledged, acknowledged, ..open };
        let same = check(std::slice::from_ref(&open), Severity::Warning);
        assert_eq!((same.state, same.acknowledged.is_some()), (AlertState::Acknowledged, true));
        let worse = check(&[open], Severity::Critical);
        assert_eq!((worse.state, worse.acknowledged.is_some()), (AlertState::Open, false));
    }

    #[test]
    fn two_findings_of_one_object_are_one_alert_and_the_worse_counts() {
        let both = vec![finding("/data", Severity::Warning), finding("/data", Severity::Critical)];
        let alerts = judge(&subject(Patience::Checks(1)), &[], Observation::Complete(both), at(0));
        assert_eq!((alerts.len(), alerts[0].severity), (1, Severity::Critical));
    }

    #[test]
    fn a_failed_run_touches_only_its_own_alert_and_is_told_at_once() {
        let subject = subject(Patience::Checks(3));
        let here = Observation::Complete(vec![finding("/data", Severity::Critical)]);
        let open = judge(&subject, &[], here.clone(), at(0));
        let failed = judge(
            &subject,
            &open,
            Observation::Partial { failure: Some(finding("x", Severity::Unknown)), findings: Vec::new() },
            at(1),
        );
        assert_eq!(failed.len(), 1);
        assert_eq!((failed[0].fingerprint.as_str(), failed[0].state), ("disk/run", AlertState::Open));
        let both = [open[0].clone(), failed[0].clone()];
        let well = judge(&subject, &both, here, at(2));
        let run = well.iter().find(|alert| alert.fingerprint == "disk/run").unwrap();
        assert_eq!((well.len(), run.state), (2, AlertState::Resolved));
    }
}
