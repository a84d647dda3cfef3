//! C36: links that somebody puts into a share lead nobody out of it, whenever they are put there.

use crate::{
    stores::Store,
    support::{directory, output},
};
use bytes::Bytes;
use pgbosun_repository::{Error, Storage, local_repository, read_object, storage, write_object};
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Everything below a directory.
fn contents(directory: &Path) -> String {
    output(Command::new("find").arg(directory).args(["-printf", "%P %y %s %T@\n"]))
}

fn is_foreign<T>(done: Result<T, Error>) -> bool {
    match done {
        Err(error @ Error::Damaged { .. }) => error.to_string().contains("find out who put it there"),
        _ => false,
    }
}

#[test]
fn c36_a_link_in_a_share_leads_nobody_out_of_it_over_sftp_either() {
    let directory = directory();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sftp = Store::start(directory.path(), "sftp");
    let root = directory.path().join("local");
    let local = local_repository(&root).unwrap();
    for (options, root) in [(sftp.options(), sftp.root()), (local, root)] {
        let victim = root.with_extension("victim");
        fs::create_dir_all(victim.join("b")).unwrap();
        fs::write(victim.join("b/object"), "precious").unwrap();
        let storage = storage::open("links", &options, None).unwrap();
        runtime.block_on(links(storage, &root, &victim));
    }
    // What the protocol leaves to chance is told where others than the account can try.
    let options = sftp.options();
    let root = sftp.root();
    let storage = storage::open("links", &options, None).unwrap();
    // A group that is the account's own has its number.
    let found = fs::metadata(&root).unwrap();
    let shared = found.uid() != found.gid();
    for (mode, is_exposed) in [("700", false), ("755", false), ("775", shared), ("757", true), ("1777", false)] {
        output(Command::new("chmod").arg(mode).arg(&root));
        let told = runtime.block_on(storage.exposed()).unwrap();
        assert!(told.is_some() == is_exposed && told.is_none_or(|told| told.contains("chmod go-w")), "{mode}");
    }
}

async fn links(storage: Arc<dyn Storage>, root: &Path, victim: &Path) {
    let before = contents(victim);
    for key in ["a/b/object", "a/b/other"] {
        write_object(storage.as_ref(), key, &b"ours"[..]).await.unwrap();
    }

    // A directory that was listed becomes a link, and one under which nothing is there yet is one.
    let listed = storage.list("a").await.unwrap();
    assert_eq!(listed.len(), 2);
    let mut begun = storage.create("a/b/new").await.unwrap();
    begun.write(Bytes::from_static(b"new")).await.unwrap();
    fs::rename(root.join("a/b"), root.join("a/real")).unwrap();
    symlink(victim.join("b"), root.join("a/b")).unwrap();
    symlink(victim, root.join("whole")).unwrap();
    for (key, _) in &listed {
        assert!(is_foreign(storage.open(key).await) && is_foreign(storage.stat(key).await));
        assert!(is_foreign(storage.delete(key).await), "{key}");
    }
    for key in ["a/b/made", "whole/made", "whole/made/of/many"] {
        assert!(is_foreign(storage.create(key).await), "{key}");
    }
    for prefix in ["a/b", "whole", "whole/b"] {
        assert!(storage.list(prefix).await.unwrap().is_empty() && storage.names(prefix).await.unwrap().is_empty());
        assert_eq!(storage.delete_unfinished(prefix).await.unwrap(), 0);
    }
    assert_eq!(contents(victim), before);
    fs::remove_file(root.join("whole")).unwrap();
    fs::remove_file(root.join("a/b")).unwrap();

    // While something is written its directory goes elsewhere, with what is unfinished in it, and a link leads there.
    let elsewhere = root.with_extension("elsewhere");
    fs::rename(root.join("a/real"), &elsewhere).unwrap();
    symlink(&elsewhere, root.join("a/b")).unwrap();
    fs::write(elsewhere.join("new"), "precious").unwrap();
    let finished = begun.finish().await;
    // A local one holds the directory itself, wherever that is; by a path it is not found there.
    let is_local = finished.is_ok();
    assert!(is_local || is_foreign(finished));
    assert!(is_local || fs::read_to_string(elsewhere.join("new")).unwrap() == "precious");
    assert!(is_local || storage.names("a/b").await.unwrap().is_empty());
    fs::remove_file(root.join("a/b")).unwrap();
    fs::create_dir(root.join("a/b")).unwrap();

    // A file is exchanged for a link and back all the time: what is read is ours, or nothing.
    fs::write(root.join("kept"), "ours").unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let attacker = std::thread::spawn({
        let (over, root, victim) = (Arc::clone(&over), root.to_owned(), victim.join("b/object"));
        move || {
            let (planted, object) = (root.join("planted"), root.join("a/b/object"));
            for turn in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if turn % 8 == 0 {
                    // Left alone for a while, and longer from time to time: the slowest reader has its turn, too.
                    std::thread::sleep(std::time::Duration::from_millis(turn / 8 % 200));
                }
                symlink(&victim, &planted).unwrap();
                fs::rename(&planted, &object).unwrap();
                fs::hard_link(root.join("kept"), &planted).unwrap();
                fs::rename(&planted, &object).unwrap();
            }
        }
    });
    let (mut opened, mut tries) = (0, 0);
    while tries < 100 || (opened == 0 && tries < 5000) {
        tries += 1;
        match read_object(storage.as_ref(), "a/b/object").await {
            Ok(read) => {
                assert_eq!(read, b"ours");
                opened += 1;
            }
            Err(error) => assert!(!error.to_string().contains("precious")),
        }
    }
    over.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
    assert!(opened > 0, "it is never read at all");
    // Removed is the name, whichever lies under it.
    storage
        .delete("a/b/object")
        .await
        .or_else(|error| if is_foreign::<()>(Err(error)) { Ok(()) } else { Err(()) })
        .unwrap();
    assert_eq!(contents(victim), before);
}
