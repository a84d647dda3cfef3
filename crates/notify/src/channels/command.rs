//! A program of the user's own: the message as JSON on its standard input, accepted where it exits with 0.

use super::{Channel, ChannelType, DeliveryError, Message, Receipt, own, webhook};
use async_trait::async_trait;
use pgbosun_core::{
    config::{ChannelOptions, Reader, Section, Variant},
    options,
};
use pgbosun_postgres::GroupChild;
use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
};

/// What is kept of what it says.
const KEPT: usize = 4096;
/// How long its last words may take after its end.
const GRACE: Duration = Duration::from_secs(1);
/// How long it may take to end after TERM.
const PATIENCE: Duration = Duration::from_secs(5);

options! {
    /// A program of one's own: JSON on its standard input.
    pub struct CommandOptions {
        /// The program.
        program: PathBuf;
        /// Its arguments.
        arguments: Vec<String> = "[]";
    }
}

impl ChannelOptions for CommandOptions {}

pub(super) const TYPE: ChannelType = ChannelType {
    variant: Variant {
        name: "command",
        about: CommandOptions::ABOUT,
        options: CommandOptions::OPTIONS,
        read: |reader: &mut Reader<'_>| Some(Arc::new(CommandOptions::read(reader)?)),
    },
    open: |channel| {
        let CommandOptions { program, arguments } = own::<CommandOptions>(channel)?.clone();
        Some(Ok(Box::new(Program { program, arguments, timeout: channel.common.timeout })))
    },
};

pub(super) struct Program {
    program: PathBuf,
    arguments: Vec<String>,
    timeout: Duration,
}

impl Program {
    fn failed(&self, reason: impl std::fmt::Display) -> DeliveryError {
        DeliveryError::Program(format!("{}: {reason}", self.program.display()))
    }

    /// Feeds the program and waits for its end; the last of what it said.
    async fn feed(&self, child: &mut GroupChild, input: &str) -> Result<String, DeliveryError> {
        let pipes = (child.child().stdin.take(), child.child().stdout.take(), child.child().stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else { return Err(self.failed("has no pipes")) };
        let (said, complained) = (tokio::spawn(first_words(stdout)), tokio::spawn(first_words(stderr)));
        let write = async {
            // A program may decide without reading everything.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        // Its end decides, also where something that it started goes on and keeps the pipes.
        let ((), status) = tokio::join!(write, child.wait());
        let words =
            async |task| tokio::time::timeout(GRACE, task).await.map(Result::unwrap_or_default).unwrap_or_default();
        let (said, complained): (String, String) = (words(said).await, words(complained).await);
        let status = status.map_err(|error| self.failed(error))?;
        let last = |text: &str| text.trim().lines().last().unwrap_or_default().to_owned();
        match status.code() {
            Some(0) => Ok(last(&said)),
            Some(code) => Err(self.failed(format!("exited with {code}: {}", last(&complained)))),
            None => Err(self.failed(format!("was killed: {status}"))),
        }
    }
}

/// Reads a pipe to its end and keeps the first of it.
async fn first_words(mut pipe: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n.min(KEPT.saturating_sub(kept.len()))]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[async_trait]
impl Channel for Program {
    async fn deliver(&self, message: &Message) -> Result<Receipt, DeliveryError> {
        let mut child = GroupChild::spawn(
            Command::new(&self.program)
                .args(&self.arguments)
                .current_dir("/")
                .env("PGBOSUN_SUBJECT", message.bulletin.subject())
                .env("PGBOSUN_SEVERITY", message.bulletin.severity().as_str())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        )
        .map_err(|error| self.failed(format!("cannot be started: {error}")))?;
        let input = webhook::body(message).to_string();
        match tokio::time::timeout(self.timeout, self.feed(&mut child, &input)).await {
            Ok(said) => said.map(|said| Receipt::new(format!("{} accepted it: {said}", self.program.display()))),
            Err(_) => {
                child.terminate(PATIENCE).await;
                Err(self.failed(format!("took longer than {:?}", self.timeout)))
            }
        }
    }

    async fn probe(&self) -> Result<Receipt, DeliveryError> {
        match tokio::fs::metadata(&self.program).await {
            Ok(_) => Ok(Receipt::new(format!("{} exists", self.program.display()))),
            Err(error) => Err(self.failed(error)),
        }
    }
}
