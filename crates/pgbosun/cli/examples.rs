//! An example or two for each command: the end of its help, and a section of its manual page.

use clap::Command;

/// Commands without `pgbosun`, and lines to type.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("", &["pgbosun status", "pgbosun backup create", "pgbosun --config /etc/pgbosun/other.toml job list"]),
    ("daemon", &["pgbosun --config ./pgbosun.toml daemon"]),
    ("status", &["pgbosun status --watch", "pgbosun --json status"]),
    ("check", &["sudo pgbosun check", "sudo -u postgres pgbosun check --here main"]),
    ("metrics", &["pgbosun metrics > /var/lib/prometheus/node-exporter/pgbosun.prom"]),
    ("config init", &["sudo pgbosun config init --archive --output /etc/pgbosun/pgbosun.toml"]),
    ("config check", &["pgbosun --config ./new.toml config check"]),
    ("config show", &["pgbosun config show", "pgbosun --json config show"]),
    ("config unit", &["pgbosun config unit", "sudo pgbosun config unit --install"]),
    ("config reference", &["pgbosun config reference | less"]),
    ("schedule", &["pgbosun schedule --days 1", "pgbosun schedule --job full-backup --days 30"]),
    ("job list", &["pgbosun job list"]),
    ("job run", &["pgbosun job run full-backup --wait", "pgbosun job run vacuum --dry-run"]),
    ("job cancel", &["pgbosun job cancel vacuum"]),
    ("job pause", &["pgbosun job pause full-backup --reason \"moving storage\"", "pgbosun job pause --all"]),
    ("job resume", &["pgbosun job resume full-backup", "pgbosun job resume --all"]),
    (
        "job history",
        &[
            "pgbosun job history --failed --since 24h",
            "pgbosun job history --job full-backup -n 5",
            "pgbosun job history --kind monitor.disk",
        ],
    ),
    ("backup create", &["pgbosun backup create", "pgbosun backup create full-backup"]),
    ("backup list", &["pgbosun backup list --cluster main"]),
    ("backup show", &["pgbosun backup show 20261121"]),
    ("backup copy", &["pgbosun backup copy 20261121 --to offsite"]),
    ("backup expire", &["pgbosun backup expire --dry-run"]),
    ("backup keep", &["pgbosun backup keep 20261121 --reason \"before the upgrade\""]),
    ("backup unkeep", &["pgbosun backup unkeep 20261121"]),
    ("backup remove", &["pgbosun backup remove 20261121 --repository offsite"]),
    ("backup sign", &["pgbosun backup sign --all"]),
    ("backup verify", &["pgbosun backup verify", "pgbosun backup verify --all"]),
    (
        "restore physical",
        &[
            "pgbosun restore physical --to /srv/copy --target-time \"2026-11-21 08:30:00+01\"",
            "pgbosun restore physical --to /var/lib/postgresql/17/main --in-place --force",
            "sudo pgbosun restore physical --repository /mnt/backup --to /var/lib/postgresql/17/main --in-place",
        ],
    ),
    ("restore table", &["pgbosun restore table app.public.orders --latest --to orders.sql"]),
    ("restore schema", &["pgbosun restore schema app.sales --latest --to sales.sql"]),
    ("restore database", &["pgbosun restore database app --latest --to app.sql"]),
    ("restore-test", &["pgbosun restore-test", "pgbosun restore-test main"]),
    ("wal push", &["archive_command = 'pgbosun wal push \"%p\"'"]),
    ("wal fetch", &["restore_command = 'pgbosun wal fetch \"%f\" \"%p\"'"]),
    ("wal list", &["pgbosun wal list --repository offsite"]),
    ("wal receive", &["pgbosun wal receive --cluster main"]),
    ("cluster accept", &["pgbosun cluster accept main --reason \"pg_upgrade to 18\""]),
    ("alert list", &["pgbosun alert list", "pgbosun alert list --all"]),
    ("alert show", &["pgbosun alert show 1f3a9c20"]),
    ("alert ack", &["pgbosun alert ack 1f3a9c20 --reason \"disk is on order\""]),
    ("alert resolve", &["pgbosun alert resolve 1f3a9c20 --reason \"the host is gone\""]),
    (
        "alert silence",
        &[
            "pgbosun alert silence 1f3a9c20 --for 2h --reason maintenance",
            "pgbosun alert silence --cluster 'test*' --until \"2026-11-22 08:00\" --reason weekend",
        ],
    ),
    ("alert unsilence", &["pgbosun alert unsilence 7b10e4d2"]),
    ("alert silences", &["pgbosun alert silences"]),
    ("alert test", &["pgbosun alert test", "pgbosun alert test database"]),
    ("operator list", &["pgbosun operator list"]),
    ("operator add", &["pgbosun operator add database dba@example.com"]),
    ("operator remove", &["pgbosun operator remove database dba@example.com"]),
    ("operator group list", &["pgbosun operator group list"]),
    ("operator group add", &["pgbosun operator group add storage"]),
    ("report performance", &["pgbosun report performance --to report.html --from \"2026-11-21 06:00\""]),
    ("report health", &["pgbosun report health --backups --mail"]),
    ("report drill", &["pgbosun report drill --run --to drill.html"]),
    ("journal renew", &["systemctl stop pgbosun && pgbosun journal renew && systemctl start pgbosun"]),
    ("migrate", &["pgbosun migrate"]),
    ("demo", &["pgbosun demo --keep-running"]),
    ("completions", &["pgbosun completions bash > /usr/share/bash-completion/completions/pgbosun"]),
    ("man", &["pgbosun man /usr/local/share/man/man1"]),
];

/// What to type, of a command by its words without `pgbosun`.
pub fn of(command: &str) -> &'static [&'static str] {
    EXAMPLES.iter().find(|(name, _)| *name == command).map_or(&[], |(_, lines)| *lines)
}

/// The command line with examples at the end of each help.
pub fn with_examples(command: Command, words: &str) -> Command {
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| {
        let words = if words.is_empty() { name.clone() } else { format!("{words} {name}") };
        command.mut_subcommand(name, |sub| with_examples(sub, &words))
    });
    match of(words) {
        [] => command,
        lines => command.after_help(format!("Examples:\n  {}", lines.join("\n  "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    /// The words of all commands that do something, and are shown.
    fn leaves(command: &Command, words: &str) -> Vec<String> {
        let shown: Vec<_> = command.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
        if shown.is_empty() {
            return vec![words.to_owned()];
        }
        let deeper = |sub: &Command| leaves(sub, format!("{words} {}", sub.get_name()).trim());
        shown.into_iter().filter(|sub| sub.get_name() != "help").flat_map(deeper).collect()
    }

    #[test]
    fn every_command_has_an_example_that_can_be_typed() {
        let all = leaves(&Cli::command(), "");
        for words in &all {
            assert!(!of(words).is_empty(), "{words}");
        }
        for (name, lines) in EXAMPLES {
            assert!(name.is_empty() || all.contains(&(*name).to_owned()), "{name} is no command");
            for line in *lines {
                assert!(line.contains(&format!("pgbosun {name}")) || line.contains("pgbosun --"), "{line}");
            }
        }
    }
}
