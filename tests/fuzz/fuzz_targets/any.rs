//! One program for all fuzz targets, since to link one takes longest: `PGBOSUN_FUZZ_TARGET` names the target, and without a known name
//! the names are printed.

#![no_main]

use std::sync::LazyLock;

const TARGETS: [(&str, fn(&[u8])); 12] = [
    ("archive", pgbosun_repository::fuzz::archive),
    ("catalogue", pgbosun_repository::fuzz::catalogue),
    ("configuration", pgbosun_daemon::fuzz::configuration),
    ("conninfo", pgbosun_postgres::fuzz::conninfo),
    ("cron", pgbosun_core::fuzz::cron),
    ("human", pgbosun_core::fuzz::human),
    ("log_csv", pgbosun_jobs::fuzz::log_csv),
    ("log_json", pgbosun_jobs::fuzz::log_json),
    ("log_stderr", pgbosun_jobs::fuzz::log_stderr),
    ("manifest", pgbosun_backup::fuzz::manifest),
    ("replication", pgbosun_postgres::fuzz::replication),
    ("wal", pgbosun_backup::fuzz::wal),
];

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("PGBOSUN_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target).unwrap_or_else(|| {
        TARGETS.iter().for_each(|(name, _)| println!("{name}"));
        std::process::exit(64);
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
