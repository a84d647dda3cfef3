//! `pgbosun completions|man`: what the shell and the reader of manuals want to know, from the command line's own definition.

use crate::{cli::Cli, console};
use clap::CommandFactory;
use std::path::Path;

/// Prints what a shell needs to complete the command.
pub fn completions(shell: clap_complete::Shell) -> u8 {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pgbosun", &mut text);
    console::exact(&String::from_utf8_lossy(&text));
    0
}

/// Writes a page for the command and for each of its own.
///
/// # Errors
/// Where the directory cannot be written.
pub fn man(directory: &Path) -> anyhow::Result<u8> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    say!("the pages are in {}; \"man -l {}/pgbosun.1\" shows the first", directory.display(), directory.display());
    Ok(0)
}
