//! `pgbosun wal fetch`: one file for recovery, and what follows it ahead of time.
//!
//! C4: exits with 1 only where every repository said that it has no such file. Anything else is 126 in archive recovery,
//! since PostgreSQL would otherwise take it for the end of WAL; on a standby it is 1, since 126 would stop that.

use super::{cluster_of, data_directory};
use crate::local::Context;
use nix::fcntl::{Flock, FlockArg};
use pgbosun_backup::{
    AHEAD_VARIABLE,
    wal::{Confined, Confinement, CreatedTablespace, Fetch, Header, Spool, borders, confine, system_identifier},
};
use pgbosun_core::{
    human,
    lsn::Lsn,
    wal::{Segment, WalFile},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Not there.
const ABSENT: u8 = 1;
/// Nobody knows.
const UNKNOWN: u8 = 126;

/// What to fetch.
pub struct Arguments {
    pub name: String,
    pub path: PathBuf,
    pub cluster: Option<String>,
    pub repository: Option<String>,
    pub confinement: Confinement,
}

/// Everything a fetch works with.
struct Place {
    fetch: Fetch,
    file: WalFile,
    data_directory: PathBuf,
    target: PathBuf,
    ahead: PathBuf,
}

fn place(context: &Context, arguments: &Arguments) -> anyhow::Result<Place> {
    let file = WalFile::parse(&arguments.name);
    let file = file.ok_or_else(|| anyhow::anyhow!("\"{}\" is not the name of an archived WAL file", arguments.name))?;
    let (data_directory, target) = data_directory(&arguments.path)?;
    let cluster = cluster_of(context, arguments.cluster.as_deref(), &data_directory)?;
    let system_id = system_identifier(&data_directory)?;
    let spool = context.config.spool_directory();
    let repositories = context.repositories(arguments.repository.as_deref())?;
    let limit = context.config.wal.spool_limit.as_u64();
    let fetch = Fetch {
        cluster: cluster.clone(),
        system_id: system_id.clone(),
        spools: repositories.iter().map(|place| Spool::new(&spool, limit, place).repository()).collect(),
        repositories,
        partial_directory: Some(spool.join("receive").join(&cluster)),
    };
    // What is read ahead is not fsynced: after the machine broke down nothing of it may be taken for a segment.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let place = std::env::var_os(AHEAD_VARIABLE).map_or_else(|| spool.join("ahead"), PathBuf::from);
    let ahead = place.join(format!("{cluster}-{system_id}")).join(boot.trim());
    Ok(Place { fetch, file, data_directory, target, ahead })
}

/// Fetches one file; the exit code says what PostgreSQL is to make of it.
pub async fn run(context: &Context, arguments: Arguments) -> u8 {
    match fetch(context, &arguments).await {
        Ok(true) => 0,
        Ok(false) => ABSENT,
        Err(error) => {
            let reason = crate::exit::describe(&error);
            tell!("pgbosun: {} cannot be fetched, and it is unknown whether it exists: {reason}", arguments.name);
            nobody_knows()
        }
    }
}

/// The exit code where it was not to be found out whether there is such a file; PostgreSQL calls from its data directory.
pub fn nobody_knows() -> u8 {
    let standby = std::env::current_dir().is_ok_and(|here| here.join("standby.signal").exists());
    if standby { ABSENT } else { UNKNOWN }
}

async fn fetch(context: &Context, arguments: &Arguments) -> anyhow::Result<bool> {
    let place = place(context, arguments)?;
    let name = place.file.to_string();
    let early = place.ahead.join(&name);
    wait_for(&early).await;
    // Its contents were compared when it was read ahead; that it still is this file is looked at here.
    if pgbosun_backup::wal::check_file(&place.file, &early, &place.fetch.system_id).is_ok()
        && Fetch::hand_over(&early, &place.target).is_ok()
    {
        return finish(context, arguments, &place).await;
    }
    let _ = fs::remove_file(&early);
    let (fetcher, file, target) = (place.fetch.clone(), place.file.clone(), place.target.clone());
    let patience = context.config.wal.fetch_patience;
    let found = context.bulk.spawn(async move { fetcher.fetch_patiently(&file, &target, patience).await }).await??;
    if found { finish(context, arguments, &place).await } else { Ok(false) }
}

/// Makes what was fetched fit for PostgreSQL; false where there is nothing in it to replay.
async fn finish(context: &Context, arguments: &Arguments, place: &Place) -> anyhow::Result<bool> {
    // C41: its size says which part of the WAL it has.
    if let WalFile::Segment(segment) = place.file
        && arguments.confinement.is_dead(segment, fs::metadata(&place.target)?.len())
    {
        fs::remove_file(&place.target)?;
        return Ok(false);
    }
    confine_to_copy(context, arguments, place).await?;
    read_ahead(context, arguments, place);
    Ok(true)
}

/// C29: what PostgreSQL is about to replay makes no tablespace outside the copy. Where this fails the fetch has failed, and PostgreSQL
/// does not look at the file.
async fn confine_to_copy(context: &Context, arguments: &Arguments, place: &Place) -> anyhow::Result<()> {
    let WalFile::Segment(segment) = place.file else { return Ok(()) };
    if !arguments.confinement.is_needed() {
        return Ok(());
    }
    let mut bytes = fs::read(&place.target)?;
    let cut = arguments.confinement.cut(segment, &mut bytes);
    let size = Header::read(&bytes).map_or(0, |header| header.segment_size);
    let (crosses_before, crosses_after) = borders(&bytes);
    let neighbour = |at: Option<Lsn>| {
        let (fetcher, pg_wal) = (place.fetch.clone(), place.data_directory.join("pg_wal"));
        context.bulk.spawn(async move {
            let Some(at) = at else { return Ok(None) };
            // Before a change of timeline it lies on an earlier one. The copy may have it already.
            for timeline in (1..=segment.timeline).rev() {
                let segment = Segment::holding(at, timeline, size);
                if let Ok(bytes) = fs::read(pg_wal.join(segment.to_string())) {
                    return Ok(Some(bytes.into()));
                }
                if let Some(bytes) = fetcher.find(&WalFile::Segment(segment)).await? {
                    return Ok(Some(bytes));
                }
            }
            Ok::<_, pgbosun_backup::Error>(None)
        })
    };
    let start = segment.start(size).0;
    let before = neighbour(start.checked_sub(size).filter(|_| crosses_before).map(Lsn)).await??;
    let after = neighbour(Some(Lsn(start + size)).filter(|_| crosses_after)).await??;
    let Confined { changed, created } =
        confine(&mut bytes, before.as_deref(), after.as_deref(), &arguments.confinement);
    if !changed && !cut {
        return Ok(());
    }
    for created in &created {
        let there = arguments.confinement.place(&place.data_directory, created)?;
        let CreatedTablespace { oid, location } = created;
        tell!("pgbosun: tablespace {oid}, which the original created at {location}, is created in {}", there.display());
    }
    Ok(fs::write(&place.target, bytes)?)
}

/// Starts what fetches the following segments, unless it is at work already; this command does not wait for it.
fn read_ahead(context: &Context, arguments: &Arguments, place: &Place) {
    let segments = matches!(place.file, WalFile::Segment(_)) && context.config.wal.fetch_ahead > 0;
    if !segments || fs::create_dir_all(&place.ahead).is_err() || lock(&place.ahead).is_none() {
        return;
    }
    let names = fs::read_dir(&place.ahead).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let asked = place.file.to_string();
    let waiting = names.filter(|name| name.to_string_lossy().as_ref() > asked.as_str()).count();
    if waiting > usize::from(context.config.wal.fetch_ahead) / 2 {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.arg("--config").arg(&context.config.path).args(["--quiet", "wal", "fetch", "--ahead"]);
    for (flag, value) in [("--cluster", &arguments.cluster), ("--repository", &arguments.repository)] {
        if let Some(value) = value {
            command.args([flag, value]);
        }
    }
    command.arg(&arguments.name).arg(&place.target).current_dir(&place.data_directory);
    // A group of its own: when PostgreSQL ends this command it does not end what goes on for the next.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        tracing::debug!("nothing is read ahead: {error}");
    }
}

/// How the name of a mark ends that says which file is being read ahead.
const COMING: &str = "coming";

/// Waits for a file that another process is reading ahead just now: reading it twice helps nobody.
async fn wait_for(early: &Path) {
    let (coming, begun) = (marked(early), std::time::Instant::now());
    while coming.exists() && begun.elapsed() < Duration::from_secs(30) {
        // Nobody holds the right: whoever marked the file has died.
        if early.parent().is_none_or(|directory| lock(directory).is_some()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn marked(early: &Path) -> PathBuf {
    early.with_extension(COMING)
}

/// The right to read ahead; held by one process at a time, as long as it lives.
fn lock(directory: &Path) -> Option<Flock<fs::File>> {
    let file = fs::File::options().create(true).truncate(false).write(true).open(directory.join(".lock")).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Fetches the segments after the one named into the spool, several at a time. Failures end it silently: the fetch that
/// needs the segment will say so.
///
/// # Errors
/// Where it cannot even begin.
pub async fn ahead(context: &Context, arguments: Arguments) -> anyhow::Result<u8> {
    let place = place(context, &arguments)?;
    let Some(_lock) = lock(&place.ahead) else { return Ok(0) };
    remove_old(&place.ahead, &place.file);
    for other in fs::read_dir(place.ahead.parent().unwrap_or(&place.ahead)).into_iter().flatten().flatten() {
        if other.path() != place.ahead {
            let _ = fs::remove_dir_all(other.path());
        }
    }
    let WalFile::Segment(named) = place.file else { return Ok(0) };
    let copies = [place.target.clone(), place.ahead.join(named.to_string())];
    let size = copies.iter().find_map(|path| Header::of_file(path)).map_or(16 << 20, |header| header.segment_size);
    let mut next = named;
    let mut tasks = tokio::task::JoinSet::new();
    let parallel = usize::from(context.config.wal.push_workers).max(2);
    for _ in 0..context.config.wal.fetch_ahead {
        next = next.next(size);
        let (file, target) = (WalFile::Segment(next), place.ahead.join(next.to_string()));
        if target.exists() {
            continue;
        }
        while tasks.len() >= parallel {
            if !matches!(tasks.join_next().await, Some(Ok(true))) {
                return Ok(0);
            }
        }
        let fetch = Fetch { partial_directory: None, ..place.fetch.clone() };
        let mark = marked(&target);
        let _ = fs::write(&mark, "");
        tasks.spawn_on(
            async move {
                let read = fetch.fetch(&file, &target).await.unwrap_or_else(|error| {
                    tracing::debug!("reading ahead ends: {}", human::chain(&error));
                    false
                });
                let _ = fs::remove_file(mark);
                read
            },
            &context.bulk,
        );
    }
    while tasks.join_next().await.is_some() {}
    Ok(0)
}

/// What an earlier recovery read ahead and never needed, what lies behind this one, and marks of the dead.
fn remove_old(directory: &Path, now: &WalFile) {
    let now = now.to_string();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        let old = age.is_some_and(|age| age > Duration::from_secs(600));
        let name = entry.file_name().to_string_lossy().into_owned();
        let mark = entry.path().extension().is_some_and(|extension| extension == COMING);
        if name != ".lock" && (old || mark || name <= now) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
