//! What becomes of a scheduled run that a stop, a crash or a reboot ended (C40): it runs again, or its group hears of it.
//!
//! Invariant: it is tried again for its own time, so that its start-deadline counts from there however often the daemon ends.

use crate::{alerts, engine::Engine, error::Error};
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use pgbosun_core::{
    config::{Job, Patience},
    detail::Detail,
    finding::{Finding, Severity},
    human,
    run::{Run, RunState, Trigger},
    schedule::{CatchUp, Cron, occurrences},
};
use pgbosun_notify::{Observation, Subject};

/// So soon the next time of a schedule is as good as a repetition.
const SOON: Duration = Duration::hours(1);
/// What the alert is about, of its job.
const OBJECT: &str = "again";
/// So often a run is begun again that is ended every time: it may be what ends the daemon.
const TRIES: usize = 3;

/// What is to be done about an ended run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It runs again.
    Now,
    /// A later time of its schedule takes care of it.
    Later,
    /// It does not, for this reason.
    No(String),
}

/// The run of a schedule that was ended and has not been made good since, of a job's runs from the newest; and how often it was begun
/// again.
pub(crate) fn ended(runs: &[Run]) -> Option<(&Run, usize)> {
    let counts = |run: &&Run| match run.state {
        RunState::Skipped | RunState::Missed => false,
        RunState::Interrupted => run.trigger != Trigger::Manual,
        _ => true,
    };
    let ended = runs.iter().find(counts).filter(|run| run.state == RunState::Interrupted)?;
    // What waited for its turn only took nothing along.
    let again = |run: &&Run| {
        run.trigger == Trigger::Start && run.scheduled_for == ended.scheduled_for && run.started_at.is_some()
    };
    Some((ended, runs.iter().filter(again).count()))
}

/// Decides about it. `planned_until` is how far the schedule has been dealt with.
pub(crate) fn decide(
    job: &Job,
    (cron, zone, planned_until): (&Cron, Tz, DateTime<Utc>),
    (ended, tries): (&Run, usize),
    now: DateTime<Utc>,
) -> Again {
    if job.is_monitor() {
        return Again::Later;
    }
    let once = job.catch_up() == CatchUp::Once;
    let late = |time: DateTime<Utc>| (now - time).to_std().unwrap_or_default();
    let passed = occurrences(cron, zone, planned_until.max(ended.scheduled_for)).take_while(|time| *time <= now).last();
    let soon = occurrences(cron, zone, now).next().is_some_and(|next| next <= now + SOON);
    // Of times that passed the newest is caught up with, and this one is not run beside it.
    if passed.is_some_and(|time| once && late(time) <= job.common.start_deadline) || (soon && !once) {
        return Again::Later;
    }
    let late = late(ended.scheduled_for);
    if !once {
        return Again::No(format!("catch-up of {} is \"none\"", job.name));
    }
    if late > job.common.start_deadline {
        let deadline = human::duration(job.common.start_deadline);
        return Again::No(format!("it was due {} ago, but its start-deadline is {deadline}", human::duration(late)));
    }
    if tries >= TRIES {
        return Again::No(format!("it was started again {TRIES} times and interrupted every time"));
    }
    Again::Now
}

/// Tells the group. Once: somebody may have ended that alert.
///
/// # Errors
/// Where the journal cannot be read or written.
pub(crate) async fn tell(engine: &Engine, job: &Job, ended: &Run, reason: &str) -> Result<(), Error> {
    if engine.journal.is_alert_over(&format!("{}/{OBJECT}", job.name), ended.scheduled_for).await? {
        return Ok(());
    }
    tracing::warn!(pgbosun_job = job.name, "{} does not run again: {reason}", job.name);
    // Beside the alert about a crash: that one was told before anybody knew.
    let subject = Subject { patience: Patience::Checks(1), ..alerts::subject(job, ended) };
    let verdict = Observation::Partial { failure: None, findings: vec![finding(ended, reason)] };
    let judge = alerts::judged(subject, verdict, engine.now());
    alerts::note(engine, &engine.journal.change_alerts(Some(job.name.clone()), judge).await?);
    Ok(())
}

