//! A history database that takes nothing for long is an alert: away, read-only, newer, or without a table it should have.

use crate::{alerts, engine::Engine, error::chain};
use chrono::{DateTime, Utc};
use pgbosun_core::{
    alert::HISTORY,
    finding::{Finding, Severity},
    human,
};
use pgbosun_notify::Observation;

/// What was made of it so far.
#[derive(Default)]
pub(super) struct Watch {
    /// No alert is open, as far as this process knows.
    clear: bool,
}

impl Watch {
    /// Something was delivered, or nothing is to be.
    pub async fn over(&mut self, engine: &Engine) {
        if !self.clear {
            self.clear = tell(engine, Vec::new()).await;
        }
    }

    /// Nothing is, since then.
    pub async fn lasts(&mut self, engine: &Engine, since: DateTime<Utc>, reason: &str) {
        let lasted = (engine.now() - since).to_std().unwrap_or_default();
        // An alert of an earlier process stays open meanwhile.
        if lasted >= engine.config().daemon.fail_safe_after {
            self.clear = false;
            tell(engine, vec![finding(&human::duration(lasted), reason)]).await;
        }
    }
}

async fn tell(engine: &Engine, findings: Vec<Finding>) -> bool {
    let told = alerts::own(engine, HISTORY, Observation::Complete(findings)).await;
    if let Err(error) = &told {
        tracing::error!("the alert about the history database could not be written to the journal: {}", chain(error));
    }
    told.is_ok()
}

fn finding(lasted: &str, reason: &str) -> Finding {
    Finding::new(Severity::Warning, "delivery", format!("the history database has accepted nothing for {lasted}"))
        .meaning(
            "Runs, backups and alerts are not in dba_ops. They wait in the journal, and nothing is lost. Until then the operators \
             last read from it are notified.",
        )
        .advice("Fix the cause named below; \"pgbosun check\" shows whether it is gone. The rest is delivered automatically.")
        .detail(reason.to_owned())
}
