"""What all sections share: a scratch directory, starting programs and measuring them, and the tables."""
import contextlib, os, pwd, re, shutil, signal, statistics, subprocess, sys, tempfile, threading, time
from pathlib import Path

MIB = 1 << 20
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

    def own(self, directory):
        """Gives what lies in a directory to the user the programs run as."""
        for at, directories, files in os.walk(directory):
            for name in [*directories, *files]:
                os.chown(os.path.join(at, name), *self.owner)

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
