//! C29: a copy of a logical subscriber leaves the changes that the publisher has for the original where they are.

use crate::support::{
    Cluster, Installation, backup_and_restore_test, cluster_and_repository, directory, seconds, wait_until,
};
use std::fs;

#[test]
fn c29_a_copy_of_a_subscriber_takes_no_changes_meant_for_the_original() {
    let directory = directory();
    let place = directory.path().join("p");
    fs::create_dir(&place).unwrap();
    let publisher = Cluster::start_with(&place, "wal_level = logical\nlog_replication_commands = on");
    let cluster = Cluster::start_with(directory.path(), &Cluster::archiving(directory.path()));
    let jobs = backup_and_restore_test();
    let installation = Installation::new(directory.path(), &format!("{}{jobs}", cluster_and_repository(&cluster)));
    let publish = |number: u32| publisher.sql(&format!("insert into t values ({number})"));
    let rows = "select string_agg(a::text, ',' order by a) from t";
    let received = |rows_there: &str| {
        wait_until("the subscriber has it all", seconds(60), || cluster.sql(rows) == rows_there);
    };
    publisher.sql("create table t (a int primary key)");
    publisher.sql("create publication p for table t");
    publish(1);
    cluster.sql("create table t (a int primary key)");
    cluster.sql(&format!("create subscription s connection '{}' publication p", publisher.connection()));
    received("1");
    wait_until("its first copy is over", seconds(60), || {
        cluster.sql("select bool_and(srsubstate = 'r') from pg_subscription_rel") == "t"
    });
    installation.run(&["backup", "create"]);
    cluster.archive_all();

    // The original is down for a moment, so that nothing but its copies could take what comes.
    cluster.stop();
    let streams = || fs::read_to_string(place.join("pg.log")).unwrap().matches("START_REPLICATION").count();
    let slot = "select active, confirmed_flush_lsn from pg_replication_slots";
    let (begun, left) = (streams(), publisher.sql(slot));
    assert!(begun > 0 && left.starts_with("f|"), "{begun} streams, {left}");
    publish(2);
    let told = installation.run(&["restore-test"]);
    assert!(told.contains("1 row"), "{told}");
    let target = directory.path().join("copy");
    let told = installation.run(&["restore", "physical", "--to", target.to_str().unwrap()]);
    let copy = Cluster::beside(&cluster, &target, &told);
    copy.recovered();
    // Its subscription is there, enabled as it was: what it needs is not.
    assert_eq!(copy.sql("select subenabled from pg_subscription"), "t");
    publish(3);
    let workers = "select count(*) from pg_stat_activity where backend_type like 'logical replication%'";
    assert_eq!(copy.sql(workers), "0", "not even the one that would start the others");
    assert_eq!(copy.sql(rows), "1");
    assert_eq!((streams(), publisher.sql(slot)), (begun, left), "nobody asked the publisher for anything");

    // The original gets every change, while its copy runs beside it.
    cluster.up();
    received("1,2,3");
    publish(4);
    received("1,2,3,4");
    assert_eq!(copy.sql(rows), "1");
    drop(copy);

    // What takes its place takes its changes too.
    cluster.archive_all();
    cluster.stop();
    publish(5);
    let data = cluster.data.to_str().unwrap();
    installation.run(&["restore", "physical", "--in-place", "--force", "--to", data]);
    cluster.up();
    received("1,2,3,4,5");
}
