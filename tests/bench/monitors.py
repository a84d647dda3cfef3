#!/usr/bin/python3
"""monitors.py --pgbosun P --postgres DIR [--tables N] [--looks N] - what each monitor costs on a server with many tables.

Starts a scratch PostgreSQL with N tables and a daemon that watches it, pauses the schedule, runs each monitor by hand, and
takes the processor time of the server and of the daemon before and after. Prints a table for docs/benchmarks.md and writes
crates/jobs/src/monitors/costs.tsv, from which docs/monitors.md takes its figures.
"""
import argparse, json, sys, time
from pathlib import Path
from scratch import Scratch

parser = argparse.ArgumentParser()
Scratch.options(parser)
parser.add_argument("--tables", type=int, default=5000)
parser.add_argument("--looks", type=int, default=20)
arguments = parser.parse_args()
TABLES = """select format('create table t%s (id int primary key, name text, at timestamptz default now());
    create index on t%s (name); insert into t%s select i, md5(i::text) from generate_series(1, 100) i', n, n, n)
    from generate_series(1, {}) n \\gexec"""


def looks_an_hour(cron):
    minute, hour = cron.split()[:2]
    each = lambda field, all: all if field == "*" else all / int(field[2:]) if field.startswith("*/") else len(field.split(","))
    return each(minute, 60) * each(hour, 24) / 24


with Scratch(arguments) as scratch:
    root, sql, pgbosun, used = scratch.root, scratch.sql, scratch.pgbosun, scratch.used
    scratch.start("shared_preload_libraries = 'pg_stat_statements'\nfsync = off\nautovacuum = off")
    sql("create extension pg_stat_statements")
    sql(TABLES.format(arguments.tables))
    sql("vacuum (analyze)")
    scratch.configure(f"""[repositories.local]
type = "local"
path = "{root}/repo"
# It sleeps while it samples, which would only make the bench long.
[jobs.host-cpu]
kind = "monitor.cpu"
schedule = "*/5 * * * *"
sample = "200ms"
[jobs.full]
kind = "backup.physical"
repositories = ["local"]
[jobs.test]
kind = "restore-test"
program-directory = "{arguments.postgres}"
""")
    scratch.start_daemon()
    daemon = scratch.daemon
    pgbosun("job", "pause", "--all")
    pgbosun("backup", "create")
    pgbosun("job", "run", "test", "--wait")
    postmaster = scratch.postmaster()
    jobs = json.loads(pgbosun("--json", "job", "list"))
    costs, server_hour, daemon_hour = [], 0.0, 0.0
    for job in jobs:
        if not job["kind"].startswith("monitor."):
            continue
        pgbosun("job", "run", job["name"], "--wait")  # what the first look alone does is no cost of the others
        before = used(postmaster, True), used(daemon.pid, False)
        for _ in range(arguments.looks):
            pgbosun("job", "run", job["name"], "--wait")
        time.sleep(0.2)
        after = used(postmaster, True), used(daemon.pid, False)
        server, own = ((b - a) * 1000 / arguments.looks for a, b in zip(before, after))
        rate = looks_an_hour(job["schedule"])
        server_hour, daemon_hour = server_hour + server * rate / 1000, daemon_hour + own * rate / 1000
        costs.append((job["kind"], server, own))
        print(f"{job['kind']:32} {server:8.1f} {own:8.1f} {rate:6.2f}", file=sys.stderr, flush=True)
    version = sql("show server_version").split()[0]
    print(f"| all {len(costs)} monitors, {arguments.tables} tables, PostgreSQL {version}: processor time of the server | {server_hour:.1f} s an hour, {server_hour / 36:.2f} % of one core |")
    print(f"| … of the daemon | {daemon_hour:.1f} s an hour, {daemon_hour / 36:.2f} % of one core |")
    target = Path(__file__).parent / "../../crates/jobs/src/monitors/costs.tsv"
    target.write_text("".join(f"{kind}\t{server:.0f}\t{own:.0f}\n" for kind, server, own in costs))
