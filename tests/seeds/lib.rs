//! Runs a fuzz target over its seeds (`tests/fuzz/seeds/NAME`) and what comes of them by small changes: a few with every `make test`,
//! and for as long as `PGBOSUN_FUZZ_SECONDS` says where `make fuzz` finds no nightly compiler for cargo-fuzz.
//!
//! Invariants: an input that was found is kept in `target/fuzz/found`; one that takes longer than [`LONGEST`] is found too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use std::{
    fs,
    panic::{catch_unwind, resume_unwind},
    path::Path,
    time::{Duration, Instant},
};

/// How long one input may take.
const LONGEST: Duration = Duration::from_secs(10);
/// Changed inputs of a run without a limit of time.
const FEW: u32 = 150;

/// Runs a target over its seeds, and over changed ones.
///
/// # Panics
/// Where the target does, takes too long, or has no seeds.
pub fn run(name: &str, target: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut seeds: Vec<Vec<u8>> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for seed in &seeds {
        one(name, target, seed);
    }
    let seconds = std::env::var("PGBOSUN_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    loop {
        let config = ProptestConfig { cases: FEW, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = match end {
            Some(_) => TestRunner::new(config),
            None => TestRunner::new_with_rng(
                config,
                proptest::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
            ),
        };
        let changed = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), vec(change(), 0..8));
        let tried = runner.run(&changed, |(first, second, changes)| {
            let mut input = first.get::<Vec<u8>>(&seeds).clone();
            for change in changes {
                apply(&mut input, change, second.get::<Vec<u8>>(&seeds));
            }
            one(name, target, &input);
            Ok(())
        });
        tried.unwrap();
        if end.is_none_or(|end| Instant::now() > end) {
            return;
        }
    }
}

fn one(name: &str, target: fn(&[u8]), input: &[u8]) {
    let begun = Instant::now();
    let done = catch_unwind(|| target(input));
    if done.is_ok() && begun.elapsed() < LONGEST {
        return;
    }
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz/found");
    let file = place.join(format!("{name}-proptest"));
    let kept = fs::create_dir_all(&place).and_then(|()| fs::write(&file, input));
    eprintln!("{name}: {:?} for the input in {} ({kept:?})", begun.elapsed(), file.display());
    if let Err(panic) = done {
        resume_unwind(panic);
    }
    panic!("{name} took {:?}", begun.elapsed());
}

/// A change at a place, by its share of the length.
type Change = (f64, u8, Vec<u8>);

fn change() -> impl Strategy<Value = Change> {
    (0.0..=1.0, 0_u8..6, vec(any::<u8>(), 1..9))
}

fn apply(input: &mut Vec<u8>, (share, kind, bytes): Change, other: &[u8]) {
    let place = |length: usize| ((share * length as f64) as usize).min(length);
    let at = place(input.len());
    let until = (at + bytes.len()).min(input.len());
    match kind {
        0 => drop(input.splice(at..until, bytes)),
        1 => drop(input.splice(at..at, bytes)),
        2 => drop(input.drain(at..until)),
        3 => input.truncate(at),
        4 => drop(input.splice(at.., other[place(other.len())..].iter().copied())),
        // The same once more.
        _ => drop(input.splice(at..at, input[at..until].to_vec())),
    }
}
