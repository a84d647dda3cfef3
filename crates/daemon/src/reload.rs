//! Reload: the new configuration is read and checked whole, then takes effect in one step, or not at all.

use crate::{
    engine::Engine,
    error::{Error, chain},
    events, runner,
    scheduler::Request,
    systemd,
};
use chrono::Duration;
use pgbosun_core::{
    config::{Config, Effective},
    finding::{Finding, Severity},
};
use pgbosun_notify::{Subject, Verdict, judge};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{mpsc, oneshot};

/// The pseudo job under which the daemon's own alerts go.
pub(crate) const DAEMON: &str = "daemon";

/// Options that a reload does not apply.
const RESTART: [(&str, &str); 4] =
    [("daemon", "state-directory"), ("daemon", "control-socket"), ("daemon", "instance"), ("daemon", "heartbeat")];

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
        tokio::task::spawn_blocking(move || pgbosun_jobs::load(&path)).await
    };
    let applied = match loaded {
        Ok(Ok(loaded)) => {
            warn_of_restarts(&loaded.effective, effective);
            apply(engine, loaded.config, requests).await
        }
        Ok(Err(problems)) => Err(Error::Configuration(problems)),
        Err(error) => Err(Error::Refused(format!("reading the configuration broke off: {error}"))),
    };
    let verdict = match applied {
        Ok(()) => {
            tracing::info!(message_id = events::RELOADED, "configuration reloaded");
            Verdict::Complete(Vec::new())
        }
        Err(error) => {
            for line in chain(&error).lines() {
                tracing::error!(message_id = events::RELOAD_REFUSED, "reload refused: {line}");
            }
            Verdict::Complete(vec![refused(path, &error)])
        }
    };
    if let Err(error) = own_alert(engine, verdict).await {
        tracing::error!("the alert about the reload is not in the journal: {}", chain(&error));
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

fn warn_of_restarts(new: &[Effective], old: &Mutex<Vec<Effective>>) {
    let mut old = old.lock().unwrap_or_else(PoisonError::into_inner);
    let value = |of: &[Effective], section: &str, key: &str| {
        of.iter().find(|entry| entry.section == section && entry.key == key).map(|entry| entry.value.clone())
    };
    for (section, key) in RESTART {
        if value(new, section, key) != value(&old, section, key) {
            tracing::warn!("{section}.{key} changed: it takes effect at the next restart");
        }
    }
    *old = new.to_vec();
}

fn refused(path: &Path, error: &Error) -> Finding {
    Finding {
        object: "configuration".into(),
        severity: Severity::Warning,
        summary: "a reload was refused: the configuration is wrong".into(),
        meaning: "The daemon goes on with the configuration it had.".into(),
        advice: "Mend what is named below, see \"pgbosun config check\", then reload again.".into(),
        detail: format!("file: {}\n{}", path.display(), chain(error)),
    }
}

/// Opens or resolves the daemon's own alerts.
pub(crate) async fn own_alert(engine: &Engine, verdict: Verdict) -> Result<(), pgbosun_history::Error> {
    let config = engine.config();
    let group = config.daemon.alert_group.0.clone();
    let repeat = config.groups.get(&group).map_or(std::time::Duration::ZERO, |group| group.repeat);
    let subject = Subject {
        job: DAEMON.into(),
        cluster: None,
        group,
        repeat: Duration::from_std(repeat).unwrap_or(Duration::zero()),
        run_id: None,
    };
    let open = engine.journal.open_alerts(Some(DAEMON)).await?;
    let (alerts, notifications) = runner::tell(engine, judge(&subject, &open, verdict, engine.now()));
    engine.journal.write_alerts(alerts, notifications).await?;
    engine.outbox.notify_one();
    Ok(())
}
