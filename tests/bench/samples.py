#!/usr/bin/python3
"""samples.py --pgbosun P --postgres DIR [--tables N] [--samples N] - what samples and reports cost.

Starts a scratch PostgreSQL with N tables and as many statements, and lets a daemon whose clock is moved on by hand take
samples of a week, with work in between. Prints lines for docs/benchmarks.md: processor time of a sample on either side, the
size of the journal, and how long a report of a day and of the week takes.
"""
import argparse, os, random, sys, time
from scratch import Scratch

parser = argparse.ArgumentParser()
Scratch.options(parser)
parser.add_argument("--tables", type=int, default=5000)
parser.add_argument("--samples", type=int, default=2016, help="of five minutes each: 2016 are a week")
parser.add_argument("--touched", type=int, default=300, help="tables that are worked on between two samples")
arguments = parser.parse_args()
TABLES = """select format('create table t%s (id int primary key, name text, at timestamptz default now());
    create index on t%s (name); insert into t%s select i, md5(i::text) from generate_series(1, 100) i', n, n, n)
    from generate_series(1, {}) n \\gexec
create function touch(tables int[], key int) returns void language plpgsql as $$
declare n int;
begin
    foreach n in array tables loop
        execute format('update t%s set name = md5(random()::text) where id = %s', n, key);
    end loop;
end $$"""

with Scratch(arguments) as scratch:
    clock = scratch.root / "clock"
    os.environ["PGBOSUN_CLOCK"] = str(clock)

    def ahead(seconds):
        # Whoever reads it sees the old time or the new one.
        new = clock.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(clock)

    ahead(0)
    scratch.start("shared_preload_libraries = 'pg_stat_statements'\npg_stat_statements.max = 10000\nfsync = off\nautovacuum = off")
    scratch.sql("create extension pg_stat_statements")
    scratch.sql(TABLES.format(arguments.tables))
    scratch.sql("".join(f"select count(*) from t{n};" for n in range(1, arguments.tables + 1)))
    scratch.configure("""[jobs.main-sample]
kind = "sample"
wait-looks = 1
[jobs.report]
kind = "report.performance"
groups = []
""")
    scratch.start_daemon()
    scratch.pgbosun("job", "pause", "--all")
    size = lambda: sum(path.stat().st_size for path in (scratch.root / "state").glob("journal.sqlite*"))
    postmaster, begun, chance = scratch.postmaster(), time.monotonic(), random.Random(7)
    used = lambda: (scratch.used(postmaster, True), scratch.used(scratch.daemon.pid, False))
    server = daemon = 0.0
    for number in range(arguments.samples):
        touched = chance.sample(range(1, arguments.tables + 1), arguments.touched)
        scratch.sql(f"select touch('{{{','.join(map(str, touched))}}}', {number % 100});" + "".join(f"select count(*) from t{n};" for n in touched))
        time.sleep(0.3)  # statistics of ended sessions arrive
        before = used()
        ahead(300 * (number + 1))
        scratch.pgbosun("job", "run", "main-sample", "--wait")
        after = used()
        if number > 0:
            server, daemon = server + after[0] - before[0], daemon + after[1] - before[1]
        if number % 100 == 99:
            print(f"{number + 1} samples, {time.monotonic() - begun:.0f} s, journal {size() / 2**20:.0f} MiB", file=sys.stderr, flush=True)
    count = max(arguments.samples - 1, 1)
    print(f"| a sample, {arguments.tables} tables and statements: processor time of the server | {1000 * server / count:.0f} ms, {100 * server / count / 300:.2f} % of one core |")
    print(f"| … of the daemon | {1000 * daemon / count:.0f} ms, {100 * daemon / count / 300:.2f} % of one core |")
    print(f"| journal after {arguments.samples} samples | {size() / 2**20:.0f} MiB |")
    for name, words in (("a day", []), ("the whole time", ["--from", time.strftime("%Y-%m-%d %H:%M", time.gmtime(time.time() - 86400))])):
        begun = time.monotonic()
        scratch.pgbosun("--json", "report", "performance", *words)
        print(f"| report of {name} | {time.monotonic() - begun:.2f} s |")