/// What the group hears.
fn finding(run: &Run, reason: &str) -> Finding {
    let advice = format!(
        "Run it with \"pgbosun job run {}\". \"journalctl PGBOSUN_RUN={}\" shows how far it came.",
        run.job, run.id
    );
    Finding::new(Severity::Warning, OBJECT, format!("a run of {} was interrupted and does not run again", run.job))
        .meaning("The daemon ended during the run, or before its turn came. The work has not been done.")
        .advice(advice)
        .detail(
            Detail::new()
                .fact("run", run.id)
                .time("due", run.scheduled_for)
                .fact("ended", &run.summary)
                .fact("not run again", reason),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;

    fn job(kind: &str, options: &str) -> Job {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgbosun.toml");
        let text = format!(
            "[clusters.main]\nconnection = \"user=a\"\n[repositories.local]\ntype = \"local\"\npath = \"/r\"\n\
             [jobs.x]\nkind = \"{kind}\"\nschedule = \"0 3 * * *\"\n{options}"
        );
        std::fs::write(&path, text).unwrap();
        load(&path).map_err(|problems| problems.to_string()).unwrap().config.jobs["x"].clone()
    }

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-21T{text}:00Z").parse().unwrap()
    }

    fn run(trigger: Trigger, state: RunState, time: &str) -> Run {
        Run {
            id: uuid::Uuid::now_v7(),
            job: "x".into(),
            kind: "command".into(),
            cluster: None,
            trigger,
            state,
            scheduled_for: at(time),
            started_at: Some(at(time)),
            finished_at: None,
            attempts: 1,
            summary: String::new(),
            error: None,
        }
    }

    fn decided(job: &Job, cron: &str, tries: usize, now: &str) -> Again {
        let ended = run(Trigger::Schedule, RunState::Interrupted, "03:00");
        decide(job, (&cron.parse().unwrap(), Tz::UTC, at("03:00")), (&ended, tries), at(now))
    }

    #[test]
    fn c40_what_was_ended_runs_again_or_is_told() {
        let backup = job("backup.physical", "repositories = [\"local\"]\nstart-deadline = \"4h\"\n");
        let daily = "0 3 * * *";
        assert_eq!(decided(&backup, daily, 0, "03:20"), Again::Now);
        assert_eq!(decided(&backup, daily, TRIES - 1, "07:00"), Again::Now);
        assert!(matches!(decided(&backup, daily, TRIES, "03:20"), Again::No(reason) if reason.contains("3 times")));
        assert!(
            matches!(decided(&backup, daily, 0, "07:01"), Again::No(reason) if reason.contains("start-deadline is 4 h"))
        );
        // The hour that passed meanwhile is caught up with, and this one is not run beside it.
        assert_eq!(decided(&backup, "0 * * * *", 0, "04:30"), Again::Later);
        assert_eq!(decided(&backup, "0 * * * *", 0, "03:30"), Again::Now);
        // Where its next time passed too, and nobody catches up with that either, somebody hears of it.
        let two = "0 3,9 * * *";
        // A time that was dealt with, skipped since this run was at work, is nobody's to make good.
        let ended = run(Trigger::Schedule, RunState::Interrupted, "03:00");
        let skipped = (&two.parse().unwrap(), Tz::UTC, at("09:00"));
        let once = job("command", "program = \"/bin/true\"\ncatch-up = \"once\"\n");
        assert_eq!(decide(&once, skipped, (&ended, 0), at("09:30")), Again::Now);
        assert_eq!(decided(&backup, two, 0, "12:00"), Again::Later);
        assert!(matches!(decided(&backup, two, 0, "13:30"), Again::No(_)));
        let command = |options| job("command", &format!("program = \"/bin/true\"\n{options}"));
        assert_eq!(decided(&command("catch-up = \"once\"\n"), daily, 0, "03:20"), Again::Now);
        assert!(matches!(decided(&command(""), daily, 0, "03:20"), Again::No(reason) if reason.contains("\"none\"")));
        assert_eq!(decided(&command(""), "0 * * * *", 0, "03:20"), Again::Later);
        assert!(matches!(decided(&command(""), two, 0, "12:00"), Again::No(_)));
        assert_eq!(decided(&job("monitor.connectivity", ""), daily, 0, "03:20"), Again::Later);
    }

    #[test]
    fn c40_what_was_made_good_since_is_not_looked_at() {
        use RunState::{Cancelled, Failed, Interrupted, Missed, Skipped, Succeeded};
        use Trigger::{Manual, Schedule, Start};
        let of = |runs: &[(Trigger, RunState)]| {
            let runs: Vec<_> = runs.iter().map(|(trigger, state)| run(*trigger, *state, "03:00")).collect();
            ended(&runs).map(|(run, tries)| (run.trigger, tries))
        };
        let mut queued = [run(Start, Interrupted, "03:00"), run(Schedule, Interrupted, "03:00")];
        queued[0].started_at = None;
        assert_eq!(ended(&queued).map(|(_, tries)| tries), Some(0), "it waited for its turn");
        assert_eq!(of(&[(Schedule, Interrupted)]), Some((Schedule, 0)));
        assert_eq!(of(&[(Schedule, Skipped), (Schedule, Missed), (Schedule, Interrupted)]), Some((Schedule, 0)));
        let by_hand_too = [(Manual, Interrupted), (Start, Interrupted), (Schedule, Interrupted)];
        assert_eq!(of(&by_hand_too), Some((Start, 1)));
        assert_eq!(of(&[(Start, Interrupted), (Schedule, Interrupted)]), Some((Start, 1)));
        for made_good in [(Manual, Succeeded), (Manual, Failed), (Schedule, Cancelled)] {
            assert_eq!(of(&[made_good, (Schedule, Interrupted)]), None);
        }
    }
}
