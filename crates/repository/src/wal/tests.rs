//! The archive on a local repository.

use super::*;
use crate::Encoding;
use crate::storage::{Directories, Local, Storage};
use std::sync::Arc;

async fn stored(archive: &WalArchive, encoding: &Encoding, name: &str, plain: &'static [u8]) -> Result<bool, Error> {
    let file = WalFile::parse(name).unwrap();
    let sha256 = hex::encode(Sha256::digest(plain));
    let encoded = EncodedWal::of(encoding, &Arc::default(), &file, &sha256, plain).await?;
    archive.put(&file, &encoded).await
}

#[tokio::test]
async fn c2_the_same_again_is_success_and_another_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let key = age::x25519::Identity::generate();
    let identity = directory.path().join("key");
    std::fs::write(&identity, age::secrecy::ExposeSecret::expose_secret(&key.to_string())).unwrap();
    std::fs::set_permissions(&identity, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for encrypted in [false, true] {
        let mut options = crate::test_options();
        if encrypted {
            options.encrypt_to = vec![key.to_public().to_string()];
            options.identity_file = Some(identity.clone());
        }
        let place = directory.path().join(format!("repository-{encrypted}"));
        let repository = Repository::on("r", &options, Arc::new(Local::new(&place, Directories::Synced)));
        let archive = WalArchive::new(&repository, "main", "7");
        let encoding = Encoding::of(&options);
        let name = "000000010000000000000001";
        assert!(stored(&archive, &encoding, name, b"one").await.unwrap());
        assert!(!stored(&archive, &encoding, name, b"one").await.unwrap());
        assert!(matches!(stored(&archive, &encoding, name, b"two").await, Err(Error::Conflict { .. })));
        assert!(stored(&archive, &encoding, "00000002.history", b"history").await.unwrap());
        let all = archive.list().await.unwrap();
        assert_eq!(all.len(), 2);
        for object in &all {
            let plain = archive.get(object).await.unwrap();
            assert!(plain == "one" || plain == "history");
        }
        // A bit flipped is found.
        let path = place.join(&archive.find(&WalFile::parse(name).unwrap()).await.unwrap().unwrap().key);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let object = archive.find(&WalFile::parse(name).unwrap()).await.unwrap().unwrap();
        assert!(matches!(archive.get(&object).await, Err(Error::Damaged { .. })));
    }
}

