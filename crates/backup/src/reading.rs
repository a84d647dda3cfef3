//! C32: everything that reads a backup or WAL holds a lease on it, so that an expiry leaves it, its chain and its WAL.

use crate::{Error, restore::Plan};
use pgbosun_repository::{BackupInfo, Error as RepositoryError, Reading, Repository};
use std::future::Future;

/// Does something that reads a backup in one repository.
pub(crate) async fn reading<T>(
    repository: &Repository,
    info: &BackupInfo,
    name: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    during(Reading::begin(std::slice::from_ref(repository), info, name).await, work).await
}

/// Does something that reads all WAL of a system.
pub(crate) async fn reading_wal<T>(
    repository: &Repository,
    (cluster, system_id): (&str, &str),
    name: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    during(Reading::begin_wal(repository, cluster, system_id, name).await, work).await
}

async fn during<T>(lease: Reading, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let done = lease.during(work).await;
    lease.end().await;
    done
}

impl Plan {
    /// Does something that reads what this plan needs.
    ///
    /// # Errors
    /// Where the backup was removed since the plan was made; those of the work.
    pub(crate) async fn reading<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        during(self.hold(name).await?, work).await
    }

    /// Holds what this plan reads, in all repositories that its WAL may come from.
    ///
    /// # Errors
    /// Where the backup was removed since the plan was made.
    pub async fn hold(&self, name: &str) -> Result<Reading, Error> {
        let lease = Reading::begin(&self.repositories, &self.info, name).await;
        if !self.repository.is_published(&self.info.place()).await? {
            lease.end().await;
            return Err(RepositoryError::NoBackup(self.info.label.clone()).into());
        }
        Ok(lease)
    }
}
