//! Which server a repository holds under a cluster's name, as somebody else may have left it.

use super::*;
use crate::{
    EncodedWal, Encoding,
    storage::{Directories, Local},
};
use pgbosun_core::wal::WalFile;
use std::{fs, path::Path};

async fn encoded(file: &WalFile) -> EncodedWal {
    let encoding = Encoding::of(&crate::test_options());
    EncodedWal::of(&encoding, &Arc::default(), file, &"0".repeat(64), b"history").await.unwrap()
}

#[tokio::test]
async fn c10_c36_only_what_is_believed_stands_for_another_server() {
    let directory = tempfile::tempdir().unwrap();
    let (root, key) = (directory.path().join("repository"), directory.path().join("key"));
    let pair = crate::signature::test_key(1);
    fs::write(&key, pair.to_openssh(ssh_key::LineEnding::LF).unwrap()).unwrap();
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let open = |signs: bool, checks: bool| {
        let mut options = crate::test_options();
        options.signing_key_file = signs.then(|| key.clone());
        options.trusted_keys = checks.then(|| pair.public_key().to_openssh().unwrap()).into_iter().collect();
        Repository::on("r", &options, Arc::new(Local::new(&root, Directories::Synced)))
    };
    let (plain, ours) = (open(false, false), open(true, true));
    let is_other = async |repository: &Repository| match repository.check_system_id("main", "7").await {
        Ok(()) => false,
        Err(Error::OtherSystem { .. }) => true,
        Err(error) => panic!("{error}"),
    };
    let put = |path: &str, bytes: &str| {
        let path = root.join("main").join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, bytes).unwrap();
    };

    // Names, whatever lies under them.
    fs::create_dir_all(root.join("main/1/backups/x")).unwrap();
    put("2", "a file");
    put("3/backups/x/backup.json", "[]");
    put("4/wal/00000001/what", "ever");
    assert!(!is_other(&plain).await && !is_other(&ours).await);
    assert_eq!(plain.system_ids("main").await.unwrap(), ["1", "3", "4"]);

    // WAL that anybody can write stands for a server where no signature is checked.
    let file = WalFile::parse("00000002.history").unwrap();
    WalArchive::new(&plain, "main", "5").put(&file, &encoded(&file).await).await.unwrap();
    assert!(is_other(&plain).await && !is_other(&ours).await);
    WalArchive::new(&ours, "main", "6").put(&file, &encoded(&file).await).await.unwrap();
    assert!(is_other(&ours).await);

    // Garbage is nobody's acceptance for those who know whom to believe.
    put("7/accepted.json", "garbage");
    assert!(is_other(&ours).await && !is_other(&plain).await);
    let keep = Keep { by: "a".into(), at: pgbosun_core::clock::now(), reason: "b".into() };
    plain.accept_system_id("main", "7", &keep).await.unwrap();
    assert!(is_other(&ours).await);
    ours.accept_system_id("main", "7", &keep).await.unwrap();
    assert!(!is_other(&ours).await);
}
