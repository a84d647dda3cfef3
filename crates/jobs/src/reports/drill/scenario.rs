//! A disaster: what people do before and after, and what a restore test measured between.

use crate::reports::activity::{seconds, told};
use chrono_tz::Tz;
use pgbosun_backup::Target;
use pgbosun_core::{
    config::{KnownNames, RawValue, Refusal, Setting},
    finding::Severity,
    human,
    report::{ReportSection, ReportTable, VerdictLine},
};
use pgbosun_history::RestoreTestRow;
use std::time::Duration;

pgbosun_core::words! {
    /// What is restored in a scenario.
    pub enum Measured {
        /// Everything, to the end of the archived WAL.
        Latest = "latest",
        /// Everything, to the end of the backup: there is no archive.
        BackupEnd = "backup-end",
        /// Everything, to a moment before a mistake.
        Moment = "moment",
        /// One table, taken out of a restored copy.
        ReportTable = "table",
    }
}

/// What people do.
#[derive(Clone, Debug)]
struct Step {
    what: String,
    takes: Duration,
    who: String,
}

/// A disaster.
#[derive(Clone, Debug)]
pub struct Scenario {
    name: String,
    restore: Measured,
    before: Vec<Step>,
    after: Vec<Step>,
    recovery_time_objective: Option<Duration>,
    recovery_point_objective: Option<Duration>,
    /// It is there by default: that nobody measures it is no fault.
    by_default: bool,
}

/// The scenarios of a drill.
#[derive(Clone, Debug)]
pub struct Scenarios(Vec<Scenario>);

impl Scenarios {
    pub(super) fn all(&self) -> &[Scenario] {
        &self.0
    }
}

impl Setting for Scenarios {
    const EXPECTS: &'static str = "a list such as [{ name = \"Loss of the server\", restore = \"latest\", before = [{ what = \
                                   \"New server\", takes = \"30m\", who = \"on call\" }] }]";
    const OPTIONAL: bool = true;

    fn read(value: &RawValue, known: &KnownNames) -> Result<Self, Refusal> {
        let refused = || Refusal::expected(Self::EXPECTS);
        let items = value.as_array().ok_or_else(refused)?;
        items.iter().map(|item| scenario(item, known)).collect::<Option<Vec<_>>>().map(Self).ok_or_else(refused)
    }

    /// Each kind of restore once (reference 001 has the first two and the last, reference 003 the third).
    fn absent() -> Option<Self> {
        let scenario = |name: &str, restore| Scenario {
            name: name.to_owned(),
            restore,
            before: Vec::new(),
            after: Vec::new(),
            recovery_time_objective: None,
            recovery_point_objective: None,
            by_default: true,
        };
        Some(Self(vec![
            scenario("Loss of the server", Measured::Latest),
            scenario("Loss of the server and of the WAL archive", Measured::BackupEnd),
            scenario("Data deleted by mistake", Measured::Moment),
            scenario("One table damaged", Measured::ReportTable),
        ]))
    }
}

fn scenario(value: &RawValue, known: &KnownNames) -> Option<Scenario> {
    const KEYS: [&str; 6] =
        ["name", "restore", "before", "after", "recovery-time-objective", "recovery-point-objective"];
    let fields = value.as_dict()?;
    let steps = |key: &str| match fields.get(key) {
        Some(value) => value.as_array()?.iter().map(|value| step(value, known)).collect(),
        None => Some(Vec::new()),
    };
    let limit = |key: &str| match fields.get(key) {
        Some(value) => Duration::read(value, known).ok().map(Some),
        None => Some(None),
    };
    fields.keys().all(|key| KEYS.contains(&key.as_str())).then_some(())?;
    Some(Scenario {
        name: fields.get("name")?.as_str()?.to_owned(),
        restore: fields.get("restore").map_or(Some(Measured::Latest), |word| word.as_str()?.parse().ok())?,
        before: steps("before")?,
        after: steps("after")?,
        recovery_time_objective: limit("recovery-time-objective")?,
        recovery_point_objective: limit("recovery-point-objective")?,
        by_default: false,
    })
}

