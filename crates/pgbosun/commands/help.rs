//! `pgbosun completions|man`: what the shell and the reader of manuals want to know, from the command line's own definition.

use crate::{
    cli::{Cli, complete, examples},
    console,
};
use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::env::Shells;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use std::{io, path::Path};

/// What each page says of files, variables and exit codes.
const FILES: &[(&str, &str)] = &[
    ("/etc/pgbosun/pgbosun.toml", "The configuration, together with conf.d/*.toml next to it."),
    (
        "/run/pgbosun/control.sock",
        "The daemon's control socket, open to root, the daemon's user and the group pgbosun.",
    ),
    ("/var/lib/pgbosun", "The journal and the daemon's other state."),
];
const ENVIRONMENT: &[(&str, &str)] = &[
    ("PGBOSUN_CONFIG", "The configuration file, like --config."),
    ("PGBOSUN_SECTION__KEY", "A configuration option, such as PGBOSUN_DAEMON__INSTANCE."),
    ("PGBOSUN_LOG", "What to log to standard error, as tracing filters such as pgbosun=debug."),
    ("NO_COLOR", "No colours, unless --color always."),
];
const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Success; for status and check: all is well."),
    ("1", "Failed or refused; for status and check: a warning."),
    ("2", "Something critical or damaged was found."),
    ("3", "Unknown: a check could not be run."),
    ("64", "Usage error."),
    ("74", "Success, but the output could not be written."),
    ("78", "Invalid configuration."),
    ("130", "Interrupted while waiting for a run; the run continues in the daemon."),
];
const FETCH_STATUS: &[(&str, &str)] = &[
    ("0", "The file is where PostgreSQL wants it."),
    ("1", "Every repository reported that it has no such file; or, on a standby, any other failure."),
    ("126", "It is unknown whether there is such a file; recovery stops."),
];
const PUSH_STATUS: &[(&str, &str)] =
    &[("0", "The file is durable in every required repository."), ("1 to 125", "It is not; PostgreSQL tries again.")];

/// Prints what a shell needs to complete the command: it asks the program, which knows jobs, labels and the like.
///
/// # Errors
/// Where there is nothing for the shell.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<u8> {
    let shells = Shells::builtins();
    let shell =
        shells.completer(&shell.to_string()).with_context(|| format!("there are no completions for {shell}"))?;
    let mut text = Vec::new();
    shell.write_registration(complete::VARIABLE, "pgbosun", "pgbosun", "pgbosun", &mut text)?;
    console::exact(&String::from_utf8_lossy(&text));
    Ok(0)
}

/// Writes a page for the command and for each of its own.
///
/// # Errors
/// Where the directory cannot be written.
pub fn man(directory: &Path) -> anyhow::Result<u8> {
    std::fs::create_dir_all(directory)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(command, "", directory)?;
    say!("wrote the pages to {}; \"man -l {}/pgbosun.1\" shows the first", directory.display(), directory.display());
    Ok(0)
}

/// The page of a command by its words without `pgbosun`, and those below it.
fn write_pages(command: Command, words: &str, directory: &Path) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_pages(sub.clone(), format!("{words} {}", sub.get_name()).trim(), directory)?;
    }
    let name = format!("pgbosun {words}").trim().replace(' ', "-");
    let mut page = Vec::new();
    render(command, words, &mut page)?;
    std::fs::write(directory.join(format!("{name}.1")), page)
}

fn render(command: Command, words: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let has_commands = command.get_subcommands().any(|sub| !sub.is_hide_set());
    let man = Man::new(command);
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_commands {
        man.render_subcommands_section(page)?;
    }
    let status = match words {
        "wal fetch" => FETCH_STATUS,
        "wal push" => PUSH_STATUS,
        _ => EXIT_STATUS,
    };
    let mut more = Roff::new();
    let lines = examples::of(words);
    if !lines.is_empty() {
        more.control("SH", ["EXAMPLES"]);
    }
    for line in lines {
        more.control("PP", []).control("RS", ["4"]).text([bold(*line)]).control("RE", []);
    }
    for (title, terms) in [("EXIT STATUS", status), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)] {
        more.control("SH", [title]);
        for (term, says) in terms {
            more.control("TP", []).text([bold(*term)]).text([roman(*says)]);
        }
    }
    more.to_writer(page)?;
    man.render_version_section(page)
}
