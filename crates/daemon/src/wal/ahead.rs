//! Archiving ahead: while PostgreSQL asks for one segment after the other, those that are ready behind it are already on
//! their way. The answer for a file is given only when that file is durable everywhere it must be (C1).

use super::pusher;
use crate::{api::PushRequest, engine::Engine, error::Error};
use futures::future::{BoxFuture, FutureExt, Shared};
use pgbosun_backup::wal::{Pushed, Pusher, system_identifier};
use pgbosun_core::{config::Config, wal::WalFile};
use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Semaphore;

/// Segments that may be under way or done ahead of PostgreSQL.
const AHEAD: usize = 64;

type Push = Shared<BoxFuture<'static, Result<Pushed, String>>>;

/// What a file was when it was read: another file under its name is another push.
type Identity = Option<(u64, u64, i64, i64)>;

fn identity(path: &Path) -> Identity {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// What is under way or done and not yet asked for.
#[derive(Default)]
struct State {
    pushes: HashMap<PathBuf, (Identity, Push)>,
    pushers: HashMap<PathBuf, (Arc<Config>, Pusher)>,
}

/// Archives for every cluster on this machine.
pub(crate) struct Archiver {
    engine: Arc<Engine>,
    state: Mutex<State>,
    workers: Arc<Semaphore>,
}

impl Archiver {
    pub fn new(engine: Arc<Engine>) -> Arc<Self> {
        let workers = engine.config().wal.push_workers;
        let workers = Arc::new(Semaphore::new(workers.into()));
        Arc::new(Self { engine, state: Mutex::default(), workers })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Archives one file, and those that are ready behind it.
    pub async fn push(&self, request: PushRequest) -> Result<Pushed, Error> {
        let pusher = self.pusher(&request).await?;
        let push = self.begin(&request.path, &pusher);
        self.look_ahead(&request.path, &pusher);
        let done = push.await;
        // Asked for again, it is checked again: PostgreSQL has recycled it by then, or tries a failed one anew.
        self.state().pushes.remove(&request.path);
        done.map_err(Error::Refused)
    }

    /// What archives this cluster, made once for a configuration.
    async fn pusher(&self, request: &PushRequest) -> Result<Pusher, Error> {
        let config = self.engine.config();
        let system_id = system_identifier(&request.data_directory)?;
        let known = self.state().pushers.get(&request.data_directory).cloned();
        let same = |pusher: &Pusher| pusher.cluster == request.cluster && pusher.system_id == system_id;
        if let Some((made_with, pusher)) = known.filter(|(_, pusher)| same(pusher))
            && Arc::ptr_eq(&made_with, &config)
        {
            return Ok(pusher);
        }
        let made = pusher(&config, &request.cluster, &request.data_directory)?;
        let checked = made.clone();
        let checked = self.engine.bulk.spawn(async move { checked.check_identity().await }).await;
        checked.map_err(|error| Error::BrokeOff("checking the repositories", error))??;
        self.state().pushers.insert(request.data_directory.clone(), (config, made.clone()));
        Ok(made)
    }

    fn begin(&self, path: &Path, pusher: &Pusher) -> Push {
        let now = identity(path);
        let mut state = self.state();
        if let Some((then, push)) = state.pushes.get(path)
            && *then == now
        {
            return push.clone();
        }
        let (workers, pusher, file) = (Arc::clone(&self.workers), pusher.clone(), path.to_owned());
        let work = self.engine.tasks.spawn_on(
            async move {
                let _turn = workers.acquire().await;
                pusher.push(&file).await.map_err(|error| crate::error::chain(&error))
            },
            &self.engine.bulk,
        );
        let push =
            async move { work.await.unwrap_or_else(|error| Err(format!("archiving ended unexpectedly: {error}"))) };
        let push = push.boxed().shared();
        state.pushes.insert(path.to_owned(), (now, push.clone()));
        push
    }

    /// Begins with what PostgreSQL will ask for next: `archive_status` holds a `.ready` for each whole file.
    fn look_ahead(&self, path: &Path, pusher: &Pusher) {
        let Some(directory) = path.parent() else { return };
        let Ok(entries) = std::fs::read_dir(directory.join("archive_status")) else { return };
        let mut ready: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_string_lossy().strip_suffix(".ready").map(str::to_owned))
            .filter(|name| matches!(WalFile::parse(name), Some(WalFile::Segment(_))))
            .collect();
        ready.sort();
        let asked = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for name in ready.into_iter().filter(|name| *name > asked).take(AHEAD) {
            if self.state().pushes.len() > AHEAD {
                return;
            }
            // Failed or not, whoever asks for it gets the answer.
            drop(self.begin(&directory.join(name), pusher));
        }
    }
}
