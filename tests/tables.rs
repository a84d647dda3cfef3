//! Parts of a cluster brought back: a partitioned table with all its rows, names as SQL has them, files that nobody else can read or
//! redirect meanwhile.

use crate::support::{Cluster, Installation, cluster_and_repository, directory, postgres};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

#[test]
fn c36_a_partitioned_table_comes_back_whole_by_its_name_in_sql_and_through_no_link() {
    let directory = directory();
    let cluster = Cluster::start(directory.path());
    let job = "[jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\"]\n";
    let installation = Installation::new(directory.path(), &format!("{}{job}", cluster_and_repository(&cluster)));
    for statement in [
        "create schema other",
        "create table \"Or.ders\"(id bigint, at date) partition by range (at)",
        "create table other.first partition of \"Or.ders\" for values from ('2026-01-01') to ('2026-07-01')",
        "create table second partition of \"Or.ders\" for values from ('2026-07-01') to ('2027-01-01') partition by hash (id)",
        "create table \"q\"\"a\" partition of second for values with (modulus 2, remainder 0)",
        "create table b partition of second for values with (modulus 2, remainder 1)",
        "insert into \"Or.ders\" select g, date '2026-01-01' + g from generate_series(1, 300) g",
        "create database rescue",
    ] {
        cluster.sql(statement);
    }
    installation.run(&["backup", "create"]);
    let programs = postgres("").display().to_string();
    let restore = |arguments: &[&str]| {
        let done =
            installation.try_run(&[&["restore", "table", "--program-directory", &programs][..], arguments].concat());
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let shared = directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    let (file, victim) = (shared.join("o.sql"), directory.path().join("victim"));
    fs::write(&victim, "precious").unwrap();
    // Names that a dump may have had while it is being written.
    for name in ["o.pgbosun-unfinished", "o.sql.pgbosun-unfinished", ".o.sql.pgbosun-unfinished"] {
        symlink(&victim, shared.join(name)).unwrap();
    }
    let name = "postgres.public.\"Or.ders\"";
    let (code, said) = restore(&[name, "--to", file.to_str().unwrap()]);
    assert!(code == Some(0) && said.contains("300 rows in the recovered state, 300 written"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.contains("\n\\restrict "), !said.contains("CVE-2025-8714"), "{said}");
    assert!(text.contains("CREATE TABLE other.first") && text.contains("CREATE TABLE public.\"q\"\"a\""));

    let rescue = cluster.connection().replace("dbname=postgres", "dbname=rescue");
    let sql = |statement: &str| {
        let mut command = std::process::Command::new(postgres("psql"));
        crate::support::output(command.arg("-d").arg(&rescue).args(["-XAtqc", statement])).trim().to_owned()
    };
    sql("create schema other");
    let (code, said) = restore(&[name, "--into", "rescue"]);
    assert!(code == Some(0) && said.contains("300 rows in the recovered state, 300 written"), "{said}");
    assert!(said.contains("loaded as the superuser postgres"), "{said}");
    assert_eq!(sql("select count(*) from \"Or.ders\""), "300");

    let (code, said) = restore(&["postgres.public.Or.ders", "--to", file.to_str().unwrap()]);
    assert!(code == Some(64) && said.contains("quoted as in SQL"), "{said}");
    let (code, said) = restore(&["postgres.public.nope", "--to", shared.join("n.sql").to_str().unwrap()]);
    assert!(code != Some(0) && said.contains("nope") && !shared.join("n.sql").exists(), "{said}");
}
