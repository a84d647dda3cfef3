//! `make demo`: what a new user sees first works to its end.

use crate::support::{directory, output, program};
use std::process::Command;

#[test]
fn the_demo_shows_the_whole_program_and_stops_what_it_started() {
    let directory = directory();
    let place = directory.path().join("demo");
    let said = output(Command::new(program()).args(["demo", "--directory"]).arg(&place));
    for line in
        ["that alert is resolved", "the restored server has the same data as the original", "both reports are mailed"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    for server in ["primary/data", "restored"] {
        assert!(place.join(server).join("PG_VERSION").exists() && !place.join(server).join("postmaster.pid").exists());
    }
}
