//! The audit log: who changed what, from where, and what came of it.
//!
//! Invariants: rows are added and never changed; the kernel's word for who a process is goes before the process's own (`SUDO_USER` is
//! believed of nobody who could not do everything anyway).

use crate::{Error, Journal, runs::storable};
use chrono::{DateTime, Utc};
use nix::unistd::{Uid, User, geteuid, getuid};
use pgbosun_core::{outcome::AuditRecord, run::Run};
use sqlx::SqliteConnection;
use uuid::Uuid;

/// Who does something, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// A user, or `anna as postgres` where one became another.
    pub name: String,
    /// A command or the control socket with process and terminal, a job, a signal.
    pub origin: String,
}

impl Actor {
    /// This process, which is a command.
    pub fn own() -> Self {
        Self::of("command", getuid(), std::process::id(), std::env::var("SUDO_USER").ok().as_deref())
    }

    /// Who is on the other end of the control socket (unix(7), SO_PEERCRED), and for whom it says that sudo started it.
    pub fn peer(uid: u32, pid: Option<i32>, sudo_user: Option<&str>) -> Self {
        let uid = Uid::from_raw(uid);
        let believed = sudo_user.filter(|_| uid.is_root() || uid == geteuid());
        Self::of("control socket", uid, pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0), believed)
    }

    /// The daemon by one of its runs.
    fn job(run: &Run) -> Self {
        Self { name: "pgbosun".into(), origin: format!("job {}, run {}", run.job, run.id) }
    }

    fn of(way: &str, uid: Uid, pid: u32, sudo_user: Option<&str>) -> Self {
        let name = |uid: Uid| User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let sudo_user = sudo_user.and_then(|user| User::from_name(user).ok().flatten()).map(|user| user.name);
        let behind = login(&read("loginuid")).map(name).or(sudo_user);
        let user = name(uid);
        let name = match behind {
            Some(behind) if behind != user => format!("{behind} as {user}"),
            _ => user,
        };
        let terminal = terminal(&read("stat")).map_or_else(String::new, |terminal| format!(", {terminal}"));
        Self { name, origin: format!("{way}, process {pid}{terminal}") }
    }
}

/// Who logged in, by `/proc/PID/loginuid` (proc(5)): the same through su and sudo; no user where nobody did.
fn login(text: &str) -> Option<Uid> {
    text.trim().parse().ok().filter(|uid| *uid != u32::MAX).map(Uid::from_raw)
}

/// The terminal, by `/proc/PID/stat` (proc(5)); the name of the program, which may hold anything, ends with the last `)`.
fn terminal(text: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once(')')?;
    let device: u32 = rest.split_whitespace().nth(4)?.parse::<i32>().ok()?.cast_unsigned();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    match major {
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        4 => Some(format!("tty{minor}")),
        _ => None,
    }
}

impl Journal {
    /// Adds a row.
    ///
    /// # Errors
    /// [`Error::Journal`].
    pub async fn audit(&self, actor: &Actor, record: AuditRecord) -> Result<(), Error> {
        let actor = actor.clone();
        self.write(move |connection| {
            Box::pin(async move { write(connection, &actor, &record, pgbosun_core::clock::now()).await })
        })
        .await
    }
}

/// What a run of the daemon's changed.
pub(crate) async fn write_of(
    connection: &mut SqliteConnection,
    record: &AuditRecord,
    run: &Run,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    write(connection, &Actor::job(run), record, at).await
}

async fn write(
    connection: &mut SqliteConnection,
    actor: &Actor,
    record: &AuditRecord,
    at: DateTime<Utc>,
) -> Result<(), Error> {
    let AuditRecord { action, object, detail, outcome } = record;
    sqlx::query(
        "insert into audit_log (id, at, actor, origin, action, object, detail, outcome) values (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(Uuid::now_v7().hyphenated())
    .bind(at)
    .bind(storable(&actor.name))
    .bind(storable(&actor.origin))
    .bind(storable(action))
    .bind(storable(object))
    .bind(storable(detail))
    .bind(storable(outcome))
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write the audit log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_and_where_are_read_from_what_the_kernel_says() {
        assert_eq!(login("4294967295"), None);
        assert_eq!(login("1000\n"), Some(Uid::from_raw(1000)));
        let stat = |device: u32| terminal(&format!("4711 (a) b) S 1 2 3 {device} 4 5"));
        assert_eq!(stat(0x8803).as_deref(), Some("pts/3"));
        assert_eq!(stat((136 << 8) | 44 | (1 << 20)).as_deref(), Some("pts/300"));
        assert_eq!(stat(0x0401).as_deref(), Some("tty1"));
        assert_eq!(stat(0), None);
        assert_eq!(terminal("nothing"), None);
    }

    #[test]
    fn sudo_is_believed_of_those_alone_who_may_do_everything() {
        // Nobody may be behind us, or whoever started the tests.
        let (me, nobody) = (geteuid().as_raw(), 65_534);
        let somebody = User::from_uid(Uid::from_raw(1)).unwrap().unwrap().name;
        assert!(Actor::peer(me, None, Some(&somebody)).name.starts_with(&format!("{somebody} as ")));
        assert!(!Actor::peer(nobody, None, Some(&somebody)).name.contains(&somebody));
        assert!(!Actor::peer(me, None, Some("no such user")).name.contains("such"));
        assert!(Actor::own().origin.starts_with("command, process "));
    }
}