#[tokio::test]
async fn c42_wal_is_believed_where_and_as_it_was_signed() {
    let directory = tempfile::tempdir().unwrap();
    let key = |seed: u8| {
        let file = directory.path().join(format!("key-{seed}"));
        let pair = crate::signature::test_key(seed);
        std::fs::write(&file, pair.to_openssh(ssh_key::LineEnding::LF).unwrap()).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        (file, pair.public_key().to_openssh().unwrap())
    };
    let ((ours, public), (theirs, _)) = (key(1), key(2));
    let storage = Arc::new(Local::new(&directory.path().join("repository"), Directories::Synced));
    let open = |signs: Option<&std::path::PathBuf>, checks: bool| {
        let mut options = crate::test_options();
        options.signing_key_file = signs.cloned();
        options.trusted_keys = if checks { vec![public.clone()] } else { Vec::new() };
        Repository::on("r", &options, storage.clone())
    };
    let (ours, before, reader, forger) =
        (open(Some(&ours), true), open(None, false), open(None, true), open(Some(&theirs), false));
    let of = |repository: &Repository| WalArchive::new(repository, "main", "7");
    let encoding = Encoding::of(&crate::test_options());
    let file = |number: u32| format!("0000000100000000{number:08X}");
    let find = async |number: u32| of(&reader).find(&WalFile::parse(&file(number)).unwrap()).await;
    let untrusted = |found: Result<Option<WalObject>, Error>| match found {
        Err(Error::Untrusted { object, reason }) => format!("{object}: {reason}"),
        other => panic!("{other:?}"),
    };

    // 1 is from before; 2 is signed; 3 is somebody else's, and it keeps ours from being archived for nobody.
    assert!(stored(&of(&before), &encoding, &file(1), b"before").await.unwrap());
    assert!(stored(&of(&ours), &encoding, &file(2), b"ours").await.unwrap());
    assert!(!stored(&of(&ours), &encoding, &file(2), b"ours").await.unwrap());
    assert!(stored(&of(&forger), &encoding, &file(3), b"forged").await.unwrap());
    assert!(untrusted(find(1).await).contains("it has no signature"));
    assert!(untrusted(find(3).await).contains("no key among trusted-keys"));
    assert!(stored(&of(&ours), &encoding, &file(3), b"real").await.unwrap());
    assert_eq!(of(&reader).get(&find(3).await.unwrap().unwrap()).await.unwrap(), "real");
    let contents = of(&reader).contents().await.unwrap();
    assert_eq!((contents.believed.len(), contents.untrusted.len()), (2, 2));
    assert_eq!(of(&reader).list().await.unwrap(), contents.believed);
    // Who signs nothing stores nothing that nobody would believe, and what is there is there.
    let refused = stored(&of(&reader), &encoding, &file(9), b"unsigned").await;
    assert!(matches!(refused, Err(Error::Signing(_))), "{refused:?}");
    assert!(!stored(&of(&reader), &encoding, &file(2), b"ours").await.unwrap());
    // Who checks nothing sees it all, and so did every version before.
    assert_eq!(of(&before).list().await.unwrap().len(), 4);

    // The same object under another name and in another cluster.
    let whole = find(2).await.unwrap().unwrap();
    let moved = whole.key.replace(&file(2), &file(4));
    let root = directory.path().join("repository");
    std::fs::copy(root.join(&whole.key), root.join(&moved)).unwrap();
    assert!(untrusted(find(4).await).contains("no key among trusted-keys"));
    let elsewhere = root.join(whole.key.replacen("main/7/", "main/8/", 1));
    std::fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    std::fs::copy(root.join(&whole.key), elsewhere).unwrap();
    let found = WalArchive::new(&reader, "main", "8").find(&WalFile::parse(&file(2)).unwrap()).await;
    assert!(untrusted(found).contains("no key among trusted-keys"));

    // What is signed later, copied, or was waiting elsewhere.
    let old = of(&before).find(&WalFile::parse(&file(1)).unwrap()).await.unwrap().unwrap();
    assert!(of(&ours).sign(&old).await.unwrap());
    let signed = find(1).await.unwrap().unwrap();
    assert!(signed.key == old.key && !of(&ours).sign(&signed).await.unwrap());
    let key = WalArchive::signed_key(&ours, &old.key).unwrap();
    assert!(key.contains(signed.signature.as_ref().unwrap()) && key.ends_with(".zst"), "{key}");
    assert_eq!(WalArchive::signed_key(&ours, &key).unwrap(), key);
    of(&reader).remove(&signed).await.unwrap();
    let left = of(&before).contents().await.unwrap();
    assert!(left.believed.iter().all(|object| object.file != signed.file) && find(1).await.unwrap().is_none());
    assert!(storage.list("main/7/wal").await.unwrap().iter().all(|(key, _)| !key.ends_with(SIGNED)));
}

#[tokio::test]
async fn c36_no_more_is_decoded_than_a_file_of_wal_can_have() {
    let directory = tempfile::tempdir().unwrap();
    let options = crate::test_options();
    let repository = Repository::on("r", &options, Arc::new(Local::new(directory.path(), Directories::Synced)));
    let (archive, encoding) = (WalArchive::new(&repository, "main", "7"), Encoding::of(&options));
    let mut segment = vec![0; 1 << 20];
    segment[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    let bomb = segment.iter().copied().chain([0]).collect();
    for (name, bytes, is_whole) in [
        ("000000010000000000000001", segment, true),
        ("000000010000000000000002", bomb, false),
        ("000000010000000000000003", vec![0; (16 << 20) + 1], false),
        ("00000002.history", vec![b'\n'; (1 << 20) + 1], false),
    ] {
        stored(&archive, &encoding, name, bytes.leak()).await.unwrap();
        let object = archive.find(&WalFile::parse(name).unwrap()).await.unwrap().unwrap();
        let read = archive.get(&object).await;
        assert_eq!(read.is_ok(), is_whole, "{name}");
        assert!(is_whole || read.unwrap_err().to_string().contains("more than"), "{name}");
    }
}
