//! `pgbosun restore table|schema|database`: the cluster is recovered in a scratch server, and what is wanted is dumped
//! from there. The live cluster is only ever added to.

use super::{accept_gap, choose, recovery, request};
use crate::{cli::RestorePart, commands::backup::watch, exit::Exit, local::Context, output};
use pgbosun_backup::{Destination, Dump, DumpWhat, Load, LoadedAs, Part, Progress, ScratchCopy, find_programs};
use pgbosun_core::human;
use pgbosun_postgres::Server;
use std::{sync::Arc, time::Duration};
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
    let request = request(context, &arguments.target).await?;
    let to = destination(context, &request.cluster, &arguments)?;
    if let Destination::Database(load) = &to {
        load.rehearse(&what).await?;
    }
    let plan = choose(context, &request).await?;
    accept_gap(&plan, &arguments.target)?;
    let programs = find_programs(&plan.info.server_version, arguments.program_directory.as_deref())?;
    let recovery = recovery(context, &request, &plan, ("promote", false, false), &plan.confinement())?;
    let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
    tell!("recovering {} of {} to {} in a scratch server", plan.info.label, plan.info.cluster, plan.target);
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
    let place = match &to {
        Destination::File(path) => path.display().to_string(),
        Destination::Database(load) => format!("database {}", load.database),
    };
    let dump = Dump { what, to };
    let done = Box::pin(watch(context, &label, progress, cancel, async move { scratch.dump(&dump).await })).await?;
    // Standard output is the dump's where that goes there.
    if context.json && arguments.to.as_deref() != Some(std::path::Path::new("-")) {
        output::json(&serde_json::json!({
            "name": arguments.name, "label": label, "cluster": request.cluster, "recovered_to": done.recovered_to, "to": place,
            "rows_recovered": done.rows.map(|(held, _)| held), "rows_written": done.rows.and_then(|(_, written)| written),
            "loaded_as": done.loaded.as_ref().map(|loaded| &loaded.role),
            "by_superuser": done.loaded.as_ref().map(|loaded| loaded.superuser),
        }))?;
        return Ok(0);
    }
    let rows = match done.rows {
        Some((held, Some(written))) => {
            format!(": {} in the recovered state, {written} written", human::count(held as usize, "row"))
        }
        Some((held, None)) => format!(": {} in the recovered state", human::count(held as usize, "row")),
        None => String::new(),
    };
    tell!(
        "{} {} as of {} into {place}{rows}",
        output::green("restored"),
        arguments.name,
        done.recovered_to.format("%Y-%m-%d %H:%M:%S%.fZ")
    );
    if done.unguarded {
        tell!(
            "this pg_dump does not keep psql commands out of the file (CVE-2025-8714): review it before you run it with psql, or \
             use --into"
        );
    }
    // C36: whose rights the code had that came with it.
    match done.loaded {
        Some(LoadedAs { role, superuser: false }) => {
            tell!("it was loaded as {role}, which owns it: its checks, defaults and triggers had no other rights");
        }
        Some(LoadedAs { role, superuser: true }) => {
            tell!(
                "it was loaded as the superuser {role}: its checks, defaults and triggers ran with full rights; use \
                 --role NAME to load as another role"
            );
        }
        None => {}
    }
    Ok(0)
}

fn destination(context: &Context, cluster: &str, arguments: &RestorePart) -> anyhow::Result<Destination> {
    match (&arguments.to, &arguments.into) {
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
                output::confirm(&format!("{} will be replaced", file.display()), arguments.force, "--force")?;
            }
            Ok(Destination::File(file.clone()))
        }
        (None, Some(database)) => Ok(Destination::Database(Box::new(Load {
            server: Server::of(&context.config.clusters[cluster])?,
            database: database.clone(),
            role: arguments.role.clone(),
        }))),
        (None, None) => Err(Exit::usage("say where to put it: --to FILE, or --into DATABASE of the live cluster")),
    }
}

fn parse(kind: Kind, name: &str) -> anyhow::Result<DumpWhat> {
    let (form, wanted) = match kind {
        Kind::Table => ("database.schema.table", 3),
        Kind::Schema => ("database.schema", 2),
        Kind::Database => ("database", 1),
    };
    let parts = identifiers(name).filter(|parts| parts.len() == wanted).ok_or_else(|| {
        Exit::usage(format!(
            "{name}: write it as {form}, with names quoted as in SQL: those with capitals, dots or special characters in double \
             quotes, such as app.public.\"Orders\""
        ))
    })?;
    let mut names = parts.into_iter();
    let database = names.next().unwrap_or_default();
    let only = match (kind, names.next(), names.next()) {
        (Kind::Table, Some(schema), Some(table)) => Some(Part::Table { schema, table }),
        (Kind::Schema, Some(schema), _) => Some(Part::Schema(schema)),
        _ => None,
    };
    Ok(DumpWhat { database, only })
}

/// The parts of a qualified name as SQL reads them: quoted ones as they are, the others in lower case.
fn identifiers(name: &str) -> Option<Vec<String>> {
    let (mut parts, mut letters) = (Vec::new(), name.chars().peekable());
    loop {
        let mut part = String::new();
        if letters.next_if_eq(&'"').is_some() {
            loop {
                match letters.next()? {
                    '"' if letters.next_if_eq(&'"').is_some() => part.push('"'),
                    '"' => break,
                    letter => part.push(letter),
                }
            }
        } else {
            while let Some(letter) = letters.next_if(|letter| *letter != '.' && *letter != '"') {
                part.extend(letter.to_lowercase());
            }
        }
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match letters.next() {
            None => return Some(parts),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sql_reads_them() {
        let read = |name: &str| identifiers(name).map(|parts| parts.join("|"));
        for (name, expected) in [
            ("app.public.Orders", "app|public|orders"),
            ("app.public.\"Orders\"", "app|public|Orders"),
            ("app.\"my schema\".\"we.ird\"", "app|my schema|we.ird"),
            ("app.public.\"q\"\"uote\"", "app|public|q\"uote"),
        ] {
            assert_eq!(read(name).as_deref(), Some(expected), "{name}");
        }
        for wrong in ["", "a..b", "a.", "\"a", "a\"b\"", "\"\".b", "app.public.q\"uote"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let table = parse(Kind::Table, "app.public.t").unwrap();
        assert_eq!(table.database, "app");
        assert_eq!(table.only, Some(Part::Table { schema: "public".into(), table: "t".into() }));
        assert_eq!(parse(Kind::Schema, "app.\"S\"").unwrap().only, Some(Part::Schema("S".into())));
        assert_eq!(parse(Kind::Database, "app").unwrap().only, None);
        assert!(parse(Kind::Table, "app.public.we.ird").is_err());
    }
}
