//! The files of the data directory and the WAL of the archive are a backup without any replication connection.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, postgres, seconds, wait_until};
use std::{fs, process::Command};

#[test]
fn c14_files_with_wal_from_the_archive_need_no_replication_connection_and_no_right_to_one() {
    let directory = directory();
    let settings = format!("{}max_replication_slots = 0\n", Cluster::archiving(directory.path()));
    let archive = "source = \"files\"\nwal = \"archive\"\narchive-timeout = \"1m\"\n";
    let configuration = |jobs: &str| {
        let base = cluster_and_repository(&Cluster::nowhere_at(directory.path()));
        let base = base.replace("user=postgres", "user=bosun").replace("user = \"postgres\"", "user = \"bosun\"");
        assert!(base.contains("user=bosun"), "{base}");
        format!("{base}{jobs}")
    };
    let full = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &configuration(&format!("{full}{archive}")));
    let cluster = Cluster::start_with(directory.path(), &settings);
    for statement in [
        "create role bosun login in role pg_monitor, pg_checkpoint",
        "grant execute on function pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_read_file(text), pg_switch_wal(), \
         pg_create_restore_point(text) \
         to bosun",
        "create table t as select generate_series(1, 100) as id",
    ] {
        cluster.sql(statement);
    }
    fs::write(cluster.data.join("pg_hba.conf"), "local replication all reject\nlocal all all trust\n").unwrap();
    cluster.sql("select pg_reload_conf()");
    wait_until("replication is rejected", seconds(10), || {
        let connection = format!("{} replication=true", cluster.connection());
        let refused =
            Command::new(postgres("psql")).arg("-d").arg(connection).args(["-Xc", "IDENTIFY_SYSTEM"]).output();
        String::from_utf8_lossy(&refused.unwrap().stderr).contains("pg_hba.conf rejects")
    });

    let plan = installation.run(&["job", "run", "full", "--dry-run"]);
    assert!(plan.contains("the data directory"), "{plan}");
    installation.run(&["backup", "create"]);
    installation.run(&["backup", "verify"]);
    let checked = String::from_utf8_lossy(&installation.try_run(&["check"]).stdout).into_owned();
    assert!(!checked.contains("replicat") && checked.contains("critical=0"), "{checked}");
    let target = directory.path().join("restored");
    installation.run(&["restore", "physical", "--to", target.to_str().unwrap(), "--latest"]);

    // Where a connection is needed the reason is told.
    installation.configure(&configuration(&format!("{full}source = \"stream\"\nwal = \"archive\"\n")));
    let done = installation.try_run(&["backup", "create"]);
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(!done.status.success() && words.contains("pg_hba.conf rejects replication connection"), "{words}");
    let checked = String::from_utf8_lossy(&installation.try_run(&["check"]).stdout).into_owned();
    assert!(checked.contains("bosun may not replicate") && checked.contains("no replication connection"), "{checked}");
}
