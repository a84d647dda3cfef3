//! Who signs what is written into a repository, and whom its readers believe (C42).
//!
//! The signature of a backup lies beside its `backup.json`, which holds the SHA-256 of all its other objects; it is written first,
//! so that no reader ever sees the backup without it. Notes carry theirs within.

use super::{BackupRef, INFO, NOTE, Repository, write_object};
use crate::{
    BackupInfo, Error, SigningKey, TrustedKeys,
    read::read_up_to,
    sealed::{self, Fields},
    signature::{self, Statement},
};
use serde::Serialize;
use std::sync::Arc;

const SIGNATURE: &str = "backup.json.sig";

impl Repository {
    /// The key with which what is written here is signed, if it is; read when it is first needed.
    ///
    /// # Errors
    /// [`Error::Signing`] where it is configured and cannot be used.
    pub fn signing_key(&self) -> Result<Option<SigningKey>, Error> {
        if let Some(key) = self.signing_key.get() {
            return Ok(key.clone());
        }
        let credential = format!("repositories.{}.signing-key", self.name);
        let loaded = SigningKey::load(self.options.signing_key_file.as_deref(), &credential)?;
        Ok(self.signing_key.get_or_init(|| loaded).clone())
    }

    /// The keys whose signatures are believed; none where no signature is checked.
    ///
    /// # Errors
    /// [`Error::Signing`] where one is no key.
    pub fn trusted_keys(&self) -> Result<TrustedKeys, Error> {
        if let Some(keys) = self.trusted_keys.get() {
            return Ok(keys.clone());
        }
        let parsed = TrustedKeys::parse(&self.options.trusted_keys)?;
        Ok(self.trusted_keys.get_or_init(|| parsed).clone())
    }