fn step(value: &RawValue, known: &KnownNames) -> Option<Step> {
    let fields = value.as_dict()?;
    fields.keys().all(|key| ["what", "takes", "who"].contains(&key.as_str())).then_some(())?;
    Some(Step {
        what: fields.get("what")?.as_str()?.to_owned(),
        takes: Duration::read(fields.get("takes")?, known).ok()?,
        who: fields.get("who").map_or(Some(""), |who| who.as_str())?.to_owned(),
    })
}

impl Step {
    fn phase(&self) -> Phase<'_> {
        (&self.what, self.takes.as_secs_f64(), false, &self.who)
    }
}

/// A scenario with what was measured.
pub(super) struct Played<'a> {
    scenario: &'a Scenario,
    test: Option<&'a RestoreTestRow>,
    time_objective: Option<Duration>,
    point_objective: Option<Duration>,
}

/// What a phase is: its words, its seconds, whether a test measured it, and who does it.
type Phase<'a> = (&'a str, f64, bool, &'a str);

impl Scenario {
    /// With the newest test that measured what it restores.
    pub(super) fn play<'a>(
        &'a self,
        tests: &'a [RestoreTestRow],
        time: Option<Duration>,
        point: Option<Duration>,
    ) -> Played<'a> {
        let test = tests.iter().find(|test| self.restore.is_by(test));
        let time_objective = self.recovery_time_objective.or(time);
        Played { scenario: self, test, time_objective, point_objective: self.recovery_point_objective.or(point) }
    }
}

impl Measured {
    /// Whether a test measured this.
    fn is_by(self, test: &RestoreTestRow) -> bool {
        let (latest, end) = (Target::Latest.to_string(), Target::BackupEnd.to_string());
        match self {
            Self::Latest => test.target == latest,
            Self::BackupEnd => test.target == end,
            Self::Moment => test.target != latest && test.target != end,
            Self::ReportTable => test.extracted.is_some(),
        }
    }

    /// Whether it brings everything back as far as that goes: what it loses is not chosen.
    const fn is_whole(self) -> bool {
        matches!(self, Self::Latest | Self::BackupEnd)
    }

    /// How to have it measured.
    const fn advice(self) -> &'static str {
        match self {
            Self::Latest => "a job of kind restore-test measures it",
            Self::BackupEnd => "a job of kind restore-test with target = \"backup-end\" measures it",
            Self::Moment => "a job of kind restore-test with target = \"random\" measures it",
            Self::ReportTable => "a job of kind restore-test with extract = \"database.schema.table\" measures it",
        }
    }
}

