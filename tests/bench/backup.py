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
"""
import argparse, contextlib, filecmp, json, os, pwd, random, re, shutil, signal, statistics, subprocess, sys, tempfile
import threading, time
from pathlib import Path

MIB, PORT = 1 << 20, 5432
PUSHED, DRAINED, FETCHED = 30, 256, 64
CHURN, CHURN_ANYWHERE = (1, 5, 20), 0.1
SETTINGS = f"""port={PORT} listen_addresses='' shared_buffers=512MB max_wal_size=16GB checkpoint_timeout=1h
    summarize_wal=on archive_mode=on archive_command='true' autovacuum=off synchronous_commit=off jit=off"""
TEXT = """create table lines as select i, timestamptz '2024-01-01' + i * interval '1 s' as at,
    format('10.2.%s.%s - "GET /%s/article/%s?session=%s HTTP/1.1" %s %s "Mozilla/5.0 (X11; Linux x86_64)" "%s"',
        i % 251, (i * 7919) % 253, (array['garden', 'kitchen', 'books', 'music', 'tools'])[1 + i % 5],
        (i * 31) % 4999, md5((i / 9)::text), (array[200, 200, 200, 304, 404])[1 + i % 5], (i * 2654435761) % 90001,
        repeat('request served from the cache of node ' || i % 16 || '; ', 4)) as line
    from generate_series(1::bigint, {}) i"""
SMALL = """select format('create table small_%s (id int primary key, name text, value numeric);
    insert into small_%s select i, md5(i::text), i * %s from generate_series(1, 50) i', n, n, n)
    from generate_series(1, 2000) n \\gexec"""
FINGERPRINT = """select format('select %L, count(*), sum(hashtext(t::text)::bigint) from %I t', relname, relname)
    from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by relname \\gexec"""
CURRENT = "select pg_walfile_name(pg_current_wal_insert_lsn())"
COLUMNS = {"wall": ("wall, s", 1), "cpu": ("CPU, s", 1), "memory": ("memory, MiB", MIB), "stored": ("stored, MiB", MIB)}

def say(*words):
    print(time.strftime("%H:%M:%S"), *words, file=sys.stderr, flush=True)

def stored(path):
    return sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(path) for name in names)

def wait_for(what, condition, seconds=600.0, pause=0.1):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(pause)

def machine():
    """CPU seconds of the machine since it booted: used, and stolen by the hypervisor."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), steal / os.sysconf("SC_CLK_TCK")

def tree(pid):
    """A process and its descendants."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
    return found

def memory(pids, name, pattern, unit):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, TypeError):  # it may just have ended
            total += int(re.search(pattern, Path(f"/proc/{pid}/{name}").read_text())[1]) * unit
    return total

class Bench:
    """What all sections share: the scratch directory, the user, starting and measuring programs, tables."""

    def __init__(self, arguments, directory):
        self.arguments, self.directory, self.root = arguments, directory, os.geteuid() == 0
        account = pwd.getpwnam("postgres") if self.root else pwd.getpwuid(os.geteuid())
        self.owner, self.figures, self.results = (account.pw_uid, account.pw_gid), [], {}
        self.options = dict(user=account.pw_uid, group=account.pw_gid, extra_groups=[]) if self.root else {}
        self.options["env"] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(directory)}
        os.chown(directory, *self.owner)

    def make(self, name):
        """A new, empty directory."""
        shutil.rmtree(path := self.directory / name, ignore_errors=True)
        path.mkdir(mode=0o700)
        os.chown(path, *self.owner)
        return path

    @contextlib.contextmanager
    def program(self, argv, cwd=None, **options):
        """Runs a program beside its block, and waits for its end, which must be a good one."""
        with tempfile.TemporaryFile("w+", dir=self.directory, errors="replace") as log:
            options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **self.options, **options}
            process = subprocess.Popen([*map(str, argv)], cwd=cwd or self.directory, start_new_session=True, **options)
            try:
                yield process
                process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
            if process.returncode:
                log.seek(0)
                raise RuntimeError(f"exit code {process.returncode}: {' '.join(process.args)}\n{log.read()[-3000:]}")

    def run(self, argv, cwd=None):
        with self.program(argv, cwd):
            pass

    def ask(self, *argv):
        return subprocess.check_output(argv, text=True, cwd=self.directory, **self.options).strip()

    @contextlib.contextmanager
    def measured(self, pids, pause=0.1):
        """Measures its block into the dictionary it gives, from a cold page cache on."""
        measure, ended, most, peak, cost = {}, threading.Event(), 0, 0, 0.0

        def sample():
            nonlocal most, peak, cost
            while not ended.wait(pause):
                resident = memory(now := pids(), "statm", r"^\d+ (\d+)", 4096)
                if resident > most * 1.005:
                    most, peak = resident, max(peak, memory(now, "smaps_rollup", r"\nPss: +(\d+)", 1024))
            cost = time.thread_time()

        os.sync()
        if self.root:
            Path("/proc/sys/vm/drop_caches").write_text("3\n")
        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        (used, stolen), begun = machine(), time.perf_counter()
        try:
            yield measure
        finally:
            wall, after = time.perf_counter() - begun, machine()
            ended.set()
            sampler.join()
            measure.update(wall=wall, cpu=after[0] - used - cost, memory=peak, steal=after[1] - stolen)

    def measure(self, argv):
        pids = []
        with self.measured(lambda: tree(pids[0]) if pids else [], 0.02) as measure, self.program(argv) as process:
            pids.append(process.pid)
        return measure

    def turns(self, tools, rounds=None):
        """Each tool in each round, in an order that rotates."""
        rounds = range(rounds or self.arguments.runs)
        return ((turn, tools[(turn + i) % len(tools)]) for turn in rounds for i in range(len(tools)))

    def record(self, title, tool, measure):
        self.results.setdefault(title, {}).setdefault(tool.name, []).append(measure)
        self.figures.append({"table": title, "tool": tool.name, **measure})
        if "cpu" in measure:
            say(f"{title}: {tool.name} {measure['wall']:.1f} s")

    def tables(self):
        """Prints what was recorded since the last time."""
        for title, results in self.results.items():
            every, medians = [run for runs in results.values() for run in runs], {}
            columns = {key: of for key, of in COLUMNS.items() if key in every[0]}
            if len(columns) == 1:
                columns["wall"] = ("wall, ms", 0.001)
            print(f"\n### {title}\n\n| | {' | '.join(head for head, _ in columns.values())} |")
            print(f"|{'---|' * (len(columns) + 1)}")
            for tool, runs in results.items():
                cells = []
                for key, (_, unit) in columns.items():
                    values = [run[key] / unit for run in runs]
                    median = medians[tool, key] = statistics.median(values)
                    digits = 2 if median < 10 else 1 if median < 1000 else 0
                    every_run = ", ".join(f"{value:.{digits}f}" for value in values)
                    cells.append(f"**{median:.{digits}f}** ({every_run})" if any(values) else "-")
                print(f"| {tool} | {' | '.join(cells)} |")
            if {"pgbosun", "pgBackRest"} <= set(results):
                pairs = ((medians["pgbosun", key], medians["pgBackRest", key]) for key in columns)
                print(f"| pgbosun / pgBackRest | {' | '.join(f'{a / b:.2f}' if b else '-' for a, b in pairs)} |")
            steal = max(run.get("steal", 0) / run["wall"] for run in every) / os.cpu_count()
            print(f"\nStolen by the hypervisor: at most {steal:.0%} of a run." if len(columns) > 1 else "", flush=True)
        self.results.clear()

    def processes(self, program=None):
        """Processes that name the scratch directory on their command line (and run this program)."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if str(self.directory).encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found += [int(name)] if program in (None, Path(os.readlink(f"/proc/{name}/exe"))) else []
        return found

    def clean(self):
        """Ends servers (a postmaster names its directory) and what made itself independent; removes all."""
        for kill in (signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(OSError, RuntimeError):
                for pid in self.processes():
                    os.kill(pid, kill)
                wait_for("the end", lambda: not self.processes(), 10)
        shutil.rmtree(self.directory, ignore_errors=True)

class Server:
    """A PostgreSQL server: the original, or one started from a restored directory."""

    def __init__(self, bench, data, name):
        self.bench, self.data, self.sockets, self.wal = bench, data, bench.make(name), data / "pg_wal"
        self.binaries, self.known, self.first = bench.arguments.postgres, None, None

    def control(self, verb, *options):
        self.bench.run([self.binaries / "pg_ctl", verb, "-D", self.data, "-w", "-t", "3600", "-s", *options])

    def start(self, *settings):
        settings = " ".join(f"-c {setting}" for setting in (f"unix_socket_directories={self.sockets}", *settings))
        self.control("start", "-l", f"{self.sockets}.log", "-o", settings)

    def client(self, program, *argv):
        return [self.binaries / program, "-h", self.sockets, "-p", PORT, "-U", "postgres", *argv]

    def sql(self, *statements, rows=()):
        """Runs statements, each by itself, the last with rows to copy; \\gexec works."""
        psql = self.client("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "postgres")
        with self.bench.program(psql, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            for statement in statements:
                process.stdin.write((statement + ("" if statement.endswith("gexec") else ";") + "\n").encode())
            with contextlib.suppress(BrokenPipeError):  # it ended, and has said why
                process.stdin.writelines(rows)
            said = process.communicate()[0].decode().strip()
        return said

    def fingerprint(self):
        """Counts and checksums of all tables; remembered until the contents change."""
        self.known = self.known or self.sql(FINGERPRINT)
        return self.known

    def create(self, size):
        self.control("init", "-o", "-U postgres -A trust -k --no-sync -E UTF8 --locale=C")
        with open(self.data / "postgresql.conf", "a") as file:
            file.write("\n".join(SETTINGS.split()) + "\n")
        self.start("fsync=off", "archive_mode=off", "wal_level=minimal", "max_wal_senders=0", "summarize_wal=off")
        scale = max(1, round(size * 0.4 / (15 * MIB)))
        self.rows = scale * 100_000
        self.bench.run(self.client("pgbench", "-i", "-q", "-s", scale, "postgres"))
        blobs = (b"\\\\x" + os.urandom(96_000).hex().encode() + b"\n" for _ in range(int(size * 0.3 / 100_000)))
        self.sql(TEXT.format(int(size * 0.3 / 410)), SMALL, "create table blobs (blob bytea)",
                 "alter table blobs alter blob set storage external", "copy blobs from stdin", rows=blobs)
        self.sql("vacuum (freeze, analyze)", "checkpoint")
        self.control("stop")
        self.start()

    def archive_with(self, command):
        self.sql(f"alter system set archive_command = $${command}$$", "select pg_reload_conf()")
        wait_for("the reload", lambda: self.sql("show archive_command") == command)

    def archived(self):
        return not any(name.endswith(".ready") for name in os.listdir(self.wal / "archive_status"))

    def quiet(self):
        """Everything archived, written out and summarized."""
        self.sql("select pg_switch_wal()", "checkpoint")
        wait_for("archiving", self.archived)
        wait_for("the WAL summarizer", lambda: self.sql(
            "select summarized_lsn >= redo_lsn from pg_get_wal_summarizer_state(), pg_control_checkpoint()") == "t")

    def churn(self, percent, seed):
        """Changes a share of the accounts: most of it in one contiguous range, the rest anywhere."""
        self.known, pick, count = None, random.Random(seed), int(self.rows * percent / 100)
        anywhere, first = int(count * CHURN_ANYWHERE), pick.randrange(1, self.rows - count)
        change = "update pgbench_accounts set abalance = abalance + 1 where aid"
        self.sql(f"{change} between {first} and {first + count - anywhere - 1}", f"select setseed({pick.random()})",
                 f"{change} in (select 1 + (random() * {self.rows - 1})::int from generate_series(1, {anywhere}))")

    def segments(self, count):
        """Full WAL segments of pgbench that stay in pg_wal, oldest first; made where there are too few."""
        if not self.first:
            self.sql(f"alter system set wal_keep_size = '{(DRAINED + 64) * 16}MB'", "select pg_reload_conf()")
            self.sql("select pg_switch_wal()", "checkpoint")
            self.first = self.sql(CURRENT)
        say(f"making {count} WAL segments, or what is missing of them")
        while True:
            end = self.sql(CURRENT)
            names = sorted(name for name in os.listdir(self.wal) if len(name) == 24 and self.first <= name < end)
            if len(names) >= count:
                return [self.wal / name for name in names[:count]]
            self.known, each = None, min(10_000, self.rows // 250)
            self.bench.run(self.client("pgbench", "-n", "-c", "4", "-j", "2", "-t", each, "postgres"))
            self.sql("checkpoint")  # so that whole pages are logged again, as after any checkpoint

class Tool:
    """A program: `verbs` has the command line for what the sections ask of it, `repository` is where it stores."""

    daemon = staticmethod(contextlib.nullcontext)

    def __init__(self, bench, cluster, key, name, command, verbs):
        self.bench, self.cluster, self.key, self.name = bench, cluster, key, name
        self.command, self.verbs, self.repository = command, verbs, bench.directory / f"repository-{key}"

    def fresh(self):
        """Begins with an empty repository."""
        self.bench.make(self.repository.name)

    def settle(self):
        """Waits for what runs on, and forgets what was fetched ahead."""

    def argv(self, verb, *words):
        text = self.verbs[verb].format(*words, repository=self.repository)
        return [*self.command, *([text] if self.command[0] == "sh" else text.split())]

    def archive_command(self, verb):
        argv = self.argv(verb, "%p", "%f")
        return argv[-1] if argv[0] == "sh" else " ".join(map(str, argv))

    def processes(self):
        return self.bench.processes(self.command[0])

    def backup(self, verb="full"):
        """A measured backup."""
        self.cluster.quiet()
        before = stored(self.repository)
        return self.bench.measure(self.argv(verb)) | {"stored": stored(self.repository) - before}

class Pgbosun(Tool):
    def __init__(self, bench, cluster):
        # A copy: the user postgres may not be able to read the original, and a build may replace it.
        program = Path(shutil.copy(bench.arguments.pgbosun, bench.directory / "pgbosun"))
        program.chmod(0o755)
        self.incremental = "**`incremental`**" in bench.ask(program, "config", "reference", "--markdown")
        immediate = "--immediate" in bench.ask(program, "restore", "physical", "--help")
        restore = "restore physical --to {0}" + (" --immediate" if immediate else "")
        command = [program, "--config", bench.directory / "pgbosun.toml"]
        super().__init__(bench, cluster, "pgbosun", "pgbosun", command, {
            "full": "backup create full", "incremental": "backup create incremental", "restore": restore,
            "delta": restore + " --delta --force", "verify": "backup verify --all", "push": "wal push {0}",
            "drain": "wal push {0}", "get": "wal fetch {0} {1}", "fetch": "wal fetch {0} {1}"})

    def fresh(self):
        super().fresh()
        job = '{ kind = "backup.physical", repositories = ["local"], verify = false, timeout = "6h"'
        database = f"host={self.cluster.sockets} port={PORT} user=postgres dbname=postgres"
        (self.bench.directory / "pgbosun.toml").write_text(f"""
daemon = {{ state-directory = "{self.bench.make("state")}", control-socket = "{self.bench.directory}/control.sock" }}
clusters.main = {{ connection = "{database}", data-directory = "{self.cluster.data}" }}
repositories.local = {{ type = "local", path = "{self.repository}", compression-level = 3, compression-threads = 2 }}
jobs.full = {job} }}
""" + (f"jobs.incremental = {job}, incremental = true }}\n" if self.incremental else ""))

    @contextlib.contextmanager
    def daemon(self):
        socket = self.bench.directory / "control.sock"
        socket.unlink(missing_ok=True)
        with self.bench.program([*self.command, "daemon"]) as process:
            wait_for("the daemon", lambda: process.poll() is not None or socket.exists(), 60)
            if process.returncode is None:
                yield
            process.terminate()

class PgBackRest(Tool):
    def __init__(self, bench, cluster):
        restore = "--pg1-path={0} --type=immediate --target-action=promote restore"
        command = [bench.arguments.pgbackrest, f"--config={bench.directory}/pgbackrest.conf", "--stanza=main"]
        super().__init__(bench, cluster, "pgbackrest", "pgBackRest", command, {
            "full": "--type=full backup", "incremental": "--type=incr backup", "restore": restore,
            "delta": "--delta " + restore, "verify": "--output=text verify", "push": "archive-push {0}",
            "drain": "--archive-async archive-push {0}", "get": "archive-get {0} {1}",
            "fetch": "--archive-async archive-get {0} {1}"})

    def settle(self):
        wait_for("pgBackRest's asynchronous processes", lambda: not self.processes(), 60)
        self.bench.make("spool")

    def fresh(self):
        super().fresh()
        self.settle()
        settings = f"""[global] repo1-path={self.repository} repo1-bundle=y repo1-block=y repo1-retention-full=9
            log-path={self.bench.make("log")} lock-path={self.bench.make("lock")} process-max=2 start-fast=y
            compress-type=zst compress-level=3 log-level-console=warn log-level-file=off
            spool-path={self.bench.directory}/spool [main]
            pg1-path={self.cluster.data} pg1-socket-path={self.cluster.sockets} pg1-port={PORT} pg1-user=postgres"""
        (self.bench.directory / "pgbackrest.conf").write_text("\n".join(settings.split()) + "\n")
        self.bench.run([*self.command, "stanza-create"])

    def backup(self, verb="full"):
        self.cluster.archive_with(self.archive_command("push"))
        measure = super().backup(verb)
        self.cluster.archive_with("true")
        return measure

def prove(tool, run, directory=None):
    """Compares what PostgreSQL finds in a restored directory, or a new restore, with the original."""
    if tool.bench.arguments.compare == "all" or run == 0:
        if not directory:
            directory = tool.bench.make("restored")
            tool.bench.run(tool.argv("restore", directory))
        copy = Server(tool.bench, directory, "r")
        copy.start("archive_mode=off", "summarize_wal=off")
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
            (status / f"{segment.name}.done").rename(status / f"{segment.name}.ready")
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

SECTIONS = {section.__name__: section for section in (full, restore, delta, verify, incremental, push, drain, fetch)}

def peers(bench, cluster):
    base = " ".join(map(str, cluster.client("pg_basebackup", "-D {repository} -Ft -X stream --checkpoint=fast")))
    tar = "mkdir -p {0}; tar -xf {repository}/base.tar.* -C {0}; tar -xf {repository}/pg_wal.tar* -C {0}/pg_wal"
    for key, how in (("gzip", "client-gzip:6"), ("zstd", "server-zstd:level=3,workers=2")):
        verbs = {"full": f"exec {base} --compress={how}", "restore": tar}
        yield Tool(bench, cluster, key, f"pg_basebackup {how}", ["sh", "-ec"], verbs)
    if bench.arguments.pgbackrest:
        yield PgBackRest(bench, cluster)
    get = "cp {repository}/{0} {1}"
    copy = {"push": "cp {0} {repository}/ && sync {repository}/$(basename {0})", "get": get, "fetch": get,
            "drain": "cp {0} {repository}/{1} && sync {repository}/{1}"}
    yield Tool(bench, cluster, "cp", "cp and sync", ["sh", "-ec"], copy)
    yield Tool(bench, cluster, "nothing", "/bin/true", ["/bin/true"], {"push": ""})

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
