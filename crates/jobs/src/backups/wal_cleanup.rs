//! The clean-up of WAL (reference: Sundays 04:30, local and remote, with statistics and a record for audit).

use super::expiry;
use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{config::RepositoryName, options, outcome::Outcome};

options! {
    /// Removes WAL that neither a retained backup nor the window of point-in-time recovery needs, and backups that no
    /// retention keeps, in each repository separately. The repository's own catalogue decides what is needed, never age
    /// alone. Every backup job does the same after its backup; this job covers the rest.
    pub struct WalCleanup {
        /// The repositories; all of them by default.
        repositories: Vec<RepositoryName> = "[]";
        /// Remove expired backups too, not only WAL.
        backups: bool = "true";
    }
}

#[async_trait]
impl Job for WalCleanup {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let mut outcome = Outcome::default();
        for repository in context.repositories(&self.repositories)? {
            expiry::expire(context, &repository, self.backups, &[], &mut outcome).await;
        }
        let said = outcome.summary.trim_start_matches("; ");
        outcome.summary = match (said, context.dry_run) {
            ("", _) => "nothing has expired".into(),
            (said, true) => format!("would have {said}"),
            (said, false) => said.to_owned(),
        };
        Ok(outcome)
    }
}