impl Played<'_> {
    fn phases(&self) -> Option<Vec<Phase<'_>>> {
        let test = self.test?;
        let mut measured = vec![
            ("Find the backup, check that its WAL is there", test.find_seconds, true, "pgbosun"),
            ("Fetch it", test.restore_seconds, true, "pgbosun"),
            ("Recover", test.recovery_seconds, true, "PostgreSQL"),
        ];
        match (self.scenario.restore, test.extract_seconds) {
            (Measured::ReportTable, Some(extract)) => {
                measured.push(("Extract the table (not yet loaded into the database)", extract, true, "pg_dump"))
            }
            _ => measured.push(("Read and check everything", test.check_seconds, true, "pgbosun")),
        }
        let scenario = self.scenario;
        Some(
            scenario
                .before
                .iter()
                .map(Step::phase)
                .chain(measured)
                .chain(scenario.after.iter().map(Step::phase))
                .collect(),
        )
    }

    fn total(&self) -> Option<f64> {
        Some(self.phases()?.iter().map(|phase| phase.1).sum())
    }

    /// How old the recovered state is; who chooses a moment loses what came after it by choice.
    fn point(&self) -> Option<f64> {
        self.test.filter(|_| self.scenario.restore.is_whole()).map(|test| test.recovery_point_age_seconds)
    }

    fn has_objective(&self) -> bool {
        self.time_objective.is_some() || (self.point().is_some() && self.point_objective.is_some())
    }

    fn misses(&self) -> (bool, bool) {
        let above = |value: Option<f64>, limit: Option<Duration>| {
            value.zip(limit).is_some_and(|(value, limit)| value > limit.as_secs_f64())
        };
        (above(self.total(), self.time_objective), above(self.point(), self.point_objective))
    }

    /// What is to be said of it; nothing of one that is there by default and was not measured.
    pub(super) fn line(&self) -> Option<VerdictLine> {
        let (name, restore) = (&self.scenario.name, self.scenario.restore);
        let (Some(test), Some(total)) = (self.test, self.total()) else {
            let text = format!("{name}: not measured in this window; {}.", restore.advice());
            return (!self.scenario.by_default).then(|| VerdictLine::new(Severity::Warning, text));
        };
        if !test.passed {
            let reason = test.detail.lines().next().unwrap_or_default();
            return Some(VerdictLine::new(
                Severity::Critical,
                format!("{name}: the newest restore test failed: {reason}."),
            ));
        }
        let limit = |limit: Option<Duration>| {
            limit.map_or_else(
                || " (no objective)".to_owned(),
                |limit| format!(" (objective {})", human::duration(limit)),
            )
        };
        let what = if restore == Measured::ReportTable { "extracted" } else { "back" };
        let mut text = format!("{name}: {what} in {}{}", seconds(total), limit(self.time_objective));
        if let Some(point) = self.point() {
            text += &format!(", the recovered state was {} old{}", seconds(point), limit(self.point_objective));
        }
        let (time, point) = self.misses();
        let (severity, end) = match (time || point, self.has_objective()) {
            (true, _) => (Severity::Critical, ": objective missed."),
            (false, true) => (Severity::Ok, "."),
            (false, false) => (Severity::Warning, ": no objective is set."),
        };
        Some(VerdictLine::new(severity, text + end))
    }

    /// Its row among all.
    pub(super) fn cells(&self) -> [String; 6] {
        let objective = |limit: Option<Duration>| limit.map_or_else(|| "none".to_owned(), human::duration);
        let (time, point) = self.misses();
        let result = match self.test {
            None => "not measured".to_owned(),
            Some(test) if !test.passed => "FAIL: the test failed".into(),
            Some(_) if !self.has_objective() => "no objective".into(),
            Some(_) => match (time, point) {
                (false, false) => "PASS".into(),
                (true, false) => "FAIL: takes too long".into(),
                (false, true) => "FAIL: loses too much".into(),
                (true, true) => "FAIL: takes too long, loses too much".into(),
            },
        };
        let whole = self.scenario.restore.is_whole();
        let known = self.test.is_none_or(|test| test.passed);
        [
            self.scenario.name.clone(),
            self.total().filter(|_| known).map_or_else(|| "unknown".into(), seconds),
            objective(self.time_objective),
            match self.point().filter(|_| known) {
                Some(point) => seconds(point),
                None if whole => "unknown".into(),
                None => "the chosen moment".into(),
            },
            if whole { objective(self.point_objective) } else { String::new() },
            result,
        ]
    }

    /// Its phases, each with its time and all until then.
    pub(super) fn section(&self, zone: Tz) -> Option<ReportSection> {
        let (phases, test) = (self.phases()?, self.test.filter(|test| test.passed)?);
        let mut section = ReportSection::new(&self.scenario.name);
        section.note = Some(format!(
            "Measured {} with {} from {}, recovered to {}.",
            told(test.started_at, zone),
            test.label,
            test.repository,
            test.target
        ));
        let mut table = ReportTable::new("", &["phase", "takes", "elapsed", "source", "who"]);
        let most = phases.iter().map(|phase| phase.1).fold(f64::MIN_POSITIVE, f64::max);
        let mut elapsed = 0.0;
        for (what, takes, measured, who) in phases {
            elapsed += takes;
            let known = if measured { "measured" } else { "planned" };
            let cells = [what.to_owned(), seconds(takes), seconds(elapsed), known.to_owned(), who.to_owned()];
            table.row(cells, Some(takes / most));
        }
        section.tables.push(table);
        Some(section)
    }
}
