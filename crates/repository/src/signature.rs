//! Signatures: what a host writes it signs with an SSH key of its own, and a reader that knows the public key believes nothing
//! else (C42). So whoever may write into a share can hide and remove backups, and cannot forge one.
//!
//! What is signed is a short text: where an object belongs, and the SHA-256 of its contents. So nothing that was signed can be put
//! under another name, label or cluster. The form is that of `ssh-keygen -Y sign` (SSHSIG, namespace `pgbosun`), and
//! `ssh-keygen -Y verify` checks it: beside `backup.json` and within notes as OpenSSH writes it, in the names of WAL its 64 bytes
//! alone, so that a listing is enough to check them.

use crate::Error;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest, Sha256};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, Signature, SshSig};
use std::{fmt, os::unix::fs::MetadataExt, path::Path, sync::Arc};

/// What our signatures are for: none made for a login or a commit counts here, and none of ours there.
const NAMESPACE: &str = "pgbosun";

/// Characters of a signature in a name.
pub(crate) const COMPACT: usize = 86;

/// What is signed of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement(String);

impl Statement {
    /// That an object of a repository has contents with this SHA-256, hex.
    pub fn new(key: &str, sha256: &str) -> Self {
        Self(format!("pgbosun 1\n{key}\n{sha256}\n"))
    }

    /// Of an object whose contents are at hand.
    pub fn of(key: &str, bytes: &[u8]) -> Self {
        Self::new(key, &hex::encode(Sha256::digest(bytes)))
    }
}

/// The private key of a host that writes. Shows nothing of it (C25).
#[derive(Clone)]
pub struct SigningKey(Arc<PrivateKey>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signing key {}", self.fingerprint())
    }
}

impl SigningKey {
    /// From a file that only its owner may read, or the systemd credential of this name; none where there is neither.
    ///
    /// # Errors
    /// [`Error::Signing`] where the file cannot be used.
    pub(crate) fn load(file: Option<&Path>, credential: &str) -> Result<Option<Self>, Error> {
        let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(credential));
        let path = match (file, given.filter(|path| path.exists())) {
            (Some(file), _) => file.to_owned(),
            (None, Some(given)) => given,
            (None, None) => return Ok(None),
        };
        let failed = |reason: String| Error::Signing(format!("signing key {}: {reason}", path.display()));
        let mode = std::fs::metadata(&path).map_err(|error| failed(error.to_string()))?.mode();
        if file.is_some() && mode & 0o077 != 0 {
            return Err(failed(format!("it is open to others (mode {:04o}): chmod 0600", mode & 0o7777)));
        }
        let text = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
        let key = PrivateKey::from_openssh(text).map_err(|error| {
            failed(format!("it is not an OpenSSH private key ({error}): \"ssh-keygen -t ed25519 -N ''\" makes one"))
        })?;
        if key.is_encrypted() {
            return Err(failed(
                "it has a passphrase, and nobody is there to enter it: \"ssh-keygen -p -N ''\" removes it".into(),
            ));
        }
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(failed(format!("it is of type {}: only ssh-ed25519 is supported", key.algorithm())));
        }
        Ok(Some(Self(Arc::new(key))))
    }

    /// How OpenSSH names it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    fn sign(&self, statement: &Statement) -> Result<SshSig, Error> {
        let signed = self.0.sign(NAMESPACE, HashAlg::Sha512, statement.0.as_bytes());
        signed.map_err(|error| Error::Signing(error.to_string()))
    }

    /// A signature as OpenSSH writes it.
    pub(crate) fn armoured(&self, statement: &Statement) -> Result<String, Error> {
        self.sign(statement)?.to_pem(LineEnding::LF).map_err(|error| Error::Signing(error.to_string()))
    }

    /// A signature for a name.
    pub(crate) fn compact(&self, statement: &Statement) -> Result<String, Error> {
        Ok(Base64UrlUnpadded::encode_string(self.sign(statement)?.signature_bytes()))
    }
}

/// The public keys of the hosts whose backups are believed; where there are none, nothing is checked.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Arc<Vec<PublicKey>>);

impl TrustedKeys {
    /// Of lines such as `ssh-ed25519 AAAA… comment`.
    ///
    /// # Errors
    /// [`Error::Signing`] where one is no such key.
    pub(crate) fn parse(lines: &[String]) -> Result<Self, Error> {
        let parse = |line: &String| {
            let failed = |reason: String| Error::Signing(format!("trusted-keys: \"{line}\": {reason}"));
            let key = PublicKey::from_openssh(line).map_err(|error| failed(error.to_string()))?;
            match key.algorithm() {
                Algorithm::Ed25519 => Ok(key),
                other => Err(failed(format!("it is of type {other}: only ssh-ed25519 is supported"))),
            }
        };
        Ok(Self(Arc::new(lines.iter().map(parse).collect::<Result<_, _>>()?)))
    }

    /// True where nothing is checked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether what this key signs is believed.
    pub fn contains(&self, key: &SigningKey) -> bool {
        self.0.iter().any(|trusted| trusted.key_data() == key.0.public_key().key_data())
    }

