//! Work on files of a place that may hang: a network file system whose server is away blocks whoever asks it, for hours, and cannot be
//! interrupted.
//!
//! Invariant: such work has a thread of its own, which nobody waits for longer than was said, and as long as it hangs no other is begun
//! there.

use pgbosun_core::human;
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// A place that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} has not answered for {}: a network file system whose server is unavailable, or a failing disk",
    place.display(),
    human::duration(*since)
)]
pub struct Hung {
    place: PathBuf,
    since: Duration,
}

/// Work that is under way: where, since when, and how long it may take.
static UNDER_WAY: Mutex<Vec<(PathBuf, Instant, Duration)>> = Mutex::new(Vec::new());

/// Work as long as it is under way, however it ends.
struct UnderWay(PathBuf, Instant);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut known = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(at, since, _)| (at, *since) != (&self.0, self.1));
    }
}

/// Does work on the files of a place; of the same kind, that is of the same limit, one after the other where it hangs.
///
/// # Errors
/// [`Hung`] where it does not end within the limit, or earlier work there has not.
pub async fn at<T: Send + 'static>(
    place: &Path,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Hung> {
    let hung = |since: Duration| Hung { place: place.to_owned(), since };
    let under_way = || UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = Instant::now();
    {
        let mut known = under_way();
        let late = known.iter().find(|(at, since, own)| at == place && *own == limit && since.elapsed() >= limit);
        if let Some((_, since, _)) = late {
            return Err(hung(since.elapsed()));
        }
        known.push((place.to_owned(), begun, limit));
    }
    let (sender, answer) = oneshot::channel();
    let own = UnderWay(place.to_owned(), begun);
    let thread = std::thread::Builder::new().name("place".into()).spawn(move || {
        let done = work();
        drop(own);
        let _ = sender.send(done);
    });
    if let Err(error) = thread {
        tracing::error!("no thread for {}: {error}", place.display());
    }
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(done)) => Ok(done),
        _ => Err(hung(begun.elapsed())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_hangs_holds_one_thread_and_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let limit = Duration::from_millis(100);
        // Without a writer, opening it hangs.
        let read = || {
            let path = pipe.clone();
            runtime.block_on(at(&pipe, limit, move || fs::read_to_string(path).map_err(|error| error.to_string())))
        };
        let begun = Instant::now();
        let hung = read().unwrap_err();
        assert!(hung.to_string().contains("has not answered for"), "{hung}");
        // As long as that hangs the next is not even begun.
        for _ in 0..100 {
            assert!(read().is_err());
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        fs::write(&pipe, "back").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        fs::remove_file(&pipe).unwrap();
        fs::write(&pipe, "as before").unwrap();
        while read().is_err() {
            assert!(Instant::now() < deadline);
        }
        assert_eq!(read(), Ok(Ok("as before".into())));
    }
}
