"""The PostgreSQL cluster that is backed up, and servers started from what was restored."""
import contextlib, os, random, subprocess

from harness import MIB, say, wait_for

PORT, DRAINED, CHURN_ANYWHERE = 5432, 256, 0.1
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
