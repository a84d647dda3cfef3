//! The unit in a booted systemd: each situation is one boot of `tests/tools/systemd-box.sh`. Needs root.

use crate::support::file;
use std::process::Command;

fn held(situation: &str) {
    let done = Command::new(file("tests/tools/systemd-box.sh"))
        .arg(file("tests/tools/systemd-scenarios.sh"))
        .arg(situation)
        .env("BOX_TIMEOUT", "240")
        .output()
        .expect("systemd-box.sh");
    let words = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success() && words.contains(&format!("held: {situation}")),
        "{words}{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn start_status_and_hardening() {
    held("start-and-status");
}

/// Reference 000 (its lines by id): 000-S9.
#[test]
fn what_the_configuration_names_can_be_written_also_as_another_user() {
    held("configured-paths");
}

#[test]
fn reload_good_and_bad() {
    held("reload");
}

#[test]
fn a_stalled_scheduler_leads_to_a_restart_and_a_long_job_does_not() {
    held("stall-scheduler");
}

#[test]
fn a_stalled_delivery_leads_to_a_restart_and_a_dead_database_does_not() {
    held("stall-delivery");
}

#[test]
fn kill() {
    held("kill");
}

#[test]
fn stop_during_a_job() {
    held("stop-during-job");
}

#[test]
fn stop_while_postgresql_is_down() {
    held("stop-without-postgresql");
}

#[test]
fn c26_full_disks_under_repository_and_journal() {
    held("full-disk");
}

#[test]
fn c26_disks_that_fill_anywhere_in_backup_push_and_restore() {
    held("full-disk-anywhere");
}

#[test]
fn c35_a_share_that_comes_goes_and_is_replaced_is_the_one_that_is_written_to() {
    held("share-comes-and-goes");
}

#[test]
fn journal_fields_and_credentials() {
    held("journal");
}

#[test]
fn mail_through_postfix() {
    held("postfix");
}
