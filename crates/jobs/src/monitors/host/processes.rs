//! Which processes take most: named in alerts about processor and memory.

use pgbosun_core::human;
use procfs::process::{Process, all_processes};
use std::collections::HashMap;

/// How many are named.
const NAMED: usize = 8;

/// Processor time of every process so far, ticks.
pub type Times = HashMap<i32, u64>;

/// What every process took so far.
pub fn times() -> Times {
    each(|process| process.stat().ok().map(|stat| (stat.pid, stat.utime + stat.stime))).collect()
}

/// Those that took most processor time between two checks, a line each.
pub fn busiest(before: &Times, after: &Times, seconds: f64) -> String {
    let ticks = procfs::ticks_per_second() as f64;
    let mut grown: Vec<_> = after
        .iter()
        .map(|(pid, ticks)| (*pid, ticks.saturating_sub(before.get(pid).copied().unwrap_or(*ticks))))
        .filter(|(_, grown)| *grown > 0)
        .collect();
    grown.sort_by_key(|(_, grown)| std::cmp::Reverse(*grown));
    let line = |(pid, grown): (i32, u64)| format!("{:.0} %  {}", 100.0 * grown as f64 / ticks / seconds, name(pid));
    grown.into_iter().take(NAMED).map(line).collect::<Vec<_>>().join("\n")
}

/// Those that hold most memory, a line each.
pub fn largest() -> String {
    let page = procfs::page_size();
    let mut held: Vec<_> = each(|process| process.stat().ok().map(|stat| (stat.pid, stat.rss * page)))
        .filter(|(_, held)| *held > 0)
        .collect();
    held.sort_by_key(|(_, held)| std::cmp::Reverse(*held));
    let line = |(pid, held): (i32, u64)| format!("{}  {}", human::size(held), name(pid));
    held.into_iter().take(NAMED).map(line).collect::<Vec<_>>().join("\n")
}

/// What may be told of a process: PostgreSQL writes what it does into its title; arguments of others may hold secrets.
fn name(pid: i32) -> String {
    let known = Process::new(pid).ok().and_then(|process| {
        let command = process.stat().ok()?.comm;
        let title = process.cmdline().ok().and_then(|words| words.into_iter().next()).unwrap_or_default();
        Some(if title.starts_with("postgres: ") { title } else { command })
    });
    format!("{} ({pid})", known.unwrap_or_else(|| "ended".into()))
}

fn each<T>(read: impl Fn(Process) -> Option<T>) -> impl Iterator<Item = T> {
    // Processes end meanwhile.
    all_processes().into_iter().flatten().flatten().filter_map(read)
}
