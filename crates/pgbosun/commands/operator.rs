//! `pgbosun operator`: the people who are told, in `dba_ops`.

use crate::{
    cli::{GroupCommand, OperatorCommand},
    exit::Exit,
    local::Context,
    output::{dim, done, green, json, table, text, whole, yellow},
};
use pgbosun_core::config::MailAddress;
use pgbosun_daemon::{Hearing, open_history};
use pgbosun_history::{Actor, Delivery, Operators};
use uuid::Uuid;

/// Runs one of them.
///
/// # Errors
/// Where there is no history database, or it refuses.
pub async fn run(context: &Context, command: OperatorCommand) -> anyhow::Result<u8> {
    match command {
        OperatorCommand::List => list(context).await,
        OperatorCommand::Add { group, email, name } => {
            if let Err(reason) = email.parse::<MailAddress>() {
                return Err(Exit::usage(format!("\"{email}\" is not a mail address: {reason}")));
            }
            let mut delivery = history(context, &group).await?;
            if !delivery.add_operator(&Actor::own(), &group, &email, name.as_deref()).await? {
                return Err(Exit::refused(format!(
                    "no group {group}: \"pgbosun operator group add {group}\" creates it"
                )));
            }
            let words = format!("{} {email} to {group}", green("added"));
            done(context.json, &serde_json::json!({"group": group, "email": email, "name": name}), &words)?;
            Ok(0)
        }
        OperatorCommand::Remove { group, email } => {
            let mut delivery = history(context, &group).await?;
            if !delivery.remove_operator(&Actor::own(), &group, &email).await? {
                return Err(Exit::refused(format!("{email} is not in group {group}")));
            }
            let operators = Operators::new(&delivery.operators().await?, &delivery.operator_groups().await?);
            let left =
                context.config.groups.contains_key(&group).then(|| Hearing::of(&operators, &context.config, &group));
            let instead = left.and_then(|hearing| hearing.instead());
            let note = instead.map(|instead| format!("group {group} has no active operator left: {instead}"));
            let mut words = format!("{} {email} from {group}", green("removed"));
            if let Some(note) = &note {
                words += &format!("\n{} {note}", yellow("note:"));
            }
            done(context.json, &serde_json::json!({"group": group, "email": email, "note": note}), &words)?;
            Ok(0)
        }
        OperatorCommand::Group { command: GroupCommand::List } => groups(context).await,
        OperatorCommand::Group { command: GroupCommand::Add { name, description } } => {
            let mut delivery = history(context, &name).await?;
            if !delivery.add_operator_group(&Actor::own(), &name, description.as_deref()).await? {
                return Err(Exit::refused(format!("group {name} already exists")));
            }
            let words = format!("{} group {name}", green("added"));
            done(context.json, &serde_json::json!({"group": name, "description": description}), &words)?;
            Ok(0)
        }
    }
}

/// The history database, or the refusal that names the key to use instead.
async fn history(context: &Context, group: &str) -> anyhow::Result<Delivery> {
    match open_history(&context.config, Uuid::nil())? {
        Some(delivery) => Ok(delivery),
        None => Err(Exit::refused(format!(
            "operators are stored in the history database, and none is configured: set history.connection, or put the \
             addresses in groups.{group}.recipients"
        ))),
    }
}

async fn list(context: &Context) -> anyhow::Result<u8> {
    let mut delivery = history(context, "database").await?;
    let operators = delivery.operators().await?;
    if context.json {
        json(&operators)?;
        return Ok(0);
    }
    let rows = operators.iter().map(|operator| {
        let state = if operator.active { String::new() } else { dim("inactive: not notified") };
        vec![operator.group_name.clone(), operator.email.clone(), operator.name.clone().unwrap_or_default(), state]
    });
    say!("{}", table(&[whole("GROUP"), whole("EMAIL"), text("NAME"), text("")], rows));
    if operators.is_empty() {
        say!("no operators yet; until there are, the recipients in the configuration are notified");
    }
    Ok(0)
}

async fn groups(context: &Context) -> anyhow::Result<u8> {
    let mut delivery = history(context, "database").await?;
    let groups = delivery.operator_groups().await?;
    if context.json {
        json(&groups)?;
        return Ok(0);
    }
    let rows = groups.iter().map(|group| {
        let state = if group.active { String::new() } else { dim("inactive: nobody is notified") };
        vec![group.group_name.clone(), group.description.clone().unwrap_or_default(), state]
    });
    say!("{}", table(&[whole("GROUP"), text("DESCRIPTION"), text("")], rows));
    Ok(0)
}
