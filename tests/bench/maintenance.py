#!/usr/bin/python3
"""maintenance.py --pgbosun P --postgres DIR [--rows N] [--rate N] - maintenance beside vacuumdb and reindexdb.

Bloats a scratch PostgreSQL on purpose: a table whose rows were deleted at random, with its indexes, one of them left over by a
reindex that was interrupted; many others that are in good shape; catalogues, by tables that came and went. Shows what would be
done and what was, first with an old transaction in the way. Each contestant gets a copy of that server, once alone and once with
pgbench beside it at a fixed rate; our jobs run in the daemon. Prints tables for docs/benchmarks.md: time, WAL, bytes given back, and the latency of
pgbench with and without.
"""
import argparse, glob, os, sqlite3, statistics, subprocess, time
from scratch import Scratch

parser = argparse.ArgumentParser()
Scratch.options(parser)
parser.add_argument("--rows", type=int, default=3_000_000, help="rows of the table that is bloated")
parser.add_argument("--calm", type=int, default=8, help="tables in good shape, of 400,000 rows each")
parser.add_argument("--rate", type=int, default=150, help="transactions a second of pgbench")
parser.add_argument("--baseline", type=int, default=40, help="seconds of pgbench alone, before each")
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--cost-limit", type=int, help="of vacuum; the default of the option without it")
arguments = parser.parse_args()
JOBS = """watch = false
[jobs.vacuum]
kind = "maintenance.vacuum"
[jobs.catalog]
kind = "maintenance.catalog"
minimum-size = "512KiB"
[jobs.reindex]
kind = "maintenance.reindex"
patience = "30s"
[jobs.vacuum-all]
kind = "maintenance.vacuum"
all = true
[jobs.reindex-all]
kind = "maintenance.reindex"
all = true
minimum-size = "8KiB"
"""
BLOAT = f"""create table events (id bigint primary key, at timestamptz not null, k int not null, payload text);
insert into events select g, '2026-01-01'::timestamptz + g * interval '1 s', (g::bigint * 7919) % 1000003, md5(g::text) || md5((g * 3)::text)
    from generate_series(1, {arguments.rows}) g;
create index events_k on events (k);
create index events_at on events (at);
vacuum (analyze) events;
delete from events where (id * 2654435761) % 10 < 7;
vacuum events;
update events set k = k + 1 where id % 3 = 0;
select format('create table calm%s (id int primary key, v int); insert into calm%s select g, g from generate_series(1, 400000) g;
               create index on calm%s (v)', n, n, n) from generate_series(1, {arguments.calm}) n \\gexec
select format('create table gone%s (a int, b int, c int, d int, e text)', n) from generate_series(1, 3000) n \\gexec
select format('drop table gone%s', n) from generate_series(1, 3000) n \\gexec
"""


def size():
    return int(scratch.sql("select sum(pg_database_size(oid)) from pg_database"))


def wal():
    return int(scratch.sql("select (pg_current_wal_insert_lsn() - '0/0')::bigint"))


class Load:
    """pgbench at a fixed rate, whose transactions are written down one by one."""

    def __init__(self):
        for file in glob.glob(str(scratch.root / "pgbench_log*")):
            os.unlink(file)
        words = [scratch.postgres / "pgbench", "-h", scratch.root, "-U", "postgres", "-n", "-l", "-c", "4", "-j", "1", "-R", arguments.rate, "-T", "3600", "app"]
        self.process = subprocess.Popen([str(word) for word in words], cwd=scratch.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **scratch.owner)

    def end(self, begun, ended):
        """Transactions that ended between two times: when, and their latency in milliseconds without the waiting for their turn."""
        # pgbench writes its log when its connections are ended, not when it is killed.
        scratch.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgbench'")
        self.process.wait()
        found = []
        for file in glob.glob(str(scratch.root / "pgbench_log*")):
            for line in open(file):
                fields = line.split()
                at = int(fields[4]) + int(fields[5]) / 1e6
                if begun <= at <= ended and fields[2].isdigit():
                    found.append((at, (int(fields[2]) - int(fields[6])) / 1000))
        return found


class Transaction:
    """One that has written to the bloated table, and stays open."""

    def __init__(self):
        words = [scratch.postgres / "psql", "-h", scratch.root, "-U", "postgres", "-Xq", "app"]
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, text=True, **scratch.owner)
        self.process.stdin.write("begin; insert into events values (0, now(), 0, '');\n")
        self.process.stdin.flush()
        while scratch.sql("select count(*) from pg_stat_activity where state = 'idle in transaction'").strip() == "0":
            time.sleep(0.1)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def shown(where):
    """What history says of the objects that were worked on or left out."""
    print("\n| what | before | after | why |\n| --- | ---: | ---: | --- |")
    with sqlite3.connect(scratch.root / "state" / "journal.sqlite") as journal:
        rows = journal.execute(f"select action, result, object, bytes_before, bytes_after, reason from maintenance where {where} order by id")
        for action, result, name, before, after, reason in rows:
            sizes = " | ".join("" if size is None else f"{size / 2**20:.1f} MiB" for size in (before, after))
            print(f"| {action} {name}{'' if result == 'done' else ', ' + result} | {sizes} | {reason} |", flush=True)