    /// Refuses to write what would not be believed afterwards: where signatures are checked, this host must sign, with a key that is
    /// trusted.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn check_signing(&self) -> Result<(), Error> {
        let (key, trusted) = (self.signing_key()?, self.trusted_keys()?);
        let failed = |reason: String| Err(Error::Signing(format!("repository {}: {reason}", self.name)));
        match key {
            _ if trusted.is_empty() => Ok(()),
            None => failed(
                "it has trusted-keys but no signing-key-file: nobody would trust what this host writes there".into(),
            ),
            Some(key) if !trusted.contains(&key) => failed(format!(
                "the public key of signing-key-file ({}) is not among its trusted-keys: nobody would trust what this host \
                 writes there",
                key.fingerprint()
            )),
            Some(_) => Ok(()),
        }
    }

    /// The signature that lies beside a backup.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is no plain object, [`Error::Storage`].
    pub async fn signature(&self, place: &BackupRef) -> Result<Option<String>, Error> {
        let key = place.key(SIGNATURE);
        if self.storage.stat(&key).await?.is_none() {
            return Ok(None);
        }
        let bytes = read_up_to(self.storage.as_ref(), &key, NOTE).await?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Signs a `backup.json` of these bytes, as far as this host signs.
    pub(super) async fn sign_info(&self, place: &BackupRef, bytes: &[u8], original: Option<&str>) -> Result<(), Error> {
        match self.signature_of(&Statement::of(&place.key(INFO), bytes), original)? {
            Some(armoured) => write_object(self.storage.as_ref(), &place.key(SIGNATURE), armoured).await,
            None => Ok(()),
        }
    }

    /// The signature of a `backup.json`; where this host has no key that is trusted, the signature of the one it is a copy of is as
    /// good, if not a byte is different. C42: refused where readers would believe neither.
    fn signature_of(&self, statement: &Statement, original: Option<&str>) -> Result<Option<String>, Error> {
        match (self.check_signing(), self.signing_key()?) {
            (Ok(()), Some(key)) => key.armoured(statement).map(Some),
            (Ok(()), None) => Ok(original.filter(|original| signature::fits(statement, original)).map(str::to_owned)),
            (Err(_), _) if original.is_some() && self.trusted_keys()?.check(statement, original).is_ok() => {
                Ok(original.map(str::to_owned))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Refuses to copy a backup that would be this one here, and that nobody would believe (C42).
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn check_copy(&self, info: &BackupInfo, original: Option<&str>) -> Result<(), Error> {
        let statement = Statement::of(&info.place().key(INFO), &info.to_bytes()?);
        self.signature_of(&statement, original).map(drop)
    }

    /// C42: refuses a `backup.json` with this SHA-256 that nobody trusted has signed.
    ///
    /// # Errors
    /// [`Error::Untrusted`]; [`Error::NoBackup`] where it was removed meanwhile; [`Error::Storage`].
    pub(super) async fn check_info(&self, place: &BackupRef, sha256: &str) -> Result<(), Error> {
        let trusted = self.trusted_keys()?;
        if trusted.is_empty() {
            return Ok(());
        }
        let armoured = self.signature(place).await?;
        let object = place.key(INFO);
        let checked = trusted.check(&Statement::new(&object, sha256), armoured.as_deref());
        match checked {
            Ok(()) => Ok(()),
            // An expiry takes the signature after what it signs.
            Err(_) if armoured.is_none() && !self.is_published(place).await? => {
                Err(Error::NoBackup(place.label.clone()))
            }
            Err(_) if armoured.is_none() => Err(Error::Untrusted { object, reason: signature::unsigned() }),
            Err(reason) => Err(Error::Untrusted { object, reason }),
        }
    }

    /// Signs a backup that is there, with the note that keeps it: one from before signing was set up, or signed by a key that is
    /// trusted no more. Whoever asks for it has looked at the backup.
    ///
    /// # Errors
    /// [`Error::Signing`] where this host has no key; [`Error::Damaged`] where it is not what was looked at; [`Error::NoBackup`],
    /// [`Error::Storage`].
    pub async fn sign_backup(&self, info: &BackupInfo) -> Result<(), Error> {
        if self.signing_key()?.is_none() {
            return Err(self.no_signing_key());
        }
        let place = info.place();
        let (object, bytes) = (place.key(INFO), self.info_bytes(&place).await?);
        if BackupInfo::from_bytes(&object, &bytes)?.checksum != info.checksum {
            return Err(Error::Damaged { object, reason: "somebody changed it while it was being checked".into() });
        }
        self.sign_info(&place, &bytes, None).await?;
        self.sign_keep(&place).await
    }

    /// This repository for one who looks at what nobody signed, in order to sign it.
    pub fn unchecked(&self) -> Self {
        Self { trusted_keys: Arc::new(TrustedKeys::default().into()), ..self.clone() }
    }

    /// The same, and nothing is signed either: for a place that nobody else writes into.
    pub fn unsigned(&self) -> Self {
        Self { signing_key: Arc::new(None.into()), ..self.unchecked() }
    }

    pub(crate) fn no_signing_key(&self) -> Error {
        Error::Signing(format!("repository {} has no signing-key-file: there is nothing to sign with", self.name))
    }

    /// Writes a note, signed where this host signs.
    pub(super) async fn write_note<T: Serialize>(&self, key: &str, value: &T) -> Result<(), Error> {
        let mut fields = sealed::fields(key, value)?;
        if let Some(signing) = self.signing_key()? {
            let signature = signing.armoured(&Statement::new(key, &sealed::checksum(fields.clone())))?;
            fields.insert("signature".into(), signature.into());
        }
        self.write_json(key, &fields).await
    }

    /// C42: says why a note that was read is not to be believed.
    pub(super) fn check_note(&self, key: &str, mut note: Fields) -> Result<(), Error> {
        let trusted = self.trusted_keys()?;
        if trusted.is_empty() {
            return Ok(());
        }
        let armoured = note.remove("signature");
        let statement = Statement::new(key, &sealed::checksum(note));
        let checked = trusted.check(&statement, armoured.as_ref().and_then(serde_json::Value::as_str));
        checked.map_err(|reason| Error::Untrusted { object: key.to_owned(), reason })
    }
}
