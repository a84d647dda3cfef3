//! Runs a program of the user's: what used to be a line in a crontab.

use crate::{Job, JobContext, JobError};
use async_trait::async_trait;
use pgbosun_core::{options, outcome::Outcome, unit};
use pgbosun_postgres::GroupChild;
use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
};

options! {
    /// Runs a program. The job fails unless the program exits with 0; exit code 75 (a temporary failure) may be retried.
    /// If the job is cancelled or times out, the program and everything it started get TERM, then KILL.
    pub struct CommandJob {
        /// The program.
        program: PathBuf;
        /// Its arguments, passed unchanged and without a shell.
        arguments: Vec<String> = "[]";
        /// The directory to start it in.
        working_directory: PathBuf = "\"/\"";
        /// How long it may take to exit after TERM.
        patience: Duration = "\"10s\"";
    }
}

/// What is kept of the output.
const KEPT: usize = 4096;
/// sysexits(3): try again later.
const EX_TEMPFAIL: i32 = 75;

#[async_trait]
impl Job for CommandJob {
    async fn run(&self, context: &JobContext) -> Result<Outcome, JobError> {
        let program = self.program.display();
        if context.dry_run {
            let summary = format!("would run {program} {}", self.arguments.join(" "));
            return Ok(Outcome { summary, ..Outcome::default() });
        }
        let Ended { status, output, errors } =
            execute(context, &self.program, &self.arguments, &self.working_directory, self.patience).await?;
        let words = if errors.is_empty() { &output } else { &errors };
        let last = words.lines().last().unwrap_or_default();
        match status.code() {
            Some(0) => {
                Ok(Outcome { summary: output.lines().last().unwrap_or("done").to_owned(), ..Outcome::default() })
            }
            Some(EX_TEMPFAIL) => {
                Err(JobError::passing(format!("{program} failed temporarily: {last}")).with_output(words))
            }
            Some(code) => {
                let hint = if is_confined() { forbidden(words, unit::hides) } else { None };
                let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
                Err(JobError::lasting(format!("{program} exited with {code}: {last}{hint}")).with_output(words))
            }
            None => Err(JobError::lasting(format!("{program} was killed: {status}")).with_output(words)),
        }
    }
}

/// Whether we run under a unit that takes rights away: systemd sets both (systemd.exec(5), INVOCATION_ID and NoNewPrivileges=).
fn is_confined() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    std::env::var_os("INVOCATION_ID").is_some()
        && status.lines().any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"]))
}

/// Which directive of the unit may be what a program met, by its words and by what the unit hides, and what to do about it.
fn forbidden(words: &str, hides: impl Fn(&Path) -> Option<&'static str>) -> Option<&'static str> {
    const EDIT: [(&[&str], &str); 3] = [
        (
            &["no new privileges", "must be setuid root", "effective uid is not 0"],
            "the unit has NoNewPrivileges=yes, so sudo and the like cannot gain privileges: run the program from a systemd \
             timer of its own as the user it needs, or set NoNewPrivileges=no and CapabilityBoundingSet=~ with \"systemctl \
             edit pgbosun\"",
        ),
        (
            &["Read-only file system"],
            "the unit has ProtectSystem=strict: name the directory with ReadWritePaths= (\"systemctl edit pgbosun\")",
        ),
        (
            &["Operation not permitted"],
            "the unit restricts system calls and capabilities (SystemCallFilter=, CapabilityBoundingSet=): allow what the \
             program needs with \"systemctl edit pgbosun\", or run it from a systemd timer of its own",
        ),
    ];
    let said = EDIT.iter().find(|(signs, _)| signs.iter().any(|sign| words.contains(sign))).map(|(_, hint)| *hint);
    let is_denied = ["No such file or directory", "Permission denied"].iter().any(|sign| words.contains(sign));
    let paths =
        words.split(|c: char| c.is_whitespace() || "\"'`:,;()".contains(c)).filter(|word| word.starts_with('/'));
    said.or_else(|| paths.filter(|_| is_denied).find_map(|path| hides(Path::new(path))))
}

/// How a program ended, and the last of what it said.
pub(crate) struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

/// Runs a program to its end; cancelled, it is ended with everything it started.
pub(crate) async fn execute(
    context: &JobContext,
    program: &Path,
    arguments: &[String],
    directory: &Path,
    patience: Duration,
) -> Result<Ended, JobError> {
    let name = program.display();
    let mut child = GroupChild::spawn(
        Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .env("PGBOSUN_JOB", &context.job)
            .env("PGBOSUN_RUN", context.run_id.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )
    .map_err(|error| JobError::lasting(format!("cannot start {name}")).because(error))?;
    let pipes = (child.child().stdout.take(), child.child().stderr.take());
    let (Some(stdout), Some(stderr)) = pipes else {
        return Err(JobError::lasting(format!("cannot read the output of {name}")));
    };
    let ended = tokio::select! {
        ended = async { tokio::join!(child.wait(), last_words(stdout), last_words(stderr)) } => Some(ended),
        () = context.cancel.cancelled() => None,
    };
    let Some((status, output, errors)) = ended else {
        child.terminate(patience).await;
        return Err(JobError::lasting(format!("{name} was stopped")));
    };
    let status = status.map_err(|error| JobError::lasting(format!("cannot wait for {name}")).because(error))?;
    Ok(Ended { status, output, errors })
}

/// Reads a pipe to its end and keeps the last of it.
async fn last_words(mut pipe: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_unit_forbids_is_called_by_its_directive() {
        let hides = |path: &Path| match path.starts_with("/tmp") {
            true => Some(unit::PRIVATE_TMP),
            false => path.starts_with("/root").then_some(unit::PROTECT_HOME),
        };
        let named = |words: &str| {
            forbidden(words, hides)
                .and_then(|hint| hint.split_once('='))
                .map(|(before, _)| before.rsplit([' ', '(']).next().unwrap_or_default())
        };
        assert_eq!(named("sudo: The \"no new privileges\" flag is set"), Some("NoNewPrivileges"));
        assert_eq!(named("touch: cannot touch '/etc/x': Read-only file system"), Some("ProtectSystem"));
        assert_eq!(named("cat: /root/x: Permission denied"), Some("ProtectHome"));
        assert_eq!(named("cat: /tmp/x: No such file or directory"), Some("PrivateTmp"));
        assert_eq!(named("mount: Operation not permitted"), Some("SystemCallFilter"));
        assert_eq!(named("cat: /srv/x: Permission denied"), None);
        assert_eq!(named("mount: /tmp/x: Operation not permitted"), Some("SystemCallFilter"));
        assert_eq!(named("wrote /tmp/x, then failed"), None);
    }
}
