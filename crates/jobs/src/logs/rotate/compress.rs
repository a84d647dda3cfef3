//! One log file compressed in its place: times, owner and permissions stay.

use super::files::{Entry, TEMPORARY};
use async_compression::tokio::write::{GzipEncoder, Lz4Encoder, ZstdEncoder};
use chrono::{DateTime, Utc};
use pgbosun_core::config::Compression;
use std::{
    fs::{File, FileTimes},
    io,
    os::unix::fs::{MetadataExt, fchown},
    path::{Path, PathBuf},
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter};
use tokio_util::sync::CancellationToken;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// Compresses a file; the size it has then, or none where it was written to meanwhile, and everything is as it was.
pub(super) async fn compress(
    entry: &Entry,
    compression: Compression,
    cancel: &CancellationToken,
) -> io::Result<Option<u64>> {
    let mut whole = with_suffix(&entry.path, compression.suffix());
    if let Ok(there) = std::fs::metadata(&whole) {
        let source = std::fs::metadata(&entry.path)?;
        if there.modified()? == source.modified()? {
            // Times stay: it was compressed, and whoever did it was killed before the original was gone.
            std::fs::remove_file(&entry.path)?;
            return Ok(Some(there.len()));
        }
        // A name that comes again, as by the day of the month: what was compressed before stays beside it.
        let written: DateTime<Utc> = source.modified()?.into();
        whole = with_suffix(&entry.path, &format!(".{}{}", written.format("%Y%m%d"), compression.suffix()));
    }
    if whole.exists() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} already exists", whole.display())));
    }
    let temporary = with_suffix(&whole, TEMPORARY);
    let written = write(entry, compression, &temporary, cancel).await;
    if !matches!(written, Ok(Some(_))) {
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    std::fs::rename(&temporary, &whole)?;
    if let Some(directory) = whole.parent() {
        File::open(directory)?.sync_all()?;
    }
    std::fs::remove_file(&entry.path)?;
    written
}

async fn write(
    entry: &Entry,
    compression: Compression,
    temporary: &Path,
    cancel: &CancellationToken,
) -> io::Result<Option<u64>> {
    let mut source = tokio::fs::File::open(&entry.path).await?;
    let before = source.metadata().await?;
    let target = File::options().write(true).create(true).truncate(true).open(temporary)?;
    // Permissions first: what is secret in the log stays so.
    target.set_permissions(before.permissions())?;
    if let Err(error) = fchown(&target, Some(before.uid()), Some(before.gid())) {
        // Whoever may not give it away keeps it.
        tracing::debug!("{} keeps its own owner: {error}", temporary.display());
    }
    let sink = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(target.try_clone()?));
    let mut encoder: Box<dyn AsyncWrite + Send + Unpin> = match compression {
        Compression::Zstd => Box::new(ZstdEncoder::new(sink)),
        Compression::Gzip => Box::new(GzipEncoder::new(sink)),
        Compression::Lz4 => Box::new(Lz4Encoder::new(sink)),
        Compression::None => Box::new(sink),
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer).await? {
            0 => break,
            count => encoder.write_all(&buffer[..count]).await?,
        }
        if cancel.is_cancelled() {
            return Err(io::Error::other("the run was told to stop"));
        }
    }
    encoder.shutdown().await?;
    let after = std::fs::metadata(&entry.path)?;
    if (after.len(), after.modified()?, after.ino()) != (before.len(), before.modified()?, before.ino()) {
        return Ok(None);
    }
    target.set_times(FileTimes::new().set_accessed(before.accessed()?).set_modified(before.modified()?))?;
    target.sync_all()?;
    Ok(Some(target.metadata()?.len()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
