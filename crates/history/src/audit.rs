//! The audit log: who changed what, from where, and what came of it.
//!
//! Invariants: rows are added and never changed; the kernel's word for who a process is goes before the process's own: `SUDO_USER` counts
//! where no login is known, over the socket of root and the daemon's own user alone.

use crate::{Error, Journal, runs::storable};
use nix::unistd::{Uid, User, geteuid, getuid};
use pgbosun_core::{outcome::AuditRecord, run::Run};
use sqlx::SqliteConnection;
use std::sync::OnceLock;
use uuid::Uuid;

/// Characters of a text.
const LONGEST: usize = 4000;

/// Who does something, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// A user, or `anna as postgres` where one became another.
    pub name: String,
    /// A command or the control socket with process and terminal, a job, a signal.
    pub origin: String,
}

/// What the kernel says of a process, at a time when it certainly is the one that is meant.
#[derive(Clone, Debug)]
pub struct Process {
    uid: Uid,
    pid: Option<u32>,
    login: Option<Uid>,
    terminal: Option<String>,
}

impl Process {
    /// This one.
    fn own() -> Self {
        Self::of(getuid(), Some(std::process::id()))
    }

    /// Who just connected to the control socket (unix(7), SO_PEERCRED). Asked for at once: later its number may be another's.
    pub fn peer(uid: u32, pid: Option<i32>) -> Self {
        Self::of(Uid::from_raw(uid), pid.and_then(|pid| u32::try_from(pid).ok()))
    }

    fn of(uid: Uid, pid: Option<u32>) -> Self {
        let read = |file: &str| {
            let text = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok());
            text.unwrap_or_default()
        };
        Self { uid, pid, login: login(&read("loginuid")), terminal: terminal(&read("stat")) }
    }

    /// Who is behind it, with the word of the process itself for whom sudo started it. Where nobody logged in, a process may set the login
    /// that the kernel keeps, once: so that counts, as its word does, only of root and of our own user, who may do everything anyway.
    fn actor(&self, way: &str, sudo_user: Option<&str>) -> Actor {
        let name = |uid: Uid| User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        let is_trusted = self.uid.is_root() || self.uid == geteuid();
        let sudo_user = sudo_user.and_then(|user| User::from_name(user).ok().flatten()).map(|user| user.name);
        let behind = self.login.map(name).or(sudo_user).filter(|_| is_trusted);
        let user = name(self.uid);
        let name = match behind {
            Some(behind) if behind != user => format!("{behind} as {user}"),
            _ => user,
        };
        let process = self.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
        let terminal = self.terminal.as_ref().map_or_else(String::new, |terminal| format!(", {terminal}"));
        Actor { name, origin: format!("{way}{process}{terminal}") }
    }
}

static BECAME: OnceLock<String> = OnceLock::new();

/// Notes that this process was started by another user than the one that it is from now on.
pub fn was_started_by(user: &str) {
    let _ = BECAME.set(user.to_owned());
}

/// Who is behind this process by its own word: whom sudo started it for, else who it was before it became another.
pub fn started_by() -> Option<String> {
    std::env::var("SUDO_USER").ok().or_else(|| BECAME.get().cloned())
}

impl Actor {
    /// This process, which is a command.
    pub fn own() -> Self {
        Process::own().actor("command", started_by().as_deref())
    }

    /// Who is on the other end of the control socket; `None` where the kernel did not say.
    pub fn peer(process: Option<&Process>, sudo_user: Option<&str>) -> Self {
        let unknown = || Self { name: "unknown".into(), origin: "control socket".into() };
        process.map_or_else(unknown, |process| process.actor("control socket", sudo_user))
    }

    /// The daemon by one of its runs.
    pub(crate) fn job(run: &Run) -> Self {
        Self { name: "pgbosun".into(), origin: format!("job {}, run {}", run.job, run.id) }
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
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
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
        self.write(move |connection| Box::pin(async move { write(connection, &actor, &record).await })).await
    }
}

/// Adds a row.
pub(crate) async fn write(connection: &mut SqliteConnection, actor: &Actor, record: &AuditRecord) -> Result<(), Error> {
    let AuditRecord { at, action, object, detail, outcome } = record;
    let [action, object, detail, outcome] = [action, object, detail, outcome].map(|text| shown(text));
    sqlx::query(
        "insert into audit_log (id, at, actor, origin, action, object, detail, outcome) values (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(Uuid::now_v7().hyphenated())
    .bind(at)
    .bind(storable(&actor.name))
    .bind(storable(&actor.origin))
    .bind(storable(&action))
    .bind(storable(&object))
    .bind(storable(&detail))
    .bind(storable(&outcome))
    .execute(connection)
    .await
    .map(drop)
    .map_err(Error::journal("write the audit log"))
}

/// A text without the passwords of connection strings in it (C25), and not longer than anybody reads.
fn shown(text: &str) -> String {
    let mut rest = text;
    let mut shown = String::new();
    while let Some((before, after)) = rest.split_once("password") {
        shown.push_str(before);
        shown.push_str("password");
        let value = after.trim_start().strip_prefix('=').map(str::trim_start);
        rest = value.map_or(after, |value| {
            shown.push_str("=***");
            let (quote, end) = match value.strip_prefix('\'') {
                Some(quoted) => (1, quoted.find('\'').map_or(quoted.len(), |at| at + 1)),
                None => (0, value.find([' ', '&', '\t', '\n', '\'', '"']).unwrap_or(value.len())),
            };
            &value[quote + end..]
        });
    }
    shown.push_str(rest);
    let mut words: Vec<String> = shown.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if let Some((scheme, rest)) = word.split_once("://")
            && let Some((login, host)) = rest.rsplit_once('@')
            && let Some((user, _)) = login.split_once(':')
        {
            *word = format!("{scheme}://{user}:***@{host}");
        }
    }
    let shown = words.join(" ");
    match shown.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &shown[..end]),
        None => shown,
    }
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
    fn who_became_another_is_believed_of_those_alone_who_may_do_everything() {
        let (me, nobody) = (geteuid(), Uid::from_raw(65_534));
        let somebody = User::from_uid(Uid::from_raw(1)).unwrap().unwrap().name;
        let process = |uid, login| Process { uid, pid: Some(7), login, terminal: None };
        let name = |uid, login, sudo: Option<&str>| Actor::peer(Some(&process(uid, login)), sudo).name;
        assert!(name(me, None, Some(&somebody)).starts_with(&format!("{somebody} as ")));
        assert!(name(me, Some(Uid::from_raw(1)), Some("root")).starts_with(&format!("{somebody} as ")));
        assert!(!name(nobody, None, Some(&somebody)).contains(&somebody));
        assert!(!name(nobody, Some(Uid::from_raw(1)), None).contains(&somebody));
        assert!(!name(me, None, Some("no such user")).contains("such"));
        assert_eq!(Actor::peer(None, Some(&somebody)).name, "unknown");
        assert!(Actor::own().origin.starts_with("command, process "));
    }

    #[test]
    fn c25_passwords_and_what_nobody_reads_are_left_out() {
        assert_eq!(shown("--into host=x password=s3cret dbname=y"), "--into host=x password=*** dbname=y");
        assert_eq!(shown("password = 'a b' x"), "password=*** x");
        assert_eq!(shown("a postgresql://u:s3c:ret@h/db?password=x&y=1"), "a postgresql://u:***@h/db?password=***&y=1");
        assert_eq!(shown("the password file of u@h"), "the password file of u@h");
        assert_eq!(shown(&"é".repeat(5000)).chars().count(), LONGEST + 1);
    }
}
