//! `pgbosun alert test`: by the daemon, where there is one, as a real message goes.

use crate::{
    audit,
    exit::{Exit, FAILURE},
    local::Context,
    output::{green, json, red, yellow},
};
use pgbosun_core::outcome::AuditRecord;
use pgbosun_daemon::{
    alert_test,
    api::{GroupTest, GroupTestRequest, Tried},
};
use pgbosun_notify::MAIL;
use std::time::Duration;

/// Sends a test message through each channel of a group.
///
/// # Errors
/// Where there is no such group, or nothing to send with.
pub async fn run(context: &Context, name: &str) -> anyhow::Result<u8> {
    let groups = &context.config.groups;
    // The daemon knows its own.
    if !context.is_guest && !groups.contains_key(name) {
        let names: Vec<_> = groups.keys().map(String::as_str).collect();
        return Err(Exit::usage(format!("no group {name}; configured: {}", names.join(", "))));
    }
    let GroupTest { note, channels } = match context.daemon().await? {
        Some(daemon) => {
            let limit = alert_test::LONGEST + Duration::from_secs(30);
            let request = GroupTestRequest { group: name.to_owned() };
            daemon.ask(limit, "/groups/test", &request).await?
        }
        None => {
            let tested = alert_test::send(&context.config, name).await?;
            audit::write(context, AuditRecord::new("alert test", name, "").came(tested.outcome())).await;
            tested
        }
    };
    if let Some(note) = note {
        tell!("{} {note}", yellow("note:"));
    }
    if context.json {
        json(&channels)?;
    } else {
        for Tried { channel, to, accepted, answer } in &channels {
            let to = if *channel == MAIL { format!(" to {}", to.join(", ")) } else { String::new() };
            let word = if *accepted { green("accepted") } else { red("not accepted") };
            say!("{channel:<12} {word}{to}: {answer}");
        }
    }
    Ok(if channels.iter().all(|tried| tried.accepted) { 0 } else { FAILURE })
}
