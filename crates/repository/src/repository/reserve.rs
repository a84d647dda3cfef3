//! Room that is held back where there is an end to it (C26): without any, not even an expiry could begin, which makes room.

use super::{Repository, write_object};
use crate::Error;
use uuid::Uuid;

/// Bytes: a block of most file systems, or several.
const SIZE: usize = 64 << 10;

fn reserve(cluster: &str, system_id: &str) -> String {
    format!("{cluster}/{system_id}/reserve")
}

impl Repository {
    /// Holds room back where that is not done yet. Where there is none already, nothing is lost.
    pub(super) async fn hold_reserve(&self, cluster: &str, system_id: &str) {
        let key = reserve(cluster, system_id);
        let held = async {
            if self.storage.free_bytes().await?.is_some() && self.storage.stat(&key).await?.is_none() {
                // Nothing that a file system could compress.
                let noise = std::iter::repeat_with(|| *Uuid::new_v4().as_bytes()).flatten();
                write_object(self.storage.as_ref(), &key, noise.take(SIZE).collect::<Vec<_>>()).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = held.await {
            tracing::debug!(repository = self.name, "no space reserved: {error}");
        }
    }

    /// Gives it up.
    pub(super) async fn give_reserve(&self, cluster: &str, system_id: &str) -> Result<(), Error> {
        self.storage.delete(&reserve(cluster, system_id)).await
    }
}
