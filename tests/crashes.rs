//! `kill -9` of the daemon at random moments of a busy schedule: no run without exactly one end, no row lost or doubled,
//! no listed backup that does not verify.

use crate::{
    delivery::until_the_same_rows,
    support::{Cluster, Installation, MAIL, cluster_and_repository, directory, last_lines, seconds, wait_until},
};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

const ROUNDS: u32 = 50;

/// A small generator (SplitMix64), so that a printed seed repeats the choice of moments.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

#[test]
fn fifty_kills_lose_and_double_nothing() {
    let seed = std::env::var("PGBOSUN_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64)
    });
    println!("seed {seed}: PGBOSUN_TEST_SEED={seed} repeats the moments");
    let mut random = Random(seed);
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    cluster.pgbench(15);
    // Compression slow enough that a backup takes a second or two.
    let configuration = format!(
        "[history]\nconnection = \"{}\"\n{}compression-level = 9\n{MAIL}\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\nretention = {{ count = 6 }}\n\
         [jobs.connectivity]\nkind = \"monitor.connectivity\"\nschedule = \"* * * * * *\"\n\
         [jobs.quick]\nkind = \"command\"\nprogram = \"/bin/true\"\nschedule = \"* * * * * *\"\ncatch-up = \"once\"\n\
         [jobs.failing]\nkind = \"command\"\nprogram = \"/bin/false\"\nschedule = \"*/2 * * * * *\"\n\
         [jobs.slow]\nkind = \"command\"\nprogram = \"/bin/sleep\"\narguments = [\"1.5\"]\nschedule = \"*/3 * * * * *\"\n",
        cluster.connection(),
        cluster_and_repository(&cluster)
    );
    let mut installation = Installation::new(directory.path(), &configuration);
    let socket = directory.path().join("control.sock");
    let (mut in_backup, mut in_delivery) = (0, 0);
    for round in 0..ROUNDS {
        let _ = fs::remove_file(&socket);
        // Leases of the dead stay until the next backup: only a new one says that a backup is being taken.
        let stale = leases(directory.path());
        let taking = || leases(directory.path()).difference(&stale).count() > 0;
        installation.spawn();
        let begun = Instant::now();
        while !socket.exists() {
            assert!(begun.elapsed() < seconds(60), "no socket in round {round}:\n{}", last_lines(&installation.log()));
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut moment = Duration::from_millis(300 + random.below(1200));
        // Not every attempt hits: the later rounds make up for those of delivery that did not.
        let kind = if round >= ROUNDS - 14 && in_delivery < 10 { 2 } else { round % 5 };
        match kind {
            // Within a backup: after its lease is there, before the backup is.
            0 | 1 => {
                let _ = installation.try_run(&["job", "run", "full"]);
                let begun = Instant::now();
                while begun.elapsed() < seconds(5) && !taking() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                moment = Duration::from_millis(random.below(700));
            }
            // Within delivery: its transaction is held up by a lock of ours, and the rest of the daemon goes on.
            2 => {
                wait_until("dba_ops", seconds(20), || {
                    cluster.sql("select to_regclass('dba_ops.job_runs') is not null") == "t"
                });
                let lock = "begin; lock table dba_ops.job_runs in exclusive mode; select pg_sleep(30)";
                let mut psql = std::process::Command::new(crate::support::postgres("psql"));
                let mut holder = psql
                    .arg("-d")
                    .arg(cluster.connection())
                    .args(["-XAtqc", lock])
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap();
                let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%dba_ops.job_runs%'";
                let begun = Instant::now();
                while begun.elapsed() < seconds(20) && cluster.sql(waiting) == "0" {}
                if cluster.sql(waiting) != "0" {
                    in_delivery += 1;
                    installation.kill();
                }
                let _ = holder.kill();
                let _ = holder.wait();
                cluster.sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%lock table dba_ops%' and pid <> pg_backend_pid()");
                moment = Duration::ZERO;
            }
            _ => {}
        }
        std::thread::sleep(moment);
        // Counted only where the backup was still going on when the daemon was dead.
        installation.kill();
        if taking() {
            in_backup += 1;
        }
        // Every few rounds a backup may end.
        if round % 8 == 7 {
            installation.start();
            let done = installation.run(&["backup", "create"]);
            assert!(done.contains("succeeded"), "{done}");
            installation.kill();
        }
    }
    println!("{ROUNDS} kills, {in_backup} of them within a backup, {in_delivery} within delivery");
    installation.start();
    installation.run(&["job", "pause", "--all"]);
    installation.run(&["backup", "create"]);
    wait_until("nothing runs", seconds(20), || {
        installation.journal("select count(*) from runs where finished_at is null") == "0"
    });

    let doubled = "select count(*) from (select 1 from runs where trigger in ('schedule', 'catch-up') group by job, scheduled_for having count(*) > 1)";
    assert_eq!(installation.journal(doubled), "0");
    assert_eq!(installation.journal("select count(*) from runs where state in ('queued', 'running')"), "0");
    assert_ne!(installation.journal("select count(*) from runs where state = 'interrupted'"), "0");
    assert_eq!(installation.journal("select count(*) from (select 1 from alerts where state <> 'resolved' group by fingerprint having count(*) > 1)"), "0");
    // No time of the schedule is without a row, from the first to the last.
    let gaps = "select count(*) from (select strftime('%s', scheduled_for) - lag(strftime('%s', scheduled_for)) over (order by scheduled_for) as step from runs where job = 'quick' and trigger in ('schedule', 'catch-up')) where step > 1";
    assert_eq!(installation.journal(gaps), "0");
    until_the_same_rows(&installation, &cluster, seconds(60));
    let listed = installation.json(&["backup", "list"]);
    let listed = listed.as_array().unwrap().len();
    installation.run(&["backup", "verify", "--all"]);
    assert!(leases(directory.path()).is_empty(), "leftovers are removed");
    let unfinished = crate::support::output(
        std::process::Command::new("find").arg(directory.path().join("repo")).args(["-name", ".*unfinished"]),
    );
    assert!(unfinished.is_empty(), "{unfinished}");
    println!("{listed} backups listed, all verified");
    assert!(
        listed >= 5 && in_backup >= 10 && in_delivery >= 10,
        "{listed} backups, {in_backup} kills in backups, {in_delivery} in delivery"
    );
}

/// The names of the leases in the repository.
fn leases(directory: &Path) -> BTreeSet<String> {
    let systems = fs::read_dir(directory.join("repo/main")).into_iter().flatten().flatten();
    let leases = systems.flat_map(|system| fs::read_dir(system.path().join("leases")).into_iter().flatten().flatten());
    leases
        .map(|lease| lease.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".json"))
        .collect()
}
