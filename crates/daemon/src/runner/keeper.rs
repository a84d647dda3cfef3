//! What a run has done is in the journal a second later, so that a process that is killed leaves it.
//!
//! Invariant: what was taken from the ledger is in the journal, or back in the ledger, when [`keep`] returns.

use crate::{engine::Engine, error::chain};
use pgbosun_core::run::Run;
use pgbosun_jobs::Ledger;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long facts are gathered for one transaction.
const GATHER: Duration = Duration::from_secs(1);

/// Keeps what a run writes down until it is done.
pub(super) async fn keep(engine: Arc<Engine>, run: Run, ledger: Ledger, done: CancellationToken) {
    while done.run_until_cancelled(tokio::time::sleep(GATHER)).await.is_some() {
        let records = ledger.take();
        if records.is_empty() {
            continue;
        }
        if let Err(error) = engine.journal.note(run.clone(), records.clone(), engine.now()).await {
            tracing::warn!(
                "what the run has done could not be written to the journal yet, trying again: {}",
                chain(&error)
            );
            ledger.put_back(records);
        }
    }
}
