//! The sections every installation has. Options of job kinds are declared beside their kinds.

mod channels;
mod repository;

pub use channels::{Channel, ChannelCommon, Mail, MailSecurity, MailTransport};
pub use repository::{Compression, Metadata, Repository, RepositoryOptions};

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
        /// Where the journal and other state of this installation are kept.
        state_directory: PathBuf = "\"/var/lib/pgbosun\"", restart;
        /// The socket on which the command talks to the daemon.
        control_socket: PathBuf = "\"/run/pgbosun/control.sock\"", restart;
        /// The time zone of schedules and blackout windows, unless a job has its own.
        time_zone: chrono_tz::Tz = "\"UTC\"";
        /// The name under which this installation appears in history and mails; the host name by default.
        instance: Option<String>, restart;
        /// How many jobs may run at the same time; others wait their turn.
        max_concurrent_jobs: u32 = "4";
        /// How long running jobs may take to wind down when the daemon stops, before they are abandoned. Keep it below the
        /// unit's `TimeoutStopSec`.
        stop_timeout: Duration = "\"60s\"";
        /// Windows in which no job starts on its schedule, in wall-clock time.
        blackout: Vec<Blackout> = "[]";
        /// The group notified of problems with the daemon itself: a refused reload, a crash, a failed delivery.
        alert_group: GroupName = "\"database\"";
        /// The group notified when nobody else can be: a group has no members, or its channel did not take a message within
        /// `fail-safe-after`. Without it, `alert-group` gets the alerts of groups without members.
        fail_safe_group: Option<GroupName>;
        /// How long a channel may fail before the fail-safe group is notified instead, and the failure itself becomes an alert.
        fail_safe_after: Duration = "\"15m\"";
        /// A URL (https) that the daemon fetches while it is well: whoever watches for these requests notices when the daemon,
        /// the machine or its network is down.
        alive_url: Option<String>;
        /// How often `alive-url` is fetched.
        alive_every: Duration = "\"60s\"";
        /// Where Prometheus finds `/metrics`; `"off"` turns it off. No password is asked for: keep it to loopback or a private
        /// network.
        metrics_address: Listen = "\"127.0.0.1:9875\"", restart;
        /// Run every monitor of this machine that needs no options, as if each were a job `host-…`; a configured job of the
        /// same kind replaces it, even one with `enabled = false`. `docs/monitors.md` lists them.
        watch: bool = "true";
        /// How often the daemon checks the schedule if nothing else woke it, and tries `dba_ops` again while that is
        /// unavailable.
        heartbeat: Duration = "\"5s\"", restart;
        /// The user the unit runs the daemon as, for `pgbosun config unit`; by default the unit's own, `postgres`.
        user: Option<String>, restart;
        /// The daemon's share of CPU time when others want it too, for `pgbosun config unit`: from 1 to 10000, where everyone
        /// else has 100 (systemd.resource-control(5), `CPUWeight=`).
        cpu_weight: u16 = "50", restart;
        /// The daemon's share of disk I/O when others want it too, like `cpu-weight` (`IOWeight=`).
        io_weight: u16 = "50", restart;
        /// The directory with mail templates that replace the built-in ones.
        template_directory: PathBuf = "\"/etc/pgbosun/templates\"";
    }
}

options! {
    /// History: how long it is kept, and the PostgreSQL database in whose schema `dba_ops` it is shared. Without a connection,
    /// history stays in the local journal, and everything else works.
    pub struct History {
        /// The database that holds the schema `dba_ops`, in any form libpq takes: `host=… dbname=…`, a URI, `service=…`.
        connection: Option<String>;
        /// A file of mode 0600 with the password. Without it: the credential `history.password`, then `.pgpass`.
        password_file: Option<PathBuf>;
        /// The password, for the environment only: `PGBOSUN_HISTORY__PASSWORD`.
        password: Option<Secret>;
        /// How long runs, findings, resolved alerts and sent messages are kept.
        keep: Duration = "\"400d\"";
        /// How long successful runs of monitors are kept; what they found is kept like everything else.
        keep_looks: Duration = "\"14d\"";
        /// How long the record of what maintenance did to each table and index is kept.
        keep_maintenance: Duration = "\"90d\"";
        /// How long individual samples are kept.
        keep_samples: Duration = "\"7d\"";
        /// How long hourly summaries of samples are kept; daily summaries, those of sizes among them, are kept like
        /// everything else.
        keep_hours: Duration = "\"35d\"";
    }
}

