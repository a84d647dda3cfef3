//! Room that is held back where there is an end to it (C26): without any, not even an expiry could begin, which makes room.

use super::{LEASES, Repository};
use crate::Error;
use serde::Serialize;
use uuid::Uuid;

/// No lease: its name has no suffix.
fn reserve(cluster: &str, system_id: &str) -> String {
    format!("{cluster}/{system_id}/{LEASES}/reserve")
}

#[derive(Serialize)]
struct Padding {
    padding: String,
}

impl Padding {
    /// 64 KiB, a block of most file systems or several; nothing that one of them could compress.
    fn new() -> Self {
        Self { padding: (0..2048).map(|_| Uuid::new_v4().simple().to_string()).collect() }
    }
}

impl Repository {
    /// Holds room back where that is not done yet. Where there is none already, nothing is lost.
    pub(super) async fn hold_reserve(&self, cluster: &str, system_id: &str) {
        let key = reserve(cluster, system_id);
        let held = async {
            if self.storage.free_bytes().await?.is_some() && self.storage.stat(&key).await?.is_none() {
                self.write_json(&key, &Padding::new()).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = held.await {
            tracing::debug!(repository = self.name, "no room held back: {error}");
        }
    }

    /// Gives it up.
    pub(super) async fn give_reserve(&self, cluster: &str, system_id: &str) -> Result<(), Error> {
        self.storage.delete(&reserve(cluster, system_id)).await
    }
}