def of(latencies, share):
    return latencies[min(int(len(latencies) * share), len(latencies) - 1)]


def ours(*jobs):
    def work():
        for job in jobs:
            scratch.pgbosun("job", "run", job, "--wait")
    return work


def theirs():
    for words in (["vacuumdb", "-az"], ["reindexdb", "-a", "--concurrently"]):
        scratch.run(scratch.postgres / words[0], *words[1:], "-h", scratch.root, "-U", "postgres")


CONTESTANTS = {
    "pgbosun: vacuum, catalog, reindex where needed": ours("vacuum", "catalog", "reindex"),
    "pgbosun: vacuum and reindex of everything": ours("vacuum-all", "reindex-all"),
    "vacuumdb -az, reindexdb -a --concurrently": theirs,
}

with Scratch(arguments) as scratch:
    scratch.start("autovacuum = off\nshared_buffers = 256MB\nmaintenance_work_mem = 128MB\nmax_wal_size = 4GB\nmin_wal_size = 1GB\nlog_lock_waits = on\ndeadlock_timeout = 1s\nlog_line_prefix = '%m [%p] %a '")
    limit = f"cost-limit = {arguments.cost_limit}\n" if arguments.cost_limit else ""
    scratch.configure(JOBS.replace('kind = "maintenance.vacuum"\n', 'kind = "maintenance.vacuum"\n' + limit))
    scratch.sql("create database app")
    scratch.sql(BLOAT, "app")
    scratch.run(scratch.postgres / "pgbench", "-i", "-q", "-s", "20", "-h", scratch.root, "-U", "postgres", "app")
    old = Transaction()
    scratch.run(scratch.postgres / "psql", "-h", scratch.root, "-U", "postgres", "-Xq", "-c", "set lock_timeout = '500ms'", "-c", "reindex index concurrently events_at", "app", accept=(1,))
    old.end()
    # Segments of WAL are used again, as on a server that is not new: making them is what commits would wait for.
    scratch.sql("checkpoint")
    scratch.stop()
    original = scratch.root / "original"
    scratch.run("cp", "-r", scratch.data, original)

    def fresh():
        scratch.stop_daemon()
        scratch.stop()
        scratch.run("rm", "-rf", scratch.data, scratch.root / "state")
        scratch.run("cp", "-r", original, scratch.data)
        # What the copy left to be written would be written beside the measurement.
        os.sync()
        scratch.resume()
        scratch.start_daemon()
        scratch.sql("checkpoint")

    print("| | time | WAL | freed |\n| --- | ---: | ---: | ---: |", flush=True)
    for name, work in CONTESTANTS.items():
        fresh()
        before, lsn, begun = size(), wal(), time.monotonic()
        work()
        took, written = time.monotonic() - begun, wal() - lsn
        scratch.sql("checkpoint")
        print(f"| {name} | {took:.1f} s | {written / 2**20:.0f} MiB | {(before - size()) / 2**20:.0f} MiB |", flush=True)

    fresh()
    for job in ("vacuum", "catalog", "reindex"):
        print(f"\n```\n$ pgbosun job run {job} --dry-run\n{scratch.pgbosun('job', 'run', job, '--dry-run').strip()}\n```")
    old = Transaction()
    # Older than the lock-timeout of the jobs.
    time.sleep(31)
    ours("vacuum", "catalog", "reindex")()
    shown("object like '%events%'")
    old.end()
    with sqlite3.connect(scratch.root / "state" / "journal.sqlite") as journal:
        last, = journal.execute("select max(id) from maintenance").fetchone()
    ours("vacuum", "reindex")()
    shown(f"object like '%events%' and id > '{last}'")

    print(f"\n| pgbench at {arguments.rate} transactions a second | p50 alone, with maintenance | p99 alone, with maintenance | p99 ratio, with to alone (each run) | longest |\n| --- | ---: | ---: | ---: | ---: |")
    for name, work in CONTESTANTS.items():
        runs = []
        for _ in range(arguments.runs):
            fresh()
            load, begun = Load(), time.time()
            time.sleep(5 + arguments.baseline)
            at = time.time()
            work()
            every = load.end(begun + 5, time.time())
            runs.append([sorted(latency for when, latency in every if side(when)) for side in (lambda when: when < at, lambda when: when >= at)])
        ratios = [of(beside, .99) / of(alone, .99) for alone, beside in runs]
        middle = lambda of_run: statistics.median(map(of_run, runs))
        print(f"| {name} | {middle(lambda run: of(run[0], .5)):.2f}, {middle(lambda run: of(run[1], .5)):.2f} ms "
              f"| {middle(lambda run: of(run[0], .99)):.2f}, {middle(lambda run: of(run[1], .99)):.2f} ms "
              f"| **{statistics.median(ratios):.2f}** ({', '.join(f'{ratio:.2f}' for ratio in ratios)}) "
              f"| {max(run[1][-1] for run in runs):.0f} ms |", flush=True)
    lines = [line for file in glob.glob(str(scratch.log / "*")) for line in open(file, errors="replace")]
    waits = sum("] pgbench " in line and "still waiting for" in line for line in lines)
    print(f"\nStatements of the load that waited for a lock longer than 1 s: {waits}.")
