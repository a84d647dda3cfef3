//! Connections of others to this daemon: so many, for so long, and a reserve of descriptors for its own work.
//!
//! Invariant: whoever may connect can use up his share and no more: backups, the journal and the history database have theirs.

use crate::{alerts, engine::Engine, error::chain};
use axum::serve::Listener;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pgbosun_core::{
    alert::DAEMON,
    detail::Detail,
    finding::{Finding, Severity},
};
use std::{
    any::Any,
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream, unix::UCred},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// Scrapes of `/metrics` at the same time.
const SCRAPES: usize = 16;
/// How long one may take: Prometheus gives up after ten seconds.
const SCRAPE: Duration = Duration::from_secs(30);
/// Commands at the same time: of root and the daemon's own user, and of all others together.
const COMMANDS: [usize; 2] = [128, 32];
/// How long one may take. A report or a push of WAL may need its time; nothing needs more.
const COMMAND: Duration = Duration::from_secs(1800);
/// How often the descriptors are counted.
const EVERY: Duration = Duration::from_secs(20);
/// From here on somebody should know, as a part of the limit.
const MANY: f64 = 0.8;

/// A connection with its end, and its place among so many.
pub(crate) struct Bounded<S> {
    stream: S,
    /// None once it has come.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Given free with the connection.
    _place: Box<dyn Any + Send>,
}

impl<S> Bounded<S> {
    fn new(stream: S, end: impl Future<Output = ()> + Send + 'static, place: impl Any + Send) -> Self {
        Self { stream, end: Some(Box::pin(end)), _place: Box::new(place) }
    }

    /// Whoever waits for the other side is woken by the end.
    fn over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(end) = &mut self.end {
            std::task::ready!(end.as_mut().poll(context));
            self.end = None;
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => self.over(context).map(Err),
            ready => ready,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.over(context).map(Err),
            ready => ready,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// `/metrics`: who comes when all places are taken gets that of the oldest: a scrape is done in milliseconds, and who says nothing
/// keeps nobody out.
pub(crate) struct Scrapes {
    listener: TcpListener,
    most: usize,
    /// From the oldest.
    open: VecDeque<Weak<CancellationToken>>,
}

impl Scrapes {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, most: share(SCRAPES, 16), open: VecDeque::new() }
    }
}

impl Listener for Scrapes {
    type Io = Bounded<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = accepted(|| self.listener.accept()).await;
        self.open.retain(|other| other.strong_count() > 0);
        while self.open.len() >= self.most
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.upgrade().iter().for_each(|oldest| oldest.cancel());
        }
        let place = Arc::new(CancellationToken::new());
        self.open.push_back(Arc::downgrade(&place));
        let taken = place.as_ref().clone().cancelled_owned();
        let end = async { drop(tokio::time::timeout(SCRAPE, taken).await) };
        (Bounded::new(stream, end, place), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// The control socket: who finds no place is turned away at once, so that no stranger keeps the administrator out.
pub(crate) struct Commands {
    listener: UnixListener,
    /// Of root and the daemon's own user, and of others.
    places: [Arc<Semaphore>; 2],
}

impl Commands {
    pub fn new(listener: UnixListener) -> Self {
        Self { listener, places: COMMANDS.map(|most| Arc::new(Semaphore::new(share(most, 4)))) }
    }
}

impl Listener for Commands {
    type Io = Bounded<UnixStream>;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = accepted(|| self.listener.accept()).await;
            let own =
                stream.peer_cred().is_ok_and(|peer: UCred| [0, nix::unistd::geteuid().as_raw()].contains(&peer.uid()));
            match Arc::clone(&self.places[usize::from(!own)]).try_acquire_owned() {
                Ok(place) => return (Bounded::new(stream, tokio::time::sleep(COMMAND), place), address),
                Err(_) => tracing::warn!("a connection to the control socket was rejected: there are too many"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Bounded<UnixStream> {
    /// Whose connection it is.
    pub fn peer(&self) -> io::Result<UCred> {
        self.stream.peer_cred()
    }
}

/// The next connection. Where there is no descriptor for it, one is free sooner or later.
async fn accepted<S, F: Future<Output = io::Result<S>>>(mut accept: impl FnMut() -> F) -> S {
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// So many, and no more than a part of what the process may have.
fn share(most: usize, part: usize) -> usize {
    most.min(limit() / part).max(2)
}

/// How many descriptors this process may have.
fn limit() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Takes as many descriptors as there are to be had: where the daemon is started by hand, the first limit is a low one.
pub(crate) fn take_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536).max(soft), hard);
    }
}

/// Tells when descriptors are about to run out, until the daemon stops.
pub(crate) async fn watch(engine: Arc<Engine>) {
    let mut told = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = engine.stop.cancelled() => return,
        }
        let limit = limit();
        // To count them takes one: none is all.
        let open = std::fs::read_dir("/proc/self/fd").map_or(limit, Iterator::count);
        let many = open as f64 >= limit as f64 * MANY;
        if told == Some(many) && !many {
            continue;
        }
        let finding = many.then(|| finding(open, limit));
        match alerts::own_object(&engine, DAEMON, "descriptors", finding).await {
            Ok(()) => told = Some(many),
            Err(error) => {
                tracing::error!("the alert about descriptors could not be written to the journal: {}", chain(&error))
            }
        }
    }
}

fn finding(open: usize, limit: usize) -> Finding {
    let summary = format!("the daemon has {open} of {limit} file descriptors open");
    Finding::new(Severity::Critical, "descriptors", summary)
        .meaning("Without free descriptors no backup can read a file, no WAL is taken and no mail is sent.")
        .advice(
            "\"ls -l /proc/$(pidof pgbosun)/fd\" shows what they are. Raise LimitNOFILE with \"systemctl edit pgbosun\", and \
             restart the daemon.",
        )
        .detail(Detail::new().fact("open", open).fact("limit", limit))
}