    /// C42: says why a signature is not to be believed.
    pub(crate) fn check(&self, statement: &Statement, armoured: Option<&str>) -> Result<(), String> {
        let armoured = armoured.ok_or(UNSIGNED)?;
        let signature = SshSig::from_pem(armoured).map_err(|error| format!("its signature is invalid: {error}"))?;
        let of = |key: &&PublicKey| key.key_data() == signature.public_key();
        let Some(key) = self.0.iter().find(of) else {
            let fingerprint = signature.public_key().fingerprint(HashAlg::Sha256);
            return Err(format!("it is signed by a key that is not among trusted-keys ({fingerprint})"));
        };
        key.verify(NAMESPACE, statement.0.as_bytes(), &signature).map_err(|_| {
            "its signature is for something else: it was changed after it was signed, or copied from elsewhere"
                .to_owned()
        })
    }

    /// Whether a signature in a name is to be believed.
    pub(crate) fn believe(&self, statement: &Statement, compact: &str) -> bool {
        let Ok(bytes) = Base64UrlUnpadded::decode_vec(compact) else { return false };
        let Ok(signature) = Signature::new(Algorithm::Ed25519, bytes) else { return false };
        let verified = |key: &PublicKey| {
            let signature = SshSig::new(key.key_data().clone(), NAMESPACE, HashAlg::Sha512, signature.clone())?;
            key.verify(NAMESPACE, statement.0.as_bytes(), &signature)
        };
        self.0.iter().any(|key| verified(key).is_ok())
    }
}

/// Whether a signature is what the key that it names made of this, whoever holds that key.
pub(crate) fn fits(statement: &Statement, armoured: &str) -> bool {
    let Ok(signature) = SshSig::from_pem(armoured) else { return false };
    let key = PublicKey::from(signature.public_key().clone());
    key.verify(NAMESPACE, statement.0.as_bytes(), &signature).is_ok()
}

/// What is said of an object that nobody signed.
const UNSIGNED: &str = "it has no signature";

/// What is said of a backup or a file of WAL that nobody signed.
pub(crate) fn unsigned() -> String {
    format!("{UNSIGNED}; if it was written before signing was set up, \"pgbosun backup sign\" signs it")
}

/// Whether a word of a name has the form of a signature.
pub(crate) fn is_compact(word: &str) -> bool {
    word.len() == COMPACT && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A key for tests, made of a number.
#[cfg(test)]
pub(crate) fn test_key(seed: u8) -> PrivateKey {
    PrivateKey::from(ssh_key::private::Ed25519Keypair::from_seed(&[seed; 32]))
}

#[cfg(test)]
mod tests {
    use super::{test_key as pair, *};
    use std::os::unix::fs::PermissionsExt;

    fn public(seed: u8) -> String {
        pair(seed).public_key().to_openssh().unwrap()
    }

    fn key(directory: &Path) -> SigningKey {
        let file = directory.join("key");
        std::fs::write(&file, pair(1).to_openssh(LineEnding::LF).unwrap()).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        SigningKey::load(Some(&file), "none").unwrap().unwrap()
    }

    fn trusted(seeds: &[u8]) -> TrustedKeys {
        TrustedKeys::parse(&seeds.iter().map(|seed| public(*seed)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn c42_a_signature_counts_for_one_place_one_content_and_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let key = key(directory.path());
        let statement = Statement::of("main/7/backups/a/backup.json", b"contents");
        let others = [
            Statement::of("main/7/backups/b/backup.json", b"contents"),
            Statement::of("main/7/backups/a/backup.json", b"other"),
        ];
        let (armoured, compact) = (key.armoured(&statement).unwrap(), key.compact(&statement).unwrap());
        assert!(is_compact(&compact) && !is_compact(&armoured));
        // With two keys, as while one follows the other.
        for keys in [trusted(&[1]), trusted(&[2, 1])] {
            assert!(keys.contains(&key));
            assert_eq!(keys.check(&statement, Some(&armoured)), Ok(()));
            assert!(keys.believe(&statement, &compact));
            for other in &others {
                assert!(keys.check(other, Some(&armoured)).unwrap_err().contains("for something else"));
                assert!(!keys.believe(other, &compact));
            }
            assert_eq!(keys.check(&statement, None).unwrap_err(), UNSIGNED);
            assert!(keys.check(&statement, Some("-----BEGIN SSH SIGNATURE-----")).unwrap_err().contains("is invalid"));
            assert!(!keys.believe(&statement, &"A".repeat(COMPACT)) && !keys.believe(&statement, ""));
        }
        let others = trusted(&[2]);
        assert!(!others.contains(&key) && !others.believe(&statement, &compact));
        assert!(others.check(&statement, Some(&armoured)).unwrap_err().contains(&key.fingerprint()));
    }

    #[test]
    fn c25_a_signing_key_that_others_can_read_is_refused_and_none_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let shown = format!("{:?}", key(directory.path()));
        assert!(shown.starts_with("signing key SHA256:") && shown.len() < 80, "{shown}");
        let file = directory.path().join("key");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let said = SigningKey::load(Some(&file), "none").unwrap_err().to_string();
        assert!(said.contains("open to others (mode 0640): chmod 0600"), "{said}");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&file, public(1)).unwrap();
        assert!(SigningKey::load(Some(&file), "none").unwrap_err().to_string().contains("ssh-keygen -t ed25519"));
        assert!(SigningKey::load(None, "none").unwrap().is_none());
        assert!(TrustedKeys::parse(&["ssh-ed25519 AAAA".into()]).is_err());
    }
}
