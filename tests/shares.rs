//! C35: what one repository refuses costs the others nothing, and the run says what is missing where.

use crate::support::{Cluster, Installation, MAIL, cluster_and_repository, directory, output};
use std::process::Command;

#[test]
fn c35_a_share_that_is_read_only_costs_the_local_copy_nothing_and_the_run_says_partly() {
    let directory = directory();
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let configuration = format!(
        "{MAIL}{}[repositories.share]\ntype = \"local\"\npath = \"{{dir}}/share\"\nrequired = false\n\
         [jobs.full]\nkind = \"backup.physical\"\nrepositories = [\"local\", \"share\"]\nretries = 0\n",
        cluster_and_repository(&cluster)
    );
    let installation = Installation::new(directory.path(), &configuration);
    installation.run(&["backup", "create"]);
    let share = directory.path().join("share");
    let mode = |mode: &str| output(Command::new("chmod").args(["-R", mode]).arg(&share));
    mode("a-w");
    cluster.sql("create table t as select 1 a");
    cluster.archive_all();
    let said = installation.run(&["backup", "create"]);
    assert!(said.contains("to local: ") && said.contains("partly: it is not in share"), "{said}");
    let found = "select severity || ' ' || object from findings where object like 'copy in%'";
    assert_eq!(installation.journal(found), "warning copy in share");
    cluster.archive_all();
    mode("u+w");
    installation.run(&["backup", "create"]);
    assert_eq!(installation.json(&["backup", "list"]).as_array().map(Vec::len), Some(5));
}
