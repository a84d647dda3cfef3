//! Archives whose history files cannot be read everywhere.

use super::*;
use crate::{Catalogue, Progress, chain::tests::backup, verify_archive};
use async_trait::async_trait;
use pgbosun_repository::{
    EncodedWal, Encoding, ObjectWriter, Storage, local_repository,
    storage::{self, Stat},
};
use sha2::{Digest, Sha256};
use std::{path::Path, sync::Arc};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

const HISTORY: &str = "1\t0/2000100\tno recovery target specified\n";

/// A repository with a backup of timeline 1, and the history of timeline 2; sealed for everybody who is here, or not.
async fn promoted(place: &Path, sealed: bool) -> Repository {
    let mut options = local_repository(place).unwrap();
    if sealed {
        options.common.encrypt_to = vec!["age1eulgtycusfwurdy4j7w7auuuyfxjcey79lc228s23d5eesa2me6qkcffzm".into()];
    }
    let repository = Repository::on("r", &options.common, storage::open("r", &options, None).unwrap());
    let mut info = backup("a", 1, None);
    info.server_version = "15.1".into();
    repository.publish(&info.place(), &info).await.unwrap();
    let file = WalFile::History(2);
    let sha256 = hex::encode(Sha256::digest(HISTORY));
    let (encoding, frames) = (Encoding::of(&options.common), Arc::default());
    let encoded = EncodedWal::of(&encoding, &frames, &file, &sha256, HISTORY.as_bytes());
    WalArchive::new(&repository, "main", "1").put(&file, &encoded.await.unwrap()).await.unwrap();
    repository
}

async fn read(repositories: &[&Repository]) -> Archive {
    let repositories: Vec<_> = repositories.iter().map(|one| (*one).clone()).collect();
    Archive::read(&repositories, "main", "1", 16 << 20).await.unwrap()
}

async fn damage(repository: &Repository) {
    for (key, _) in repository.storage.list("main/1/wal").await.unwrap() {
        pgbosun_repository::write_object(repository.storage.as_ref(), &key, &b"nothing"[..]).await.unwrap();
    }
}

#[tokio::test]
async fn c41_a_history_that_one_repository_cannot_read_is_taken_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let plain = promoted(&directory.path().join("plain"), false).await;
    let broken = promoted(&directory.path().join("broken"), false).await;
    damage(&broken).await;
    let sealed = promoted(&directory.path().join("sealed"), true).await;
    for order in [[&plain, &sealed, &broken], [&broken, &sealed, &plain]] {
        let archive = read(&order).await;
        assert_eq!((archive.lineage.live(), archive.unread.len()), (2, 0));
        assert!(archive.unknown_line(1).is_none());
    }
    // Where none can read it the reason is told, for what was written before it.
    for (alone, word) in [(&sealed, "no identity is configured"), (&broken, "damaged")] {
        let archive = read(&[alone]).await;
        let reason = archive.unknown_line(1).expect("a later timeline");
        assert!(reason.contains(word) && archive.unknown_line(2).is_none(), "{reason}");
    }
}

#[tokio::test]
async fn c34_an_archive_is_verified_without_a_key_as_far_as_that_goes() {
    let directory = tempfile::tempdir().unwrap();
    let sealed = promoted(&directory.path().join("sealed"), true).await;
    let verified = verify_archive(&sealed, "main", &Progress::default(), &CancellationToken::new()).await.unwrap();
    let detail = |name: &str| verified.checks.iter().find(|check| check.name == name).unwrap().detail.clone();
    assert!(verified.passed(), "{verified:?}");
    assert!(detail("wal").starts_with("1 file, 1 not checked"), "{verified:?}");
    assert!(detail("continuity").starts_with("not checked"), "{verified:?}");
    // Without a key damage of what is sealed shows in other ways; here it is the only fault.
    let broken = promoted(&directory.path().join("broken"), false).await;
    damage(&broken).await;
    let verified = verify_archive(&broken, "main", &Progress::default(), &CancellationToken::new()).await.unwrap();
    let failed: Vec<_> = verified.checks.iter().filter(|check| !check.passed).map(|check| check.name).collect();
    assert_eq!(failed, ["wal"], "{verified:?}");
}

/// A store whose network is away whenever a file of WAL is read.
#[derive(Debug)]
struct Away(Arc<dyn Storage>);

#[async_trait]
impl Storage for Away {
    async fn create(&self, key: &str) -> Result<Box<dyn ObjectWriter>, RepositoryError> {
        self.0.create(key).await
    }
    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, RepositoryError> {
        match key.contains("/wal/") {
            true => Err(RepositoryError::Stalled { object: key.into(), limit: std::time::Duration::from_secs(1) }),
            false => self.0.open(key).await,
        }
    }
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RepositoryError> {
        self.0.stat(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, RepositoryError> {
        self.0.list(prefix).await
    }
    async fn names(&self, prefix: &str) -> Result<Vec<String>, RepositoryError> {
        self.0.names(prefix).await
    }
    async fn delete(&self, key: &str) -> Result<(), RepositoryError> {
        self.0.delete(key).await
    }
    async fn delete_unfinished(&self, prefix: &str) -> Result<u64, RepositoryError> {
        self.0.delete_unfinished(prefix).await
    }
    async fn free_bytes(&self) -> Result<Option<u64>, RepositoryError> {
        self.0.free_bytes().await
    }
}

#[tokio::test]
async fn c41_a_network_that_is_away_for_a_moment_makes_no_orphan_good() {
    let directory = tempfile::tempdir().unwrap();
    let here = promoted(directory.path(), false).await;
    // Behind the branch.
    let mut orphan = backup("b", 5, None);
    orphan.server_version = "15.1".into();
    here.publish(&orphan.place(), &orphan).await.unwrap();
    let good =
        |catalogue: &Catalogue| catalogue.entries().iter().map(|entry| entry.health().is_good()).collect::<Vec<_>>();
    let catalogue = Catalogue::read(&here, None).await.unwrap();
    assert_eq!((good(&catalogue), catalogue.unreadable.len()), (vec![true, false], 0));
    let away = Repository::on("r", &here.options, Arc::new(Away(Arc::clone(&here.storage))));
    let error = Catalogue::read(&away, None).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    // A history that is damaged speaks against nobody, and is told.
    damage(&here).await;
    let catalogue = Catalogue::read(&here, None).await.unwrap();
    assert_eq!((good(&catalogue), catalogue.unreadable.len()), (vec![true, true], 1));
}
