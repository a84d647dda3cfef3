//! Log rotation on real files, beside a server that collects its own log.

use crate::support::{Cluster, Installation, directory, output, seconds, wait_until};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::{Command, Stdio},
};

/// Reference 000 (its lines by id): 000-L1, 000-L2, 000-L3, 000-L4, 000-S5, 000-D4.
#[test]
fn logs_are_rotated_compressed_and_removed_and_open_ones_stay() {
    let directory = directory();
    let log = directory.path().join("log");
    let temporary = directory.path().join("temporary");
    fs::create_dir(&log).unwrap();
    fs::create_dir(&temporary).unwrap();
    let cluster = Cluster::start_with(
        directory.path(),
        &format!("logging_collector = on\nlog_directory = '{}'\nlog_filename = 'postgresql-%S.log'", log.display()),
    );
    let installation = Installation::new(
        directory.path(),
        &format!(
            "[clusters.main]\nconnection = \"{}\"\nlog-directory = \"{{dir}}/log\"\n\
             [jobs.rotate]\nkind = \"logs.rotate\"\ntemporary-directories = [\"{{dir}}/temporary\"]\n\
             [jobs.gzip]\nkind = \"logs.rotate\"\ncompression = \"gzip\"\ncompress-after = \"1d\"\n\
             [jobs.daily]\nkind = \"logs.rotate\"\nremove-after = \"30d\"\n",
            cluster.connection()
        ),
    );
    let text = "2026-01-01 00:00:00 UTC LOG:  the same words again and again\n".repeat(5000);
    let file = |name: &str, days: u32| {
        let path = log.join(name);
        fs::write(&path, &text).unwrap();
        output(Command::new("touch").args(["-d", &format!("{days} days ago")]).arg(&path));
        path
    };
    let (young, week, open) = (file("young.log", 2), file("week.csv", 8), file("open.log", 20));
    let (ancient, compressed, other) = (file("ancient.log.3.gz", 91), file("done.log.gz", 31), file("notes.txt", 200));
    for name in ["old", "new"] {
        fs::write(temporary.join(name), "x").unwrap();
    }
    output(Command::new("touch").args(["-d", "25 hours ago"]).arg(temporary.join("old")));
    let before = fs::metadata(&week).unwrap();
    let mut holder =
        Command::new("sleep").arg("60").stdin(fs::File::open(&open).unwrap()).stdout(Stdio::null()).spawn().unwrap();
    let current = || cluster.sql("select pg_current_logfile()");
    let collected = current();

    let told = installation.run(&["job", "run", "rotate", "--dry-run"]);
    for expected in [
        format!("compress {}", week.display()),
        format!("remove {}", ancient.display()),
        "would start a new log file".into(),
    ] {
        assert!(told.contains(&expected), "{expected}: {told}");
    }
    // The other age that reference 000 names.
    assert!(!told.contains(&format!("remove {}", compressed.display())), "{told}");
    let daily = installation.run(&["job", "run", "daily", "--dry-run"]);
    assert!(daily.contains(&format!("remove {}", compressed.display())), "{daily}");
    assert!(week.exists() && ancient.exists());

    std::thread::sleep(std::time::Duration::from_millis(1100));
    let told = installation.run(&["job", "run", "rotate"]);
    for expected in [
        "started a new log file",
        "1 file compressed",
        "1 file removed",
        "1 temporary file removed",
        "1 old file left alone",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    wait_until("the server writes another file", seconds(10), || current() != collected);
    let whole = log.join("week.csv.zst");
    let after = fs::metadata(&whole).unwrap();
    assert_eq!((after.mtime(), after.uid(), after.mode() & 0o777), (before.mtime(), before.uid(), 0o640));
    assert_eq!(output(Command::new("zstd").args(["-dcq"]).arg(&whole)), text);
    assert!(young.exists() && open.exists() && compressed.exists() && other.exists());
    assert!(!week.exists() && !ancient.exists() && !temporary.join("old").exists() && temporary.join("new").exists());
    for entry in fs::read_dir(&log).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        // The server may create its own at any moment.
        let own = entry.file_name().to_string_lossy().starts_with("postgresql");
        assert!(mode == 0o640 || own || entry.file_name() == "notes.txt", "{:?} {mode:o}", entry.file_name());
    }

    // When nobody has it open any more, and with gzip.
    holder.kill().unwrap();
    holder.wait().unwrap();
    installation.run(&["job", "run", "gzip"]);
    assert!(!open.exists() && !young.exists());
    assert_eq!(output(Command::new("gzip").args(["-dc"]).arg(log.join("open.log.gz"))), text);

    // A name that comes again, and one whose compression was interrupted at the last moment.
    let (again, interrupted) = (file("week.csv", 9), log.join("young.log"));
    output(Command::new("gzip").args(["-dk"]).arg(log.join("young.log.gz")));
    assert!(interrupted.exists());
    output(Command::new("touch").arg("-r").arg(log.join("young.log.gz")).arg(&interrupted));
    installation.run(&["job", "run", "gzip"]);
    installation.run(&["job", "run", "rotate"]);
    assert!(!again.exists() && !interrupted.exists());
    let kept = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut kept: Vec<_> = kept.filter(|name| name.starts_with("week") || name.starts_with("young")).collect();
    kept.sort();
    assert_eq!(kept, ["week.csv.gz", "week.csv.zst", "young.log.gz"]);
    file("week.csv", 10);
    installation.run(&["job", "run", "rotate"]);
    let dated = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(dated.filter(|name| name.starts_with("week.csv.2") && name.ends_with(".zst")).count(), 1);

    // A server that is away is no reason to let its logs grow.
    file("later.log", 8);
    cluster.down();
    let told = installation.run(&["job", "run", "rotate"]);
    assert!(told.contains("was not rotated: connect to") && told.contains("1 file compressed"), "{told}");
}
