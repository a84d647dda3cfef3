"""What is measured: each section takes the bench, the cluster and the tools that can do it."""
import filecmp, os, random, re, shutil, time

from harness import stored, wait_for
from server import DRAINED, PORT, Server

PUSHED, FETCHED, LISTED = 30, 64, 10_000
CHURN = (1, 5, 20)

def prove(tool, run, directory=None):
    """Compares what PostgreSQL finds in a restored directory, or a new restore, with the original."""
    if tool.bench.arguments.compare == "all" or run == 0:
        if not directory:
            directory = tool.bench.make("restored")
            tool.bench.run(tool.argv("restore", directory))
        copy = Server(tool.bench, directory, "r")
        # A copy alongside its original has a port of its own.
        copy.start("archive_mode=off", "summarize_wal=off", f"port={PORT}")
        try:
            wait_for("the end of recovery", lambda: copy.sql("select pg_is_in_recovery()") == "f")
            if copy.fingerprint() != tool.cluster.fingerprint():
                raise RuntimeError(f"what {tool.name} restored is not the original")
        finally:
            copy.control("stop", "-m", "immediate")
    shutil.rmtree(tool.bench.directory / "restored", ignore_errors=True)

def prepare(cluster, tools):
    """A full backup of each, for what comes after one."""
    cluster.fingerprint()  # before all backups, since reading may write hint bits
    for tool in tools:
        tool.fresh()
        tool.backup()

def full(bench, cluster, tools):
    cluster.fingerprint()
    for run, tool in bench.turns(tools):
        tool.fresh()
        bench.record("Full backup", tool, tool.backup())
        prove(tool, run)
        shutil.rmtree(tool.repository)

def restore(bench, cluster, tools):
    prepare(cluster, tools)
    for run, tool in bench.turns(tools):
        to = bench.make("restored")
        measure = bench.measure(tool.argv("restore", to))
        bench.record("Restore into an empty directory", tool, measure | {"stored": stored(to)})
        prove(tool, run, to)

def damage(directory, seed):
    """Flips bits in 1 % of the relation files, unseen by size and time; gives the places and bytes of before."""
    files = [path for path in directory.glob("base/*/*") if re.fullmatch(r"\d+(\.\d+)?", path.name)]
    files = sorted((path for path in files if path.stat().st_size), key=lambda path: (path.stat().st_size, path))
    pick, before = random.Random(seed), []
    for path in [files[-1], *pick.sample(files[:-1], len(files) // 100)]:
        status = path.stat()
        with open(path, "r+b") as file:
            for at in pick.sample(range(status.st_size), 3):
                before.append((path, at, os.pread(file.fileno(), 1, at)))
                os.pwrite(file.fileno(), bytes([before[-1][2][0] ^ 1 << pick.randrange(8)]), at)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return before

def delta(bench, cluster, tools):
    prepare(cluster, tools)
    for run, tool in bench.turns(tools):
        to = bench.make("restored")
        bench.run(tool.argv("restore", to))
        before = damage(to, run)
        bench.record("Delta restore over 1 % of the files damaged", tool, bench.measure(tool.argv("delta", to)))
        for path, at, byte in before:
            with open(path, "rb") as file:
                if os.pread(file.fileno(), 1, at) != byte:
                    raise RuntimeError(f"{tool.name} left damage in {path}")
        prove(tool, run, to)

def verify(bench, cluster, tools):
    prepare(cluster, tools)
    for _, tool in bench.turns(tools):
        bench.record("Verification of a full backup", tool, bench.measure(tool.argv("verify")))

def incremental(bench, cluster, tools):
    for percent in CHURN:
        for run in range(bench.arguments.runs):
            cluster.sql("vacuum pgbench_accounts")  # so that it does not grow from run to run
            prepare(cluster, tools)
            cluster.churn(percent, run)
            cluster.fingerprint()
            for tool in tools[run % 2:] + tools[:run % 2]:
                bench.record(f"Incremental backup, {percent} % changed", tool, tool.backup("incremental"))
                prove(tool, run)

def push(bench, cluster, tools):
    segments = cluster.segments(PUSHED)
    for tool in tools:
        tool.fresh()
    for turn, tool in bench.turns(tools, PUSHED):
        segments[turn].read_bytes()
        os.sync()
        begun = time.perf_counter()
        bench.run(tool.argv("push", segments[turn]), cluster.data)
        bench.record("Push of one WAL segment", tool, {"wall": time.perf_counter() - begun})

def fetched(tool, verb, segments):
    """Fetches segments, measured, and compares them with the originals."""
    to = tool.bench.make("fetched")
    with tool.bench.measured(tool.processes) as measure:
        for segment in segments:
            tool.bench.run(tool.argv(verb, segment.name, to / segment.name), tool.cluster.data)
    if other := [segment.name for segment in segments if not filecmp.cmp(segment, to / segment.name, shallow=False)]:
        raise RuntimeError(f"{tool.name} fetched something else for {other}")
    return measure

def drain(bench, cluster, tools):
    segments, status = cluster.segments(DRAINED), cluster.wal / "archive_status"
    for _, tool in bench.turns(tools):
        tool.fresh()
        cluster.quiet()
        cluster.archive_with("false")
        for segment in segments:
            (status / f"{segment.name}.done").unlink(missing_ok=True)
            (status / f"{segment.name}.ready").touch()
        bench.own(status)
        cluster.sql("select pg_reload_conf()")
        time.sleep(5)  # after three vain tries the archiver waits until it is woken
        with tool.daemon(), bench.measured(tool.processes) as measure:
            cluster.archive_with(tool.archive_command("drain"))
            wait_for("archiving", cluster.archived, 3600, 0.05)
            wait_for("pg_stat_archiver", lambda: cluster.sql(
                "select last_archived_wal from pg_stat_archiver") == segments[-1].name, 60, 0.05)
        cluster.archive_with("true")
        bench.record(f"Draining {DRAINED} segments", tool, measure | {"stored": stored(tool.repository)})
        fetched(tool, "get", segments[::51])

def fetch(bench, cluster, tools):
    segments = cluster.segments(FETCHED)
    for tool in tools:
        tool.fresh()
        for segment in segments:
            bench.run(tool.argv("push", segment), cluster.data)
    for _, tool in bench.turns(tools):
        tool.settle()
        bench.record(f"Fetching {FETCHED} segments", tool, fetched(tool, "fetch", segments))

def catalogue(bench, cluster, tools):
    for tool in tools:
        prepare(cluster, [tool])
        original = next(tool.repository.glob("*/*/backups/*/backup.json"))
        for number in range(LISTED - 1):
            copy = original.parent.with_name(f"20200101T{number:06}Z-copied")
            copy.mkdir()
            shutil.copy(original, copy)
        bench.own(original.parent.parent)
        for title in ("for the first time", "again"):
            bench.record(f"Listing {LISTED:,} backups {title}", tool, bench.measure(tool.argv("catalogue")))

SECTIONS = {section.__name__: section
            for section in (full, restore, delta, verify, incremental, push, drain, fetch, catalogue)}
