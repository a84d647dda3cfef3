//! Carries a connection of sqlx over a stream of ours: sqlx makes its connections itself, and checks certificates otherwise than libpq does.
//!
//! Invariants: only this process gets onto a bridge; the bridge ends with its connection; what the server said last is read before the
//! end is seen.

use crate::tls::Stream;
use std::{io, process, time::Duration};
use tokio::{
    io::{AsyncWriteExt, copy, sink, split},
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// How long a server is told good-bye.
const FAREWELL: Duration = Duration::from_secs(5);

/// Opens a bridge to a stream for one connection; its near end is in a directory (of abstract names) for libpq's `host`.
pub(crate) fn open(stream: Box<dyn Stream>, port: u16) -> io::Result<String> {
    let directory = format!("\0pgbosun/{}", uuid::Uuid::new_v4());
    let listener = UnixListener::bind(format!("{directory}/.s.PGSQL.{port}"))?;
    tokio::spawn(async move {
        if let Ok(Ok(near)) = timeout(Duration::from_secs(60), own(listener)).await {
            carry(near, stream).await;
        }
    });
    Ok(directory)
}

/// The first connection that this process makes.
async fn own(listener: UnixListener) -> io::Result<UnixStream> {
    loop {
        let (near, _) = listener.accept().await?;
        if near.peer_cred()?.pid() == i32::try_from(process::id()).ok() {
            return Ok(near);
        }
    }
}

async fn carry(near: UnixStream, far: Box<dyn Stream>) {
    let (mut asked, mut answer) = near.into_split();
    let (mut heard, mut said) = split(far);
    let up = async {
        match copy(&mut asked, &mut said).await {
            Ok(_) => drop(timeout(FAREWELL, said.shutdown()).await),
            // Whoever cannot be written to any more may have said why. A socket that is closed with something unread in it takes with
            // it what its other end has not read yet.
            Err(_) => drop(copy(&mut asked, &mut sink()).await),
        }
    };
    let down = async {
        let _ = copy(&mut heard, &mut answer).await;
        let _ = answer.shutdown().await;
    };
    tokio::pin!(up);
    tokio::select! {
        () = &mut up => {}
        () = down => up.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, duplex};

    #[tokio::test]
    async fn what_a_server_says_last_is_heard_and_its_end_after_it() {
        let (far, mut server) = duplex(16);
        let directory = open(Box::new(far), 1).unwrap();
        let mut near = UnixStream::connect(format!("{directory}/.s.PGSQL.1")).await.unwrap();
        // More than the server ever reads, before it says why.
        near.write_all(&[b'q'; 100]).await.unwrap();
        server.write_all(b"FATAL").await.unwrap();
        drop(server);
        let mut heard = String::new();
        near.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "FATAL");
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_ends_at_the_server_and_nobody_gets_on_later() {
        let (far, mut server) = duplex(16);
        let directory = open(Box::new(far), 1).unwrap();
        let place = format!("{directory}/.s.PGSQL.1");
        let mut near = UnixStream::connect(&place).await.unwrap();
        near.write_all(b"bye").await.unwrap();
        drop(near);
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "bye");
        assert!(UnixStream::connect(&place).await.is_err());
    }
}
