//! Logs: to journald with structured fields where the daemon runs under systemd, to standard error otherwise.

mod plain;

use crate::cli::{Cli, Command};
use plain::Plain;
use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{EnvFilter, Layer, fmt::format::debug_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging. `PGBOSUN_LOG` takes filters as tracing has them.
pub fn start(cli: &Cli) {
    let daemon = matches!(cli.command, Command::Daemon);
    let level = match (cli.verbose, cli.quiet) {
        (0, true) => Level::ERROR,
        (0, false) if daemon => Level::INFO,
        (0, false) => Level::WARN,
        (1, _) => Level::INFO,
        _ => Level::DEBUG,
    };
    let default = if level <= Level::INFO {
        // What libraries say at this level is of no use to an administrator.
        format!(
            "warn,pgbosun={0},pgbosun_core={0},pgbosun_postgres={0},pgbosun_repository={0},pgbosun_backup={0},pgbosun_history={0},pgbosun_notify={0},pgbosun_jobs={0},pgbosun_daemon={0}",
            level
        )
    } else {
        level.to_string()
    };
    let filter = EnvFilter::try_from_env("PGBOSUN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // JOURNAL_STREAM is set where standard error goes to journald (systemd.exec(5)).
    let journald = std::env::var_os("JOURNAL_STREAM").filter(|_| daemon).and_then(|_| tracing_journald::layer().ok());
    let layer = match journald {
        Some(journald) => Plain {
            names_jobs: true,
            layer: journald
                .with_field_prefix(None)
                .with_priority_mappings(PriorityMappings {
                    error: Priority::Error,
                    warn: Priority::Warning,
                    info: Priority::Informational,
                    debug: Priority::Debug,
                    trace: Priority::Debug,
                })
                .with_syslog_identifier("pgbosun".into()),
        }
        .boxed(),
        None => stderr(),
    };
    tracing_subscriber::registry().with(filter).with(layer).init();
}

fn stderr<S>() -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    // MESSAGE_ID is for the journal; on a terminal it is noise.
    let events = debug_fn(|writer, field, value| match field.name() {
        "message_id" => Ok(()),
        "message" => write!(writer, "{value:?}"),
        name => write!(writer, " {name}={value:?}"),
    });
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(crate::output::colours_on_stderr())
        .fmt_fields(events);
    Plain { layer, names_jobs: false }.boxed()
}
