//! The machine: counters of processors and disks, memory and room, in the order of the topic's shape.

use nix::sys::statvfs::statvfs;
use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo, ProcResult};
use std::path::Path;

/// Bytes of a sector, as /proc/diskstats counts.
const SECTOR: u64 = 512;

/// One row of the topic `host`; the disk is that of the data directory.
pub(super) fn row(data_directory: &Path) -> ProcResult<Vec<f64>> {
    let total = KernelStats::current()?.total;
    let (waiting, stolen) = (total.iowait.unwrap_or_default(), total.steal.unwrap_or_default());
    let interrupts = total.irq.unwrap_or_default() + total.softirq.unwrap_or_default();
    let busy = total.user + total.nice + total.system + interrupts;
    let (mut read, mut written, mut busy_ms) = (0, 0, 0);
    for disk in procfs::diskstats()?.into_iter().filter(|disk| is_whole(&disk.name)) {
        read += disk.sectors_read * SECTOR;
        written += disk.sectors_written * SECTOR;
        busy_ms += disk.time_in_progress;
    }
    let memory = Meminfo::current()?;
    let used = memory.mem_total.saturating_sub(memory.mem_available.unwrap_or(memory.mem_free + memory.cached));
    let load = f64::from(LoadAverage::current()?.five);
    let room = statvfs(data_directory).map_err(std::io::Error::from)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let values = [busy, waiting, stolen, busy + waiting + stolen + total.idle, read, written, busy_ms];
    let mut row: Vec<f64> = values.map(|value| value as f64).to_vec();
    row.extend([1.0, used as f64, load, used as f64, load, memory.mem_total as f64, processors as f64]);
    row.push((room.blocks() * room.fragment_size()) as f64);
    row.push((room.blocks_available() * room.fragment_size()) as f64);
    Ok(row)
}

/// Whether it is a disk itself, and no part of one, nor one made of others.
fn is_whole(name: &str) -> bool {
    let made = ["loop", "ram", "dm-", "md", "zram", "sr"].iter().any(|prefix| name.starts_with(prefix));
    !made && Path::new("/sys/block").join(name).exists()
}
