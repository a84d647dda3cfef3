//! What others write, for the fuzz targets of `tests/fuzz`: connection strings, and a server that says anything.

use crate::{Conninfo, Error, replication::Replication};
use pgbosun_core::lsn::Lsn;
use std::{io::Cursor, time::Duration};
use tokio::{io::sink, time::timeout};

/// Connection strings.
pub fn conninfo(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(conninfo) = Conninfo::parse(text) else { return };
    for host in &conninfo.hosts {
        let _ = conninfo.password_for(host);
    }
    let _ = (conninfo.to_string(), crate::session::options(&conninfo.options));
}

/// What a server sends on a replication connection, after whatever the first byte says was asked.
pub fn replication(data: &[u8]) {
    let Some((asked, rest)) = data.split_first() else { return };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    let stream = tokio::io::join(Cursor::new(rest.to_vec()), sink());
    let connection = Replication::over(Box::new(stream));
    let _ = runtime.block_on(async { timeout(Duration::from_secs(5), ask(connection, *asked)).await });
}

async fn ask(mut connection: Replication, asked: u8) -> Result<(), Error> {
    match asked % 5 {
        0 => {
            let host = crate::conninfo::Host { name: "db".into(), port: 1 };
            let conninfo =
                Conninfo::local(host.clone(), "me", "app").with_password(Some(pgbosun_core::config::Secret::new("x")));
            connection.authenticate(&conninfo, &host).await
        }
        1 => connection.identify().await.map(drop),
        2 => connection.timeline_history(2).await.map(drop),
        3 => {
            let mut stream = connection.stream_wal(None, Lsn(0), 1).await?;
            while stream.next().await?.is_some() {}
            stream.end().await.map(drop)
        }
        _ => {
            let options = crate::replication::BackupOptions {
                label: String::new(),
                fast_checkpoint: true,
                max_rate: None,
                incremental: false,
            };
            let (_, mut backup) = connection.base_backup(&options).await?;
            while !matches!(backup.next().await?, crate::replication::BackupEvent::End(_)) {}
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn conninfo() {
        pgbosun_seeds::run("conninfo", super::conninfo);
    }

    #[test]
    fn replication() {
        pgbosun_seeds::run("replication", super::replication);
    }
}
