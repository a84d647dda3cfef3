//! `docs/monitors.md`, from the code: every monitor with its schedule, its group, its source and its queries.

use super::Facts;
use pgbosun_core::config::{Kind, Needs};
use std::fmt::Write;

/// The page.
pub fn reference(monitors: &[(Kind, Facts)]) -> String {
    let mut out = String::from(INTRODUCTION);
    // Writing into a String cannot fail.
    for (kind, facts) in monitors {
        let _ = writeln!(
            out,
            "| [`{}`](#{}) | `{}` | {} | {} | {} | {} |",
            short(kind),
            anchor(kind),
            facts.every,
            if facts.looks == 1 { "at once".to_owned() } else { format!("at look {}", facts.looks) },
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

Every monitor below that needs no options runs by itself, for each cluster (`watch = true` under `[clusters.NAME]`, job
`NAME-…`) and for this machine (`watch = true` under `[daemon]`, job `host-…`). A job of the same kind takes its place: with
other limits, on another schedule, told to another group, or with `enabled = false` not at all.

All monitors of a cluster take turns on one connection, with `statement-timeout` and `lock-timeout` set on the server. One
that cannot look is UNKNOWN, and alerts. `docs/benchmarks.md` has what they cost.

What may pass by itself is told when so many looks in a row have seen it (`open-after` of the job).

The cost is the processor time of one look, in milliseconds, of the server and of the daemon, on a server with 5,000 tables
(`make bench` measures it again).

| kind, without `monitor.` | runs | told | group | needs | cost: server, daemon |
| --- | --- | --- | --- | --- | --- |
";

/// What a look of this kind cost when it was last measured.
fn cost(kind: &Kind) -> String {
    let measured = include_str!("costs.tsv").lines().find_map(|line| {
        let (name, figures) = line.split_once('\t')?;
        (name == kind.name).then(|| figures.replace('\t', ", "))
    });
    measured.unwrap_or_else(|| "not measured".into())
}

fn short(kind: &Kind) -> &'static str {
    kind.name.trim_start_matches("monitor.")
}

fn anchor(kind: &Kind) -> String {
    kind.name.replace('.', "")
}

const fn needs(facts: &Facts) -> &'static str {
    match facts.needs {
        Needs::Host => "this machine",
        Needs::Cluster => "a cluster",
        Needs::DataDirectory => "its data directory here",
        Needs::LogDirectory => "its log directory here",
        Needs::Backups => "a backup job",
        Needs::RestoreTests => "a restore-test job",
        Needs::Reports => "a report job",
        Needs::Options | Needs::ClusterOptions => "a job with options",
    }
}
