"""The programs that are compared: pgbosun, pg_basebackup, pgBackRest, and cp as the floor."""
import contextlib, shutil
from pathlib import Path

from harness import stored, wait_for
from server import PORT

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
        restore = "restore physical --to {0} --immediate"
        command = [program, "--config", bench.directory / "pgbosun.toml"]
        super().__init__(bench, cluster, "pgbosun", "pgbosun", command, {
            "full": "backup create full", "incremental": "backup create incremental", "restore": restore,
            "delta": restore + " --delta --force", "verify": "backup verify --all", "push": "wal push {0}",
            "drain": "wal push {0}", "get": "wal fetch {0} {1}", "fetch": "wal fetch {0} {1}",
            "catalogue": "backup list"})

    def fresh(self):
        super().fresh()
        job = '{ kind = "backup.physical", repositories = ["local"], verify = false, timeout = "6h"'
        database = f"host={self.cluster.sockets} port={PORT} user=postgres dbname=postgres"
        (self.bench.directory / "pgbosun.toml").write_text(f"""
daemon = {{ state-directory = "{self.bench.make("state")}", control-socket = "{self.bench.directory}/control.sock" }}
clusters.main = {{ connection = "{database}", data-directory = "{self.cluster.data}" }}
repositories.local = {{ type = "local", path = "{self.repository}", compression-level = 3, compression-threads = 2 }}
jobs.full = {job} }}
jobs.incremental = {job}, incremental = true }}
""")

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
