//! The command `pgbosun`: one file per subcommand. It talks to the daemon's control socket where the daemon runs, and
//! does the work itself where it does not.

#![warn(clippy::disallowed_macros)]

#[macro_use]
mod console;
mod audit;
mod cli;
mod client;
mod commands;
mod exit;
mod guest;
mod local;
mod logging;
mod output;
mod progress;
mod when;

use cli::{Cli, Command, ConfigCommand, RestoreCommand};
use exit::{CONFIGURATION, Exit, USAGE};
use pgbosun_core::config::state_directory;
use pgbosun_daemon::accepted::running;
use std::{os::unix::net::UnixStream, path::Path, process::ExitCode};
use tokio::runtime::Handle;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tell!("pgbosun: a TLS provider was installed twice");
    }
    cli::complete::answer();
    if fetches() {
        // C4: the code of a panic, 101, would say that there is no such file.
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tell(panic);
            std::process::exit(i32::from(commands::wal::nobody_knows()));
        }));
    }
    let cli = match Cli::typed() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            let _ = error.print();
            return if usage { failed(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    output::set_colour(cli.color);
    logging::start(&cli);
    let json = cli.json;
    match dispatch(cli) {
        Ok(code) => ExitCode::from(console::lost(code)),
        Err(error) => {
            let (code, message) = (exit::code_of(&error), exit::describe(&error));
            if json {
                tell!("{}", serde_json::json!({"error": {"message": message, "exit_code": code}}));
            } else {
                tell!("{} {message}", output::red("pgbosun:"));
            }
            failed(code)
        }
    }
}

/// The code of a failure. C4: whatever keeps `wal fetch` from asking says nothing about the file, a mistake in the configuration
/// or on the command line least of all.
fn failed(code: u8) -> ExitCode {
    ExitCode::from(if fetches() { commands::wal::nobody_knows() } else { code })
}

/// Whether this is `wal fetch`, also where the rest of the command line is wrong.
fn fetches() -> bool {
    let words: Vec<_> = std::env::args_os().collect();
    let mut words = words.iter().skip_while(|word| *word != "wal");
    words.any(|word| word == "fetch")
}

fn dispatch(mut cli: Cli) -> anyhow::Result<u8> {
    // What needs no valid configuration comes first.
    match &cli.command {
        Command::Config { command } => match command {
            ConfigCommand::Init { output, data_directory, archive } => {
                return commands::config::init(output, data_directory.as_deref(), *archive);
            }
            ConfigCommand::Reference { markdown, monitors, samples } => {
                return commands::config::reference(*markdown, *monitors, *samples);
            }
            ConfigCommand::Unit { install } => return commands::config::unit(&cli.config, *install),
            ConfigCommand::Check => {
                // As the daemon, which has to read it, and the secrets that it names.
                let _ = local::become_daemon(&cli.config);
                return commands::config::check(&cli.config, cli.json);
            }
            ConfigCommand::Show => return commands::config::show(&cli.config, cli.json),
        },
        Command::Fence { writable, program } => {
            let [program, arguments @ ..] = program.as_slice() else { anyhow::bail!("no program was given") };
            let program = Path::new(program);
            let error = pgbosun_backup::fence::run(writable, program, arguments);
            return Err(anyhow::Error::new(error).context(format!("start {}", program.display())));
        }
        Command::RecoveryEnded => {
            pgbosun_backup::forget_recovery(Path::new("."))?;
            return Ok(0);
        }
        Command::Completions { shell } => return commands::help::completions(*shell),
        Command::Man { directory } => return commands::help::man(directory),
        Command::Demo { directory, keep_running } => {
            return commands::demo::run(directory, *keep_running);
        }
        _ => {}
    }
    if let Command::Restore { command: RestoreCommand::Physical(arguments) } = &mut cli.command
        && arguments.target.repository.as_deref().is_some_and(commands::restore::bare::is_place)
    {
        local::become_owner(Path::new("/"), arguments.to.as_deref())?;
        cli.config = commands::restore::bare::configure(arguments)?;
    }
    if !matches!(cli.command, Command::Daemon | Command::Check { here: true, .. }) && guest::is_one(&cli.config) {
        return work(move |bulk| async move {
            let context = guest::context(&cli, bulk).await?;
            commands::run(cli.command, context).await
        });
    }
    let loaded = load(&cli.config).or_else(|error| match cli.command {
        // What is about the configuration itself.
        Command::Daemon | Command::Check { .. } => Err(error),
        Command::Schedule(_) => load_without_secrets(&cli.config),
        // The daemon has the secrets, and is the one to use them.
        _ if guest::may(&cli.command) && !nix::unistd::geteuid().is_root() && answers(&cli) => {
            load_without_secrets(&cli.config).or(Err(error))
        }
        // Read as the one whose it is: root obeys no file that somebody else may write.
        _ => match local::become_owner(&state_directory(&cli.config), restores_into(&cli.command))
            .ok()
            .and_then(|()| running(&cli.config))
        {
            Some(loaded) => {
                let warning = output::yellow(
                    "the configuration is wrong; like the daemon, this command uses the last valid one:",
                );
                tell!("{warning} {}", exit::describe(&error));
                Ok(loaded)
            }
            None => Err(error),
        },
    });
    let loaded = loaded.inspect_err(|error| {
        if let (Command::Check { .. }, false) = (&cli.command, cli.json) {
            // Whoever calls this as a plugin reads the first line of the output.
            let first = exit::describe(error).lines().next().unwrap_or_default().replace('|', "/");
            say!("PGBOSUN UNKNOWN - {first}");
        }
    })?;
    if let Command::Daemon = cli.command {
        if cli.socket.is_some() {
            return Err(Exit::usage(
                "the daemon listens on control-socket in [daemon]; --socket is for the other commands",
            ));
        }
        return commands::daemon::run(&cli, loaded);
    }
    local::become_owner(&loaded.config.daemon.state_directory, restores_into(&cli.command))?;
    let mut config = loaded.config;
    if let Some(socket) = cli.socket {
        config.daemon.control_socket = socket;
    }
    work(|bulk| {
        let context = local::Context { config, json: cli.json, bulk, is_guest: false };
        commands::run(cli.command, context)
    })
}

/// Does the work of a command, with a place for bulk work.
fn work<F: Future<Output = anyhow::Result<u8>>>(of: impl FnOnce(Handle) -> F) -> anyhow::Result<u8> {
    let bulk = local::bulk()?;
    let runtime = runtime()?;
    let done = runtime.block_on(Box::pin(of(bulk.handle().clone())));
    // Nobody waits for what hangs on a file system.
    bulk.shutdown_background();
    runtime.shutdown_background();
    done
}

/// Whether a daemon listens where the configuration says, whatever of its secrets cannot be read.
fn answers(cli: &Cli) -> bool {
    let socket =
        cli.socket.clone().or_else(|| Some(load_without_secrets(&cli.config).ok()?.config.daemon.control_socket));
    socket.is_some_and(|socket| UnixStream::connect(socket).is_ok())
}

/// The data directory that a command restores.
fn restores_into(command: &Command) -> Option<&Path> {
    match command {
        Command::Restore { command: RestoreCommand::Physical(arguments) } => arguments.to.as_deref(),
        _ => None,
    }
}

fn load(path: &Path) -> anyhow::Result<pgbosun_core::config::Loaded> {
    pgbosun_daemon::load(path).map_err(|problems| Exit { code: CONFIGURATION, message: problems.to_string() }.into())
}

/// For commands that need none: files of secrets may be closed to this user.
pub fn load_without_secrets(path: &Path) -> anyhow::Result<pgbosun_core::config::Loaded> {
    pgbosun_daemon::load_without_secrets(path)
        .map_err(|problems| Exit { code: CONFIGURATION, message: problems.to_string() }.into())
}

/// The runtime of a command or of the daemon's own tasks; bulk work has another.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
