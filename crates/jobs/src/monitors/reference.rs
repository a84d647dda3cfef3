//! `docs/monitors.md`, from the code: every monitor with its schedule, its group, its source and its queries.

use super::MonitorFacts;
use pgbosun_core::config::{Kind, Needs};
use pgbosun_core::family::short_name;
use std::fmt::Write;

/// The page.
pub fn reference(monitors: &[(Kind, MonitorFacts)]) -> String {
    let mut out = String::from(INTRODUCTION);
    // Writing into a String cannot fail.
    for (kind, facts) in monitors {
        let _ = writeln!(
            out,
            "| [`{}`](#{}) | `{}` | {} | {} | {} | {} |",
            short(kind),
            anchor(kind),
            facts.every,
            if facts.checks == 1 { "at once".to_owned() } else { format!("at check {}", facts.checks) },
            facts.group,
            needs(facts),
            cost(kind)
        );
    }
    out.push('\n');
    for (kind, facts) in monitors {
        let about = kind.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "## {}\n\n{about}\n\nSource: {}.", kind.name, facts.source);
        for option in kind.options {
            let standing = option.default.first().map_or("optional", |default| *default);
            let doc = option.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                out,
                "{}- `{}` ({standing}): {doc}",
                if option.field == kind.options[0].field { "\n" } else { "" },
                option.key()
            );
        }
        for query in facts.queries {
            let _ = writeln!(out, "\nTo {}:\n\n```sql\n{}\n```", query.what, query.sql.trim());
        }
        out.push('\n');
    }
    out + include_str!("compared.md")
}

const INTRODUCTION: &str = "# Monitors

Every monitor below that needs no options runs on its own, for each cluster (`watch = true` under `[clusters.NAME]`, job
`NAME-…`) and for this machine (`watch = true` under `[daemon]`, job `host-…`). A configured job of the same kind replaces
it: with other limits, on another schedule, for another group, or, with `enabled = false`, not at all.

All monitors of a cluster take turns on one connection, with `statement-timeout` and `lock-timeout` set on the server. A
monitor that cannot check is UNKNOWN, and alerts. `docs/benchmarks.md` has what they cost.

A problem that may go away on its own is reported once several checks in a row have seen it (`open-after` of the job).

The cost is the CPU time of one check, in milliseconds, on the server and in the daemon, for a server with 5,000 tables
(`make bench` measures it again).

| kind, without `monitor.` | runs | reported | group | needs | cost: server, daemon |
| --- | --- | --- | --- | --- | --- |
";

/// What a check of this kind cost when it was last measured.
fn cost(kind: &Kind) -> String {
    let measured = include_str!("costs.tsv").lines().find_map(|line| {
        let (name, metrics) = line.split_once('\t')?;
        (name == kind.name).then(|| metrics.replace('\t', ", "))
    });
    measured.unwrap_or_else(|| "not measured".into())
}

fn short(kind: &Kind) -> &'static str {
    short_name(kind.name)
}

fn anchor(kind: &Kind) -> String {
    kind.name.replace('.', "")
}

const fn needs(facts: &MonitorFacts) -> &'static str {
    match facts.needs {
        Needs::Host => "this machine",
        Needs::Cluster => "a cluster",
        Needs::DataDirectory => "its data directory on this machine",
        Needs::LogDirectory => "its log directory on this machine",
        Needs::Backups => "a backup job",
        Needs::RestoreTests => "a restore-test job",
        Needs::Reports => "a report job",
        Needs::Options | Needs::ClusterOptions => "a job with options",
    }
}
