//! The sections every installation has. Options of job kinds are declared beside their kinds.

mod channels;
mod repository;

pub use channels::{Channel, ChannelType, Mail, MailSecurity, MailTransport};
pub use repository::{Compression, Metadata, Repository, RepositoryType};

use super::{ChannelName, ClusterName, GroupName, Listen, MailAddress, Patience, RepositoryName, Secret};
use crate::{
    options,
    schedule::{Blackout, CatchUp, Schedule},
};
use bytesize::ByteSize;
use std::{path::PathBuf, time::Duration};

options! {
    /// The daemon itself.
    pub struct Daemon {
        /// Where the journal and other state of this installation lie.
        state_directory: PathBuf = "\"/var/lib/pgbosun\"", restart;
        /// The socket on which the command talks to the daemon.
        control_socket: PathBuf = "\"/run/pgbosun/control.sock\"", restart;
        /// The time zone of schedules and blackout windows, unless a job has its own.
        time_zone: chrono_tz::Tz = "\"UTC\"";
        /// The name under which this installation appears in history and mails; the host name by default.
        instance: Option<String>, restart;
        /// How many jobs may run at the same time; more wait their turn.
        max_concurrent_jobs: u32 = "4";
        /// How long running jobs may wind down when the daemon stops, before they are given up. Keep it below
        /// `TimeoutStopSec` of the unit.
        stop_timeout: Duration = "\"60s\"";
        /// Windows in which no job starts on its schedule, in wall-clock time.
        blackout: Vec<Blackout> = "[]";
        /// The group that is told about the daemon itself: a refused reload, a crash, a delivery that failed.
        alert_group: GroupName = "\"database\"";
        /// The group that is told where nobody else can be: a group with nobody in it, or a message that its channel did not
        /// take within `fail-safe-after`. Without one, `alert-group` is told of groups with nobody in them.
        fail_safe_group: Option<GroupName>;
        /// How long a channel may fail before the fail-safe group is told in its place, and the failure itself is an alert.
        fail_safe_after: Duration = "\"15m\"";
        /// An address (https) that is fetched while the daemon is well: whoever watches it notices when the daemon, the
        /// machine or its network is gone.
        alive_url: Option<String>;
        /// How often it is fetched.
        alive_every: Duration = "\"60s\"";
        /// Where Prometheus finds `/metrics`, `"off"` is nowhere. Nobody is asked for a password: keep it to loopback or
        /// a network of your own.
        metrics_address: Listen = "\"127.0.0.1:9875\"", restart;
        /// Run every monitor of this machine that needs no options, as if each were a job `host-…`; a job of the same kind
        /// takes its place, also one with `enabled = false`. `docs/monitors.md` lists them.
        watch: bool = "true";
        /// How often the daemon looks at a schedule that nothing woke it for, and at `dba_ops` while that is away.
        heartbeat: Duration = "\"5s\"", restart;
        /// The user that the unit runs the daemon as, for `pgbosun config unit`; the unit's own, `postgres`, by default.
        user: Option<String>, restart;
        /// The daemon's share of the processors where others want them too, for `pgbosun config unit`: from 1 to 10000, and 100
        /// is what everybody else has (systemd.resource-control(5), `CPUWeight=`).
        cpu_weight: u16 = "50", restart;
        /// The daemon's share of the disks where others want them too, as `cpu-weight` (`IOWeight=`).
        io_weight: u16 = "50", restart;
        /// The folder with mail templates that replace the built-in ones.
        template_directory: PathBuf = "\"/etc/pgbosun/templates\"";
    }
}

options! {
    /// History: how long it is kept, and the PostgreSQL database with the schema `dba_ops` that shares it.
    /// Without a connection history stays in the local journal, and everything else works.
    pub struct History {
        /// The database that holds the schema `dba_ops`, in any form libpq takes: `host=… dbname=…`, a URI, `service=…`.
        connection: Option<String>;
        /// A file of mode 0600 with the password. Without it: the credential `history.password`, then `.pgpass`.
        password_file: Option<PathBuf>;
        /// The password, for the environment only: `PGBOSUN_HISTORY__PASSWORD`.
        password: Option<Secret>;
        /// How long runs, findings, resolved alerts and sent messages are kept.
        keep: Duration = "\"400d\"";
        /// How long runs of monitors are kept that succeeded; what they found is kept like everything else.
        keep_looks: Duration = "\"14d\"";
        /// How long it is kept what maintenance did to each table and index.
        keep_maintenance: Duration = "\"90d\"";
        /// How long samples are kept as they were taken.
        keep_samples: Duration = "\"7d\"";
        /// How long they are kept by the hour; by the day, sizes among them, they are kept like everything else.
        keep_hours: Duration = "\"35d\"";
    }
}

