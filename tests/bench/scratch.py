"""A scratch PostgreSQL and an installation of pgbosun beside it, for benches: everything lies in one directory that goes away."""
import os, pwd, shutil, subprocess, sys, tempfile, time
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


class Scratch:
    @staticmethod
    def options(parser):
        parser.add_argument("--pgbosun", type=Path, required=True)
        parser.add_argument("--postgres", type=Path, required=True)

    def __init__(self, arguments):
        self.postgres = arguments.postgres
        self.root = Path(tempfile.mkdtemp(prefix="pgbosun-bench."))
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self.owner = dict(user=account.pw_uid, group=account.pw_gid, extra_groups=[]) if os.geteuid() == 0 else {}
        self.program = Path(shutil.copy(arguments.pgbosun, self.root / "pgbosun"))
        self.data, self.log, self.daemon = self.root / "pg", self.root / "log", None
        for path in (self.root, self.program):
            os.chown(path, account.pw_uid, account.pw_gid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop_daemon()
        self.stop()
        shutil.rmtree(self.root)

    def run(self, *words, stdin=None, accept=(0,)):
        done = subprocess.run([str(word) for word in words], cwd=self.root, input=stdin, capture_output=True, text=True, **self.owner)
        if done.returncode not in accept:
            sys.exit(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def sql(self, text, database="postgres"):
        return self.run(self.postgres / "psql", "-h", self.root, "-U", "postgres", "-XAtq", "-v", "ON_ERROR_STOP=1", database, stdin=text)

    def pgbosun(self, *words):
        return self.run(self.program, "--config", self.root / "pgbosun.toml", *words, accept=(0, 1, 2, 3))

    def start(self, settings):
        """A new server with these settings."""
        self.run(self.postgres / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-N", "-k")
        self.run("mkdir", self.log)
        with open(self.data / "postgresql.auto.conf", "a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{self.root}'\nlogging_collector = on\n"
                       f"log_directory = '{self.log}'\njit = off\n{settings}\n")
        self.resume()

    def resume(self):
        self.run(self.postgres / "pg_ctl", "-D", self.data, "-w", "-l", self.root / "pg.log", "start")

    def stop(self):
        if (self.data / "postmaster.pid").exists():
            self.run(self.postgres / "pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")

    def postmaster(self):
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def configure(self, text):
        """The configuration: this server, and what the bench adds."""
        (self.root / "pgbosun.toml").write_text(f"""[daemon]
state-directory = "{self.root}/state"
control-socket = "{self.root}/control.sock"
metrics-address = "off"
[clusters.main]
connection = "host={self.root} user=postgres dbname=postgres"
data-directory = "{self.data}"
log-directory = "{self.log}"
{text}""")

    def start_daemon(self):
        self.daemon = subprocess.Popen([self.program, "--config", self.root / "pgbosun.toml", "--quiet", "daemon"], cwd=self.root, **self.owner)
        while not (self.root / "control.sock").exists():
            time.sleep(0.1)

    def stop_daemon(self):
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait()
            self.daemon = None

    def used(self, pid, children):
        """Processor seconds of a process, and of its children that live or have ended."""
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        total = sum(map(int, fields[11:15] if children else fields[11:13])) / TICK
        if children:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                try:
                    total += self.used(int(child), False)
                except OSError:
                    pass
        return total
