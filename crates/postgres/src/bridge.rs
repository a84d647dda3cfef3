//! Carries a connection of sqlx over a stream of ours: sqlx makes its connections itself, and checks certificates otherwise than libpq does.
//!
//! Invariants: only this process gets onto a bridge, and nobody else has its name as long as somebody may connect to it, since a password
//! goes over it: the name is random, is taken before it is told, is kept as long as the connection lives, and serves one connection. The
//! bridge ends with its connection; what the server said last is read before the end is seen.

use crate::tls::Stream;
use socket2::SockRef;
use std::{io, net::Shutdown, process, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, split},
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// How long a server is told good-bye.
const FAREWELL: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(5) };
/// Bytes that are carried at once.
const BLOCK: usize = 1 << 14;

/// How long we may take to connect to ourselves.
const NEAR: Duration = Duration::from_secs(60);

/// Opens a bridge to a stream for one connection; its near end is in a directory (of abstract names) for libpq's `host`.
pub(crate) fn open(stream: Box<dyn Stream>, port: u16) -> io::Result<String> {
    let directory = format!("\0pgbosun/{}", uuid::Uuid::new_v4());
    let listener = UnixListener::bind(format!("{directory}/.s.PGSQL.{port}"))?;
    tokio::spawn(async move {
        if let Ok(Ok(near)) = timeout(NEAR, own(&listener)).await {
            tokio::select! {
                () = carry(near, stream) => {}
                () = refuse(&listener) => {}
            }
        }
    });
    Ok(directory)
}

/// The first connection that this process makes.
async fn own(listener: &UnixListener) -> io::Result<UnixStream> {
    loop {
        let (near, _) = listener.accept().await?;
        if near.peer_cred()?.pid() == i32::try_from(process::id()).ok() {
            return Ok(near);
        }
    }
}

/// Every further connection ends at once.
async fn refuse(listener: &UnixListener) {
    loop {
        if listener.accept().await.is_err() {
            // Without a descriptor for it the next one waits in the queue.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn carry(near: UnixStream, far: Box<dyn Stream>) {
    let near = &near;
    let (mut heard, mut said) = split(far);
    let up = async {
        let mut block = vec![0; BLOCK];
        let mut is_there = true;
        loop {
            match read(near, &mut block).await {
                Ok(0) | Err(_) => break,
                // Whoever cannot be written to any more may have said why. A socket that is closed with something unread in it takes
                // with it what its other end has not read yet.
                Ok(length) => {
                    is_there = is_there && said.write_all(&block[..length]).await.is_ok() && said.flush().await.is_ok()
                }
            }
        }
        let _ = timeout(FAREWELL, said.shutdown()).await;
    };
    let down = async {
        let mut block = vec![0; BLOCK];
        while let Ok(length @ 1..) = heard.read(&mut block).await {
            if write_all(near, &block[..length]).await.is_err() {
                break;
            }
        }
        let _ = SockRef::from(near).shutdown(Shutdown::Write);
    };
    tokio::pin!(up);
    tokio::select! {
        () = &mut up => {}
        () = gone(near) => {}
        () = down => tokio::select! {
            () = up => {}
            () = gone(near) => {}
        },
    }
}

async fn read(near: &UnixStream, block: &mut [u8]) -> io::Result<usize> {
    loop {
        near.readable().await?;
        match near.try_read(block) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
    }
}

async fn write_all(near: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        near.writable().await?;
        match near.try_write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns a while after the near end was dropped, also where the far end takes nothing any more.
async fn gone(near: &UnixStream) {
    loop {
        tokio::time::sleep(FAREWELL).await;
        let ready = near.ready(Interest::READABLE | Interest::WRITABLE).await;
        if ready.is_ok_and(|ready| ready.is_write_closed()) {
            return tokio::time::sleep(FAREWELL).await;
        }
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
    async fn a_connection_that_is_dropped_ends_though_the_server_takes_nothing() {
        let (far, server) = duplex(16);
        let directory = open(Box::new(far), 1).unwrap();
        let mut near = UnixStream::connect(format!("{directory}/.s.PGSQL.1")).await.unwrap();
        near.write_all(&[b'q'; 100]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(near);
        tokio::time::sleep(Duration::from_secs(3)).await;
        // The far end was dropped with the bridge: what is still in the pipe comes, and then its end.
        let mut server = server;
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        assert!(heard.len() <= 16, "{}", heard.len());
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
