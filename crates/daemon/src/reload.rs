//! Reload: the new configuration is read and checked whole, then takes effect in one step, or not at all.

use crate::{
    accepted, alerts,
    engine::Engine,
    error::{Error, chain},
    events,
    scheduler::Request,
    systemd,
};
use pgbosun_core::{
    alert::DAEMON,
    config::{Config, Daemon, Effective, Loaded, OptionDoc, Section},
    detail::Detail,
    finding::{Finding, Severity},
    outcome::AuditRecord,
};
use pgbosun_history::Actor;
use pgbosun_jobs::paths;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{mpsc, oneshot};

/// What the unit keeps away, as an object of an alert.
const KEPT_AWAY: &str = "hidden files";

/// Reads and applies the configuration at `path`. Whatever happens, the daemon goes on.
pub(crate) async fn reload(
    engine: &Engine,
    path: &Path,
    requests: &mpsc::Sender<Request>,
    effective: &Mutex<Vec<Effective>>,
) {
    systemd::reloading();
    let loaded = {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || crate::load(&path)).await
    };
    let mut changed = Vec::new();
    let applied = match loaded {
        Ok(Ok(loaded)) => {
            let applied = apply(engine, loaded.config.clone(), requests).await;
            if applied.is_ok() {
                changed = replace(&loaded.effective, effective);
                tell_kept_away(engine, &loaded).await;
                let _ = tokio::task::spawn_blocking(move || accepted::keep(&loaded)).await;
            }
            applied
        }
        Ok(Err(problems)) => Err(Error::Configuration(problems)),
        Err(error) => Err(Error::BrokeOff("reading the configuration", error)),
    };
    let detail = if changed.is_empty() { String::new() } else { format!("changed: {}", changed.join(", ")) };
    let record = AuditRecord::new("reload", path.display().to_string(), detail);
    let who = Actor { name: "SIGHUP".into(), origin: "signal".into() };
    let finding = match engine.audited(&who, record, applied).await {
        Ok(()) => {
            tracing::info!(message_id = events::RELOADED, "configuration reloaded");
            None
        }
        Err(error) => {
            for line in chain(&error).lines() {
                tracing::error!(message_id = events::RELOAD_REFUSED, "reload refused: {line}");
            }
            Some(refused(path, &error))
        }
    };
    if let Err(error) = alerts::own_object(engine, DAEMON, "configuration", finding).await {
        tracing::error!("the alert about the reload could not be written to the journal: {}", chain(&error));
    }
    systemd::ready(&systemd::status_line(engine));
}

async fn apply(engine: &Engine, config: Config, requests: &mpsc::Sender<Request>) -> Result<(), Error> {
    let old = engine.config.send_replace(Arc::new(config));
    let (reply, done) = oneshot::channel();
    let asked = requests.send(Request::Reload { reply }).await.is_ok();
    let taken = if asked { done.await.ok() } else { None };
    match taken {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            engine.config.send_replace(old);
            Err(error)
        }
        None => Err(Error::Refused("the scheduler is gone".into())),
    }
}

/// Replaces the configuration that is known by the new one; the keys that have another value now. Warns of those that a reload does not
/// apply.
fn replace(new: &[Effective], old: &Mutex<Vec<Effective>>) -> Vec<String> {
    let mut old = old.lock().unwrap_or_else(PoisonError::into_inner);
    let values = |of: &[Effective]| -> BTreeMap<(String, String), String> {
        of.iter().map(|entry| ((entry.section.clone(), entry.key.clone()), entry.value.clone())).collect()
    };
    let (before, after) = (values(&old), values(new));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = keys.into_iter().filter(|key| before.get(key) != after.get(key)).collect();
    for key in Daemon::OPTIONS.iter().filter(|option| option.restart).map(OptionDoc::key) {
        if changed.iter().any(|(section, changed)| section == "daemon" && *changed == key) {
            tracing::warn!("daemon.{key} changed: it takes effect at the next restart");
        }
    }
    *old = new.to_vec();
    changed.iter().map(|(section, key)| format!("{section}.{key}")).collect()
}

/// Tells of what the configuration names and the unit keeps from the daemon, as soon as the configuration is taken.
pub(crate) async fn tell_kept_away(engine: &Engine, loaded: &Loaded) {
    let lines = paths::kept_away(&loaded.config, &loaded.effective);
    for line in &lines {
        tracing::warn!("{line}");
    }
    let summary = "the unit denies the daemon access to paths in its configuration";
    let finding = (!lines.is_empty()).then(|| {
        Finding::new(Severity::Warning, KEPT_AWAY, summary)
            .meaning("Whatever needs these paths fails in the daemon, but works on the command line.")
            .advice("Change the configuration or the unit as described below.")
            .detail(lines.join("\n"))
    });
    if let Err(error) = alerts::own_object(engine, DAEMON, KEPT_AWAY, finding).await {
        tracing::error!(
            "the alert about paths that the unit denies could not be written to the journal: {}",
            chain(&error)
        );
    }
}

fn refused(path: &Path, error: &Error) -> Finding {
    Finding::new(Severity::Warning, "configuration", "a reload was refused: the configuration is wrong")
        .meaning("The daemon continues with the configuration it had.")
        .advice("Fix what is named below, see \"pgbosun config check\", then reload again.")
        .detail(Detail::new().fact("file", path.display()).text(chain(error)))
}
