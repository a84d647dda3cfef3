//! From one repository to another: objects as they are stored, encrypted on the way where only the target asks for it.

use crate::{
    Encoding, Error, Object, Repository,
    decode::Decoding,
    encode::Encoder,
    fan::{Destination, Fan, Stored},
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio_util::task::TaskTracker;

/// Copies one object to `to`, where its name may get an `.age`; returns it as it is stored there.
///
/// # Errors
/// [`Error::Damaged`] where what was read is not what was written once; what either repository answered.
pub async fn copy_object(
    from: &Repository,
    to: &Repository,
    directory: &str,
    object: &Object,
) -> Result<Object, Error> {
    let source = format!("{directory}/{}", object.name);
    let wanted = Encoding::of(&to.options);
    let encrypted = Decoding::of(&object.name).is_encrypted();
    // PostgreSQL's own manifest stays readable, and what is encrypted already stays as it is.
    let encrypt = !wanted.recipients().is_empty() && !encrypted && object.kind != crate::ObjectKind::Manifest;
    let (name, mut encoder) = match encrypt {
        true => (format!("{}.age", object.name), Encoder::new(&wanted.uncompressed(), &Arc::default()).await?),
        false => (object.name.clone(), Encoder::plain()),
    };
    let target = format!("{directory}/{name}");
    let destination = Destination::new(to.clone());
    let mut fan = Fan::create(&[Arc::clone(&destination)], &target, &TaskTracker::new()).await;
    let mut reader = from.storage.open(&source).await?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = reader.read(&mut buffer).await.map_err(Error::storage("read", &source))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        size += read as u64;
        let encoded = encoder.push(&buffer[..read]).await.map_err(Error::storage("encode", &name))?;
        fan.send(encoded, &target).await;
        if let Some(error) = destination.reason() {
            return Err(error);
        }
    }
    // Compared before the copy is finished: what is damaged is not spread.
    if size != object.size || hex::encode(hash.finalize()) != object.sha256 {
        return Err(Error::Damaged { object: source, reason: "it is not what was written".into() });
    }
    let rest = encoder.finish().await.map_err(Error::storage("encode", &name))?;
    fan.send(rest, &target).await;
    let Stored { size, sha256 } = fan.finish(&target).await;
    match destination.reason() {
        Some(error) => Err(error),
        None => Ok(Object { name, size, sha256, ..object.clone() }),
    }
}
