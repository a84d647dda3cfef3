#!/usr/bin/python3
"""weekend-unit.py LOGGING - reference 000 lived through under the installed unit, with failures in it: inside a booted systemd
(systemd-box.sh) with the package installed, a cluster as Debian makes it, the configuration of etc/reference-000.toml with its own thresholds, and
a mail server. Saturday 22:00 to Monday 07:00, Berlin time, by the clock of daemon and server.

LOGGING is "collector" (Ubuntu's guide: the collector, %h in the prefix) or "debian" (the log of pg_ctlcluster). What was promised and
what arrived is written to $WORK/weekend-LOGGING.md. Exits with 0 when everything holds."""

import datetime as dt
import email
import email.policy
import os
import pathlib
import re
import subprocess
import sys
import time
import zoneinfo

LOGGING, WORK = sys.argv[1], pathlib.Path(os.environ["WORK"])
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
# The newest that is installed.
VERSION = max((path.parts[-3] for path in pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres")), key=int)
CLOCK = pathlib.Path("/run/weekend-clock")
JOURNAL = "/var/lib/pgbosun/journal.sqlite"
LOCAL, SHARE = pathlib.Path("/opt/postgresql-backup"), pathlib.Path("/mnt/backup/postgresql")
SMTP = pathlib.Path("/run/weekend-smtp")
MINUTE, HOURS = dt.timedelta(minutes=1), float(os.environ.get("WEEKEND_HOURS", 33))
LOOKS = ["connectivity", "disk", "cpu", "memory", "failed-logins", "temporary-files", "backup-age"]
# The crontab of the reference, once more by hand.
DAILY = {
    (23, 59): ["full-backup"],
    (1, 0): ["log-rotation"],
    (3, 0): ["daily-vacuum", "daily-catalog", "daily-analyze"],
    (6, 0): ["performance-report"],
    (6, 30): ["backup-status"],
}
SUNDAYS = {
    (4, 0): ["weekly-index-maintenance", "weekly-analyze", "weekly-advice"],
    (4, 30): ["wal-cleanup"],
    (5, 0): ["weekly-verification"],
}


# The first of them begins at Sunday 4:00 behind somebody's lock, the others wait for their turn: they take longer than a step of the clock.
LOCKED = SUNDAYS[4, 0]


def run(*words, check=True, **options):
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if check and done.returncode:
        sys.exit(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def sql(query, check=True):
    return run("runuser", "-u", "postgres", "--", "psql", "-XAtqc", query, check=check, cwd="/")


def journal(query):
    return run("sqlite3", "-readonly", "-cmd", ".timeout 5000", JOURNAL, query)


def pgbosun(*words, check=True):
    return run("pgbosun", *words, check=check, env={**os.environ, "PGBOSUN_CLOCK": str(CLOCK)})


def wait(what, seconds, holds):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def set_clock(at):
    new = CLOCK.with_suffix(".new")
    new.write_text(f"{int(at.timestamp() - time.time()):+d}")
    new.rename(CLOCK)


def saturday():
    """The next one whose weekend has no change of the clocks and no first of a month."""
    day = dt.datetime.now(BERLIN).replace(hour=22, minute=0, second=0, microsecond=0)
    while True:
        day += dt.timedelta(days=1)
        days = [day + dt.timedelta(days=n) for n in range(3)]
        if day.weekday() == 5 and len({d.utcoffset() for d in days}) == 1 and all(d.day != 1 for d in days):
            return day


def due(at):
    jobs = LOOKS[:] if at.minute % 5 == 0 else []
    jobs += DAILY.get((at.hour, at.minute), [])
    return jobs + (SUNDAYS.get((at.hour, at.minute), []) if at.weekday() == 6 else [])


def install(begin):
    set_clock(begin)
    run("dpkg", "-i", *map(str, WORK.glob("pgbosun_*.deb")))
    for path, size in ((LOCAL, "400m"), (SHARE, "400m")):
        path.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={size}", "weekend", str(path))
        run("chown", "postgres:", str(path))
    run("pg_dropcluster", "--stop", VERSION, "main", check=False)
    run("pg_createcluster", VERSION, "main", "--port", "5432", "--", "-k")
    place = pathlib.Path(f"/etc/postgresql/{VERSION}/main")
    library = "/usr/local/lib/weekend-clock.so"
    run("cc", "-O2", "-shared", "-fPIC", "-o", library, str(pathlib.Path(__file__).with_name("clock.c")))
    (place / "environment").write_text(f"LD_PRELOAD = '{library}'\nPGBOSUN_CLOCK = '{CLOCK}'\n")
    settings = (
        "archive_mode = on\nfsync = off\nshared_preload_libraries = 'pg_stat_statements'\nlog_connections = on\n"
        f"archive_command = 'env -u LD_PRELOAD pgbosun --quiet wal push \"%p\"'\n"
    )
    if LOGGING == "collector":
        settings += (
            "logging_collector = on\nlog_directory = '/var/log/postgresql'\nlog_filename = 'postgresql-%Y-%m-%d_%H%M%S.log'\n"
            "log_line_prefix = '%m [%p] %q%u@%d %h '\n"
        )
    (place / "conf.d/weekend.conf").write_text(settings)
    hba = place / "pg_hba.conf"
    hba.write_text("local all eve scram-sha-256\n" + hba.read_text())
    run("systemctl", "start", f"postgresql@{VERSION}-main")
    wait("the server answers", 60, lambda: sql("select 1", check=False) == "1")

    SMTP.mkdir()
    tools = pathlib.Path(__file__).parent
    run(str(tools / "certificates.sh"), str(SMTP))
    sink = subprocess.Popen([str(tools / "smtp-sink.py"), str(SMTP), "0"], stdout=subprocess.PIPE, text=True)
    port = sink.stdout.readline().strip()
    run("age-keygen", "-o", "/etc/pgbosun/secrets/share.key")
    public = run("age-keygen", "-y", "/etc/pgbosun/secrets/share.key")
    pathlib.Path("/etc/pgbosun/secrets/mail").write_text("right password\n")
    run("sh", "-c", "chown postgres: /etc/pgbosun/secrets/* && chmod 600 /etc/pgbosun/secrets/*")
    pathlib.Path("/etc/pgbosun/mail-ca.pem").write_text((SMTP / "ca.pem").read_text())
    text = pathlib.Path("/usr/share/doc/pgbosun/examples/reference-000.toml").read_text()
    for old, new in (
        ("[daemon]\n", '[daemon]\nwatch = false\nheartbeat = "100ms"\n'),
        ("[clusters.main]\n", "[clusters.main]\nwatch = false\n"),
        ("/var/lib/postgresql/16/main", f"/var/lib/postgresql/{VERSION}/main"),
        # A sample takes no time on the clock that is moved on, and the file systems are small ones of this test.
        # The lock is held for three quarters of an hour on the clock that is moved on, which are seconds.
        (f"[jobs.{LOCKED[0]}]\n", f'[jobs.{LOCKED[0]}]\npatience = "2s"\nlock-timeout = "1s"\n'),
        # Over so short a time the processors of this test are busy or not by chance, and a mail about both would begin with that.
        (
            'kind = "monitor.cpu"\nschedule = "*/5 * * * *"\nwarning-percent = 80.0\n',
            'kind = "monitor.cpu"\nschedule = "*/5 * * * *"\nsample = "100ms"\nwarning-percent = 1000.0\ncritical-percent = 1000.0\n'
            "warning-load = 1000.0\ncritical-load = 1000.0\n",
        ),
        ("critical-percent = 95\n", 'critical-percent = 95\nminimum-free = "1B"\nwarning-days = "0d"\n'),
        ("smtp.gmail.com", "localhost"),
        ("port = 587", f'port = {port}\nca-file = "/etc/pgbosun/mail-ca.pem"'),
        ('alerts@example.com"\npassword-file', 'alerts"\npassword-file'),
        (
            'path = "/mnt/backup/postgresql"\n',
            f'path = "/mnt/backup/postgresql"\nencrypt-to = ["{public}"]\nidentity-file = "/etc/pgbosun/secrets/share.key"\n',
        ),
    ):
        assert old in text, f"etc/reference-000.toml has no {old}"
        text = text.replace(old, new)
    pathlib.Path("/etc/pgbosun/pgbosun.toml").write_text(text)
    run("sh", "-c", "chown root:postgres /etc/pgbosun/pgbosun.toml && chmod 640 /etc/pgbosun/pgbosun.toml")
    drop = pathlib.Path("/etc/systemd/system/pgbosun.service.d")
    drop.mkdir(parents=True, exist_ok=True)
    (drop / "clock.conf").write_text(f"[Service]\nEnvironment=PGBOSUN_CLOCK={CLOCK}\n")
    run("systemctl", "daemon-reload")
    return sink


def moment(words):
    """For comparing "Sat 22:05" with another."""
    return "Sat Sun Mon".split().index(words[:3]), words[4:]


class Weekend:
    def __init__(self):
        self.begin, self.mails, self.runs, self.locker = saturday(), [], 0, None
        self.sink = install(self.begin)

    def before(self):
        """Some tables, operators as the reference keeps them, and logs of other ages."""
        sql("create role eve login password 'hers'")
        sql("create extension pg_stat_statements")
        run("runuser", "-u", "postgres", "--", "pgbench", "-iq", "-s", "1", "postgres", cwd="/")
        sql("create table claims as select g as id, repeat('x', 100) as text from generate_series(1, 20000) g")
        sql("alter table claims add primary key (id)")
        for name, days in (("old", 9), ("ancient", 99), ("young", 3)):
            path = pathlib.Path(f"/var/log/postgresql/{name}.log")
            path.write_text("a line\n" * 1000)
            at = (self.begin - dt.timedelta(days=days)).timestamp()
            os.utime(path, (at, at))
            run("chown", "postgres:adm", str(path))
        run("systemctl", "enable", "--now", "pgbosun")
        pgbosun("migrate")
        for group, address in (("database", "dba@example.com"), ("security", "guard@example.com")):
            pgbosun("operator", "add", group, address)
        pgbosun("job", "run", "full-backup", "--wait")

    def happen(self, at):
        now = (at.strftime("%a"), at.hour, at.minute)
        if now == ("Sat", 23, 30):
            for _ in range(3):
                env = {**os.environ, "PGPASSWORD": "wrong"}
                run("psql", "-XU", "eve", "-c", "select 1", "postgres", check=False, env=env)
        elif now == ("Sat", 23, 50):
            run("sh", "-c", f"head -c 1G /dev/zero >{LOCAL}/somebodys-dump", check=False)
        elif now == ("Sun", 0, 20):
            (LOCAL / "somebodys-dump").unlink()
        elif now == ("Sun", 3, 55):
            words = "begin; lock table claims; select pg_sleep(3600)"
            self.locker = subprocess.Popen(["runuser", "-u", "postgres", "--", "psql", "-Xqc", words], cwd="/")
            wait("the lock", 10, lambda: sql("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted") != "0")
        elif now == ("Sun", 4, 40):
            sql("select pg_terminate_backend(pid) from pg_stat_activity where query like '%lock table claims%' and pid <> pg_backend_pid()")
            self.locker.wait()
        elif now == ("Sun", 5, 30):
            run("systemctl", "stop", f"postgresql@{VERSION}-main")
        elif now == ("Sun", 5, 45):
            run("systemctl", "start", f"postgresql@{VERSION}-main")
            wait("the server answers", 60, lambda: sql("select 1", check=False) == "1")
        elif now == ("Sun", 7, 0):
            run("umount", "-l", str(SHARE))
        elif now == ("Sun", 12, 0):
            run("mount", "--bind", "/run/weekend-share", str(SHARE))
        if at.minute in (20, 50) and not ("Sun", 5, 30) <= now < ("Sun", 5, 45):
            run("runuser", "-u", "postgres", "--", "pgbench", "-n", "-t", "50", "postgres", check=False, cwd="/")
            sql("select pg_switch_wal()")

    def settle(self):
        news = (
            "select (select count(*) from notifications where state = 'pending') || ' ' || (select count(*) from alerts where "
            "(state = 'open' and told_severity is not severity) or (state = 'resolved' and told_severity <> 'ok'))"
        )
        still = 0

        def quiet():
            nonlocal still
            told = journal(news)
            still = still + 1 if told.startswith("0 ") else 0
            return told == "0 0" or still > 20

        wait("what is to be told is told", 60, quiet)

    def live(self, at, jobs):
        self.happen(at)
        set_clock(at + dt.timedelta(seconds=1))
        utc = at.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M")
        ended = "select count(distinct job) from runs where trigger = 'schedule' and finished_at is not null and job "
        locked = " in (" + ", ".join(f"'{job}'" for job in LOCKED) + ")"
        now = [job for job in jobs if job not in LOCKED]
        query = f"{ended} not {locked} and scheduled_for like '{utc}%'"
        wait(f"what is due at {at:%a %H:%M} has run", 180, lambda: int(journal(query)) >= len(now))
        if (at.weekday(), at.hour, at.minute) == (6, 4, 35):
            wait("what the lock kept has ended", 300, lambda: int(journal(ended + locked)) == len(LOCKED))
        set_clock(at + dt.timedelta(seconds=40))
        self.settle()
        for path in sorted(SMTP.glob("*.eml"))[len(self.mails):]:
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            to = " ".join(sorted(path.with_suffix(".to").read_text().split()))
            self.mails.append((f"{at:%a %H:%M}", to, " ".join(mail["subject"].split())))

    def arrived(self, begin, end, pattern):
        """Mails between two moments (as "Sat 22:05") whose subjects fit."""
        return [mail for mail in self.mails if moment(begin) <= moment(mail[0]) <= moment(end) and re.search(pattern, mail[2])]


# When, what the document promises, who hears of it, and how that is known.
PROMISES = [
    ("Sat 23:30", "Sat 23:35", "failed logins go to Security", "guard@example.com", r"^\[SECURITY\] WARNING .*failed logins"),
    ("Sat 23:50", "Sun 00:00", "a full disk goes to System", "devops@example.com", r"^\[SYSTEM\] CRITICAL .*/opt/postgresql-backup"),
    ("Sat 23:59", "Sun 00:15", "a failed backup goes to Database", "dba@example.com", r"^\[DB-ALERT\] CRITICAL .*(full-backup|local)"),
    ("Sun 00:20", "Sun 00:35", "the all-clear for the disk goes to System", "devops@example.com", r"^\[SYSTEM\] RESOLVED .*/opt/postgresql-backup"),
    ("Sun 04:00", "Sun 04:45", "maintenance that cannot get its lock goes to System", "devops@example.com", r"^\[SYSTEM\] WARNING .*others were in the way"),
    ("Sun 05:30", "Sun 05:35", "a server outage goes to Database at once", "dba@example.com", r"^\[DB-ALERT\] CRITICAL .*does not accept connections"),
    ("Sun 05:45", "Sun 05:50", "and so does the recovery", "dba@example.com", r"^\[DB-ALERT\] RESOLVED .*does not accept connections"),
    ("Sun 06:00", "Sun 06:15", "the performance report goes to Database", "dba@example.com", r"^\[DB-REPORT\] performance report main"),
    ("Sun 06:30", "Sun 06:45", "the backup status goes to Database", "dba@example.com", r"^\[DB-REPORT\] backups report"),
    ("Sun 07:00", "Sun 08:05", "an unavailable share goes to Database", "dba@example.com", r"^\[DB-ALERT\] .*share"),
    ("Sun 12:00", "Mon 00:35", "and so does the recovery", "dba@example.com", r"^\[DB-ALERT\] RESOLVED .*share"),
    ("Mon 06:00", "Mon 06:15", "Monday's performance report", "dba@example.com", r"^\[DB-REPORT\] performance report main"),
]


def main():
    pathlib.Path("/run/weekend-share").mkdir()
    weekend = Weekend()
    # The share is a mount of its own, which comes back with what it held.
    run("mount", "--bind", str(SHARE), "/run/weekend-share")
    weekend.before()
    failed = []
    try:
        for minute in range(1, int(HOURS * 60)):
            at = weekend.begin + minute * MINUTE
            jobs = due(at)
            if jobs:
                weekend.live(at, jobs)
                weekend.runs += len(jobs)
    except TimeoutError as error:
        failed.append(f"{error}\n{pgbosun('status', check=False)}")
    end = f"{weekend.begin + dt.timedelta(hours=HOURS):%a %H:%M}"
    promises = [promise for promise in PROMISES if moment(promise[1]) <= moment(end)]
    lines = [f"| {begin} | {promise} | {'; '.join(f'{when} to {to}: {subject}' for when, to, subject in found) or '**nothing**'} |"
             for begin, end, promise, to, pattern in promises for found in [weekend.arrived(begin, end, pattern)]]
    for begin, end, promise, to, pattern in promises:
        found = weekend.arrived(begin, end, pattern)
        if not any(mail[1] == to for mail in found):
            failed.append(f"{promise}: {found}")

    def holds(what, is_so, seen=""):
        lines.append(f"| end | {what} | {'yes' if is_so else '**no**'}{seen and f': {seen}'} |")
        if not is_so:
            failed.append(f"{what}: {seen}")

    logs = {name: [path.name for path in pathlib.Path("/var/log/postgresql").glob(f"{name}.log*")] for name in ("old", "ancient", "young")}
    holds("logs are compressed after 7 days and removed after 90", logs == {"old": ["old.log.zst"], "ancient": [], "young": ["young.log"]}, " ".join(sum(logs.values(), [])))
    running = "select count(*) from runs where trigger = 'schedule' and state in ('queued', 'running') and job not like '%-sample'"
    wait("the last runs have ended", 120, lambda: journal(running) == "0")
    skipped = journal("select group_concat(job || ' ' || scheduled_for || ' ' || state || ' ' || summary, '; ') from runs where trigger = 'schedule' and state in ('queued', 'running', 'interrupted') and job not like '%-sample'")
    holds("every job ran at its scheduled times", not skipped and not failed, f"{weekend.runs} runs{skipped}")
    pgbosun("job", "run", "weekly-verification", "--wait", check=False)
    good = "select count(*) from dba_ops.backups where state = 'verified' and repository = '{}'"
    for repository in ("local", "share"):
        count = sql(good.format(repository))
        holds(f"backups in {repository} are good", int(count or 0) >= (2 if HOURS > 26 else 1), count)
    test = pgbosun("--json", "job", "run", "monthly-restore-test", "--wait", check=False)
    holds("the restore test passes", '"succeeded"' in test, "")
    state = run("systemctl", "show", "-P", "NRestarts", "pgbosun")
    holds("the daemon never restarted", state == "0", state)
    mails = "\n".join(f"{when}  {to:<20}  {subject}" for when, to, subject in weekend.mails)
    table = "| when | promised | arrived |\n| --- | --- | --- |\n" + "\n".join(lines)
    (WORK / f"weekend-{LOGGING}.md").write_text(f"{table}\n\n```\n{mails}\n```\n")
    weekend.sink.kill()
    if failed:
        print(mails, *failed, run("journalctl", "-u", "pgbosun", "-n", "60", "--no-pager", "-o", "cat"), sep="\n")
        sys.exit(1)
    print("held")


main()