options! {
    /// A PostgreSQL cluster to look after.
    pub struct Cluster {
        /// How to connect, in any form libpq takes: `host=/var/run/postgresql user=postgres`, a URI, `service=…`; over TLS as `psql`
        /// does, with `sslmode`, `sslrootcert` and `~/.postgresql/root.crt`.
        connection: String;
        /// A file of mode 0600 with the password. Without it: the credential `clusters.NAME.password`, then `.pgpass`.
        password_file: Option<PathBuf>;
        /// The password, for the environment only.
        password: Option<Secret>;
        /// The data directory, if the daemon runs on the database's host.
        data_directory: Option<PathBuf>;
        /// The directory of the server's log files, if the daemon runs on the database's host.
        log_directory: Option<PathBuf>;
        /// How long connecting may take.
        connect_timeout: Duration = "\"10s\"";
        /// How long one query of a monitor may take; set on the server as well.
        statement_timeout: Duration = "\"30s\"";
        /// How long one query of a monitor may wait for a lock.
        lock_timeout: Duration = "\"2s\"";
        /// Run every monitor of a cluster that needs no options, as if each were a job `NAME-…`; a configured job of the same
        /// kind for this cluster replaces it, even one with `enabled = false`. `docs/monitors.md` lists them.
        watch: bool = "true";
        /// Where `pgbosun wal push` and the receiver store WAL; all repositories by default. A push succeeds once the segment
        /// is durable in every repository that is `required`.
        wal_repositories: Vec<RepositoryName> = "[]";
        /// Receive WAL from this cluster as it is written, over a replication slot, for a recovery point of seconds.
        receive_wal: bool = "false", restart;
        /// The replication slot of the receiver. It is created if it is missing.
        receive_slot: String = "\"pgbosun\"", restart;
        /// The most WAL the receiver's slot may hold back on the server. Beyond that the slot is dropped, and the gap is
        /// recorded and alerted on: pgbosun's slot never fills the server's disk.
        slot_limit: ByteSize = "\"16GiB\"";
    }
}

options! {
    /// Archiving and fetching WAL.
    pub struct Wal {
        /// How many segments the daemon pushes at the same time.
        push_workers: u8 = "2";
        /// How many segments `wal fetch` reads ahead of PostgreSQL; 0 turns this off.
        fetch_ahead: u8 = "8";
        /// Where segments wait: those for a repository that is unavailable, and those fetched ahead. By default `spool` in the
        /// state directory.
        spool_directory: Option<PathBuf>;
        /// The most that may wait for one repository that is not `required`. Beyond that, segments are left out there, which is
        /// recorded and alerted on; the required repositories have them.
        spool_limit: ByteSize = "\"4GiB\"";
        /// How long `wal fetch` retries what failed before it gives up.
        fetch_patience: Duration = "\"30s\"";
    }
}

options! {
    /// A group of operators. `database`, `security` and `system` exist without being configured.
    pub struct Group {
        /// What every subject starts with.
        subject_prefix: String = "\"[PGBOSUN]\"";
        /// The same for messages that need no immediate action: reports, and successes of jobs with `notify-success`.
        report_prefix: String = "\"[DB-REPORT]\"";
        /// Addresses notified while `dba_ops.operators` has nobody in this group, active or not, or cannot be reached and was
        /// never read. If there is nobody to notify either way, `alert-group` under `[daemon]` is notified.
        recipients: Vec<MailAddress> = "[]";
        /// How often a problem that persists is reported again; `0s` means never.
        repeat: Duration = "\"4h\"";
        /// The channels by which the group is notified: `mail`, and those defined under `[channels.NAME]`.
        channels: Vec<ChannelName> = "[\"mail\"]";
        /// How long the first notification waits for others, so that problems that come up together arrive in one message.
        gather: Duration = "\"10s\"";
    }
}

options! {
    /// Options of every job, whatever its kind.
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
        /// How long one attempt may take.
        timeout: Duration = "\"1h\"";
        /// How often an attempt that failed for a temporary reason is repeated.
        retries: u32 = "0";
        /// The pause before the first retry; it doubles each time, up to an hour, and varies by a fifth.
        retry_delay: Duration = "\"30s\"";
        /// The start is delayed by up to this much, always by the same amount for the same job and host.
        start_jitter: Duration = "\"0s\"";
        /// What happens to a scheduled time that passed while the daemon was down, and to a run that was ended by a stop, a
        /// crash or a reboot: with `once` the job runs when the daemon is back, within its start-deadline. Default: `once` for
        /// backups, `none` for everything else. A run that was ended and does not run again is reported, unless its next time
        /// is within the hour.
        catch_up: Option<CatchUp>;
        /// How long after its scheduled time a run may still start.
        start_deadline: Duration = "\"12h\"";
        /// Windows in which it does not start on its schedule, in addition to the daemon's.
        blackout: Vec<Blackout> = "[]";
        /// Of the jobs that name the same group here, one runs at a time; the others wait for it. By default `CLUSTER-backup`
        /// for `backup.physical`, both `CLUSTER-backup` and `CLUSTER-maintenance` for `maintenance.reindex` and
        /// `maintenance.catalog`, and `CLUSTER-maintenance` for the other maintenance jobs.
        exclusive: Option<Vec<String>>;
        /// Also notify the group when the job succeeds.
        notify_success: bool = "false";
        /// The group to notify; by default `database`, or for a monitor the one that `docs/monitors.md` names.
        alert_group: Option<GroupName>;
        /// How long a problem must persist before it is reported: a number of checks in a row (`"3 checks"`), or a time
        /// (`"10m"`); by default what `docs/monitors.md` says. A server or machine that is down is reported at the first check.
        open_after: Option<Patience>;
        /// By how much a value must be better than its limit before its alert is resolved, in percent of the limit: a value
        /// that moves around its limit makes one alert, not many.
        leave_margin: u8 = "5";
        /// `false` keeps the job but never runs it on its schedule.
        enabled: bool = "true";
    }
}
