#!/usr/bin/env python3
"""backup.py - pgbosun beside pg_basebackup and pgBackRest, on one PostgreSQL cluster and in one run.

The cluster is 40 % pgbench, 30 % compressible text, 30 % incompressible blobs, and 2,000 small tables, with checksums
and summarize_wal. All store on one disk with zstd level 3 and 2 threads (pg_basebackup also with gzip 6), take a fast
checkpoint, sync as they do by default, and take turns in a rotating order. Before each run the server has archived what
is left and made a checkpoint, everything is written out and, for root, the page cache dropped. WAL goes to pgBackRest's
archive while its backups run, and nowhere else. The tables have the median and, in brackets, every run: wall, from the
start of the program to its exit; CPU of the whole machine, server included, without idle, iowait, what the hypervisor
stole (told below the table) and the sampling of memory; memory, the peak of the program's processes and not the
server's (RSS every 20 ms, Pss at each new peak of that); stored, by how much the repository grew, WAL included.
Each backup and restore is proved: PostgreSQL starts from it, and count(*) and sum(hashtext(row)) of all tables are
those of the original. For root all but this script runs as the user postgres. All it makes is removed at the end.
  full         a full backup into an empty repository
  restore      of that into an empty directory
  delta        of that over a restored directory with 1 % of the relation files, the largest among them, damaged in
               three places each that their size and time do not tell
  verify       of that, from end to end
  incremental  after a full backup and an UPDATE of 1, 5, 20 % of the rows of pgbench_accounts: nine tenths of them one
               contiguous range, one tenth single rows anywhere
  push         one WAL segment, start to exit, for 30 segments full of pgbench, page cache warm; /bin/true is the floor
  drain        256 such segments after archiving stood still, until pg_stat_archiver counts the last
  fetch        64 segments in sequence, one call each
  catalogue    a list of 10,000 backups, which have but a catalogue each, for the first time and again
"""
import argparse, json, os, signal, sys, tempfile
from pathlib import Path

from harness import MIB, Bench, say, stored
from sections import SECTIONS
from server import Server
from tools import Pgbosun, peers

def measure_all(arguments, bench):
    say(f"making a cluster of about {arguments.size:g} GB")
    cluster, failed = Server(bench, bench.directory / "data", "s"), False
    cluster.create(int(arguments.size * (1 << 30)))
    tools = [Pgbosun(bench, cluster), *peers(bench, cluster)]
    versions = [bench.ask(arguments.postgres / "postgres", "--version"), bench.ask(tools[0].command[0], "--version")]
    versions += [bench.ask(arguments.pgbackrest, "version")] if arguments.pgbackrest else []
    print("; ".join([*versions, f"{os.cpu_count()} cores", f"cluster of {stored(cluster.data / 'base') / MIB:,.0f} MiB",
                     f"page cache {'dropped' if bench.root else 'left as it was'} before each run"]))
    tools = [tool for tool in tools if not arguments.tools or tool.key in arguments.tools.split(",")]
    for name in arguments.only.split(","):
        verb = "delta" if name == "restore" else name  # tar is no peer in restoring
        try:
            cluster.archive_with("true")
            SECTIONS[name](bench, cluster, [tool for tool in tools if verb in tool.verbs])
        except RuntimeError as failure:
            failed = True
            print(f"\n**{name} failed**: {failure}")
        finally:
            bench.tables()
    return failed

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    path = {"type": lambda text: Path(text).resolve(), "metavar": "PATH"}
    parser.add_argument("--pgbosun", **path, required=True, help="a release build")
    parser.add_argument("--postgres", **path, required=True, help="the directory of PostgreSQL's programs")
    parser.add_argument("--pgbackrest", **path, help="left out without it")
    parser.add_argument("--size", type=float, default=4, metavar="GB", help="4")
    parser.add_argument("--runs", type=int, default=3, help="3")
    parser.add_argument("--directory", **path, default=tempfile.gettempdir(), help="where everything lies meanwhile")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="LIST", help="sections")
    parser.add_argument("--tools", metavar="LIST", help="of pgbosun,gzip,zstd,pgbackrest,cp,nothing")
    parser.add_argument("--compare", choices=("all", "first"), default="all", help="first: only the first run of each")
    parser.add_argument("--json", **path, help="where to write every figure")
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(SECTIONS):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    os.umask(0o022)  # the user postgres reads the configurations
    arguments.directory.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments, Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.directory)))
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, lambda number, _: sys.exit(128 + number))
    try:
        return measure_all(arguments, bench)
    finally:
        for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(end, signal.SIG_IGN)
        bench.clean()
        if arguments.json:
            arguments.json.write_text(json.dumps(bench.figures, indent=1))

if __name__ == "__main__":
    sys.exit(main())