options! {
    /// A PostgreSQL cluster to care for.
    pub struct Cluster {
        /// How to connect, in any form libpq takes: `host=/var/run/postgresql user=postgres`, a URI, `service=…`; over TLS as `psql`
        /// does, with `sslmode`, `sslrootcert` and `~/.postgresql/root.crt`.
        connection: String;
        /// A file of mode 0600 with the password. Without it: the credential `clusters.NAME.password`, then `.pgpass`.
        password_file: Option<PathBuf>;
        /// The password, for the environment only.
        password: Option<Secret>;
        /// The data directory, where the daemon runs on the database's host.
        data_directory: Option<PathBuf>;
        /// The directory of the server's log files, where the daemon runs on the database's host.
        log_directory: Option<PathBuf>;
        /// How long a connection may take.
        connect_timeout: Duration = "\"10s\"";
        /// How long one query of a monitor may take; set on the server as well.
        statement_timeout: Duration = "\"30s\"";
        /// How long one query of a monitor may wait for a lock.
        lock_timeout: Duration = "\"2s\"";
        /// Run every monitor of a cluster that needs no options, as if each were a job `NAME-…`; a job of the same kind for
        /// this cluster takes its place, also one with `enabled = false`. `docs/monitors.md` lists them.
        watch: bool = "true";
        /// Where `pgbosun wal push` and the receiver keep WAL; all repositories by default. A push succeeds when the
        /// segment is durable in every one that is `required`.
        wal_repositories: Vec<RepositoryName> = "[]";
        /// Receive WAL from this cluster as it is written, over a replication slot: for a recovery point of seconds.
        receive_wal: bool = "false", restart;
        /// The replication slot of the receiver. It is created where it is missing.
        receive_slot: String = "\"pgbosun\"", restart;
        /// The most WAL the receiver's slot may hold back on the server. Past it the slot is dropped, the gap is
        /// recorded and alerted: a slot of ours never fills the server's disk.
        slot_limit: ByteSize = "\"16GiB\"";
    }
}

options! {
    /// Archiving and fetching WAL.
    pub struct Wal {
        /// How many segments the daemon pushes at the same time.
        push_workers: u8 = "2";
        /// How many segments ahead of PostgreSQL `wal fetch` reads; 0 is none.
        fetch_ahead: u8 = "8";
        /// Where segments wait: those for a repository that is away, and those fetched ahead. `spool` in the state
        /// directory by default.
        spool_directory: Option<PathBuf>;
        /// The most that may wait for one repository that is not `required`. Past it segments are left out there, which
        /// is recorded and alerted; the required repositories have them.
        spool_limit: ByteSize = "\"4GiB\"";
        /// How long `wal fetch` repeats what failed before it gives up.
        fetch_patience: Duration = "\"30s\"";
    }
}

options! {
    /// A group of operators. `database`, `security` and `system` exist without being written down.
    pub struct Group {
        /// What every subject begins with.
        subject_prefix: String = "\"[PGBOSUN]\"";
        /// The same for what needs no immediate action: reports, and successes of jobs with `notify-success`.
        report_prefix: String = "\"[DB-REPORT]\"";
        /// Addresses that are told while `dba_ops.operators` knows nobody of this group, active or not, or is out of reach
        /// and was never read. Where there is nobody to tell either way, `alert-group` under `[daemon]` is told.
        recipients: Vec<MailAddress> = "[]";
        /// How often a problem that stays is told again; `0s` is never.
        repeat: Duration = "\"4h\"";
        /// The channels by which the group is told: `mail`, and what is defined under `[channels.NAME]`.
        channels: Vec<ChannelName> = "[\"mail\"]";
        /// How long the first news waits for others, so that what comes up together is one message.
        gather: Duration = "\"10s\"";
    }
}

options! {
    /// What every job has, whatever its kind.
    pub struct JobOptions {
        /// What the job does.
        kind: String;
        /// The cluster it works on; by default the only one.
        cluster: Option<ClusterName>;
        /// When it runs: cron with five or six fields, `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, `@reboot`.
        /// Without it the job runs only on demand.
        schedule: Option<Schedule>;
        /// The time zone of its schedule.
        time_zone: Option<chrono_tz::Tz>;
        /// How long one try may take.
        timeout: Duration = "\"1h\"";
        /// How often a try that failed for a passing reason is repeated.
        retries: u32 = "0";
        /// The pause before the first repetition; it doubles each time, up to an hour, and varies by a fifth.
        retry_delay: Duration = "\"30s\"";
        /// The start is moved by up to this much, always by the same amount for the same job and host.
        start_jitter: Duration = "\"0s\"";
        /// What happens after downtime to a time that passed meanwhile, and to a run that a stop, a crash or a reboot ended: with `once` it
        /// runs again when the daemon is back, within its start-deadline. Without it: `once` for backups, `none` for all else. A run that
        /// was ended and does not run again is told, unless its next time is within the hour.
        catch_up: Option<CatchUp>;
        /// The latest a run may start after its time.
        start_deadline: Duration = "\"12h\"";
        /// Windows in which it does not start on its schedule, besides the daemon's.
        blackout: Vec<Blackout> = "[]";
        /// Of the jobs that name one group here, one is at work at a time; the others wait for it. By default `CLUSTER-backup`
        /// for `backup.physical`, the same and `CLUSTER-maintenance` for `maintenance.reindex` and `maintenance.catalog`, and
        /// `CLUSTER-maintenance` for the other maintenance jobs.
        exclusive: Option<Vec<String>>;
        /// Also notify the group when the job succeeds.
        notify_success: bool = "false";
        /// The group that is told; by default `database`, or for a monitor the one that `docs/monitors.md` names.
        alert_group: Option<GroupName>;
        /// How long a problem must be there before it is told: so many looks in a row, or a time; by default what
        /// `docs/monitors.md` says. A server or machine that is down is told at the first look.
        open_after: Option<Patience>;
        /// How much better than its limit a figure must be before its alert ends, percent of the limit: one that moves about
        /// its limit is one alert, and not many.
        leave_margin: u8 = "5";
        /// `false` keeps the job but never runs it on its schedule.
        enabled: bool = "true";
    }
}
