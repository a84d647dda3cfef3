//! `pgbosun restore table|schema|database`: the cluster is recovered in a scratch server, and what is wanted is dumped
//! from there. The live cluster is only ever added to.

use super::{choose, recovery, request};
use crate::{cli::RestorePart, commands::backup::watch, exit::Exit, local::Context, output};
use pgbosun_backup::{Dump, DumpWhat, Progress, ScratchCopy, find_programs};
use pgbosun_postgres::Server;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One table.
    Table,
    /// One schema.
    Schema,
    /// One database.
    Database,
}

/// How long the scratch server may take to recover.
const RECOVERY: Duration = Duration::from_secs(24 * 3600);

/// Restores a part.
///
/// # Errors
/// Whatever keeps it from being done; then nothing was changed.
pub async fn run(context: &Context, kind: Kind, arguments: RestorePart) -> anyhow::Result<u8> {
    let what = parse(kind, &arguments.name)?;
    let target = match (&arguments.to, &arguments.into) {
        (Some(file), _) => {
            // Recovery may take hours: what is in the way is told before.
            let directory = std::path::absolute(file)?.parent().map(std::path::Path::to_owned).unwrap_or_default();
            if !directory.is_dir() {
                return Err(Exit::usage(format!(
                    "--to {}: there is no directory {}",
                    file.display(),
                    directory.display()
                )));
            }
            if file.is_file() {
                output::confirm(&format!("{} is replaced", file.display()), arguments.force)?;
            }
            Target::File(file.clone())
        }
        (None, Some(database)) => Target::Database(database.clone()),
        (None, None) => {
            return Err(Exit::usage("say where it goes: --to FILE, or --into DATABASE of the live cluster"));
        }
    };
    let request = request(context, &arguments.target)?;
    let plan = choose(context, &request).await?;
    let cluster = Server::of(&context.config.clusters[&request.cluster])?;
    let programs = find_programs(&plan.info.server_version, arguments.program_directory.as_deref())?;
    let recovery = recovery(context, &request, &plan, "promote", false, false)?;
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    eprintln!("recovering {} of {} to {} in a scratch server", plan.info.label, plan.info.cluster, plan.target);
    let label = plan.info.label.clone();
    let scratch = ScratchCopy {
        plan,
        recovery,
        directory: context.config.daemon.state_directory.join("restore-test"),
        programs,
        recovery_timeout: RECOVERY,
        progress: Arc::clone(&progress),
        cancel: cancel.clone(),
    };
    let dump = Dump {
        what,
        to: match &target {
            Target::File(path) => Ok(path.clone()),
            Target::Database(database) => Err((cluster, database.clone())),
        },
    };
    let done = watch(context, &label, progress, cancel, async move { scratch.dump(&dump).await }).await?;
    let place = match &target {
        Target::File(path) => path.display().to_string(),
        Target::Database(database) => format!("database {database}"),
    };
    eprintln!(
        "{} {} as of {} into {place}",
        output::green("restored"),
        arguments.name,
        done.format("%Y-%m-%d %H:%M:%S%.fZ")
    );
    Ok(0)
}

enum Target {
    File(PathBuf),
    Database(String),
}

fn parse(kind: Kind, name: &str) -> anyhow::Result<DumpWhat> {
    let parts: Vec<&str> = name.split('.').collect();
    let whole = parts.iter().all(|part| !part.is_empty());
    let (database, pattern) = match (kind, parts.as_slice()) {
        (Kind::Table, [database, schema, table]) if whole => {
            (database, Some(("--table", format!("\"{schema}\".\"{table}\""))))
        }
        (Kind::Schema, [database, schema]) if whole => (database, Some(("--schema", format!("\"{schema}\"")))),
        (Kind::Database, [database]) if whole => (database, None),
        _ => {
            let form = match kind {
                Kind::Table => "database.schema.table",
                Kind::Schema => "database.schema",
                Kind::Database => "database",
            };
            return Err(Exit::usage(format!("{name}: write it as {form}")));
        }
    };
    Ok(DumpWhat { database: (*database).to_owned(), only: pattern.map(|(flag, value)| (flag.to_owned(), value)) })
}
