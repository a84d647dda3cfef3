//! The demo's own servers, by PostgreSQL's own programs.

use crate::exit::Exit;
use anyhow::Context;
use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The newest server programs of this machine that physical backups work with.
///
/// # Errors
/// Where there are none.
pub fn programs() -> anyhow::Result<PathBuf> {
    let versions = (15..=19).rev().map(|major: u32| major.to_string());
    let found = versions
        .filter_map(|version| pgbosun_backup::find_programs(&version, None).ok())
        .find(|p| p.join("initdb").exists());
    found.ok_or_else(|| {
        Exit::refused("no PostgreSQL server programs (15 or later) on this machine: apt-get install postgresql")
    })
}

/// A server of the demo. It is stopped when it is dropped.
pub struct Scratch {
    programs: PathBuf,
    data: PathBuf,
    /// The directory of its socket.
    pub socket: PathBuf,
    running: bool,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.running {
            self.stop();
        }
    }
}

impl Scratch {
    /// A new cluster in `directory`, started.
    ///
    /// # Errors
    /// What its programs say.
    pub fn create(programs: &Path, directory: &Path) -> anyhow::Result<Self> {
        let data = directory.join("data");
        run(Command::new(programs.join("initdb")).arg("-D").arg(&data).args(["-A", "trust", "-U", "postgres", "-k"]))?;
        let server = Self { programs: programs.to_owned(), data, socket: directory.to_owned(), running: true };
        server.start()?;
        Ok(server)
    }

    /// A server on a restored data directory.
    ///
    /// # Errors
    /// What its programs say.
    pub fn adopt(programs: &Path, data: &Path, socket: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new().mode(0o700).create(socket)?;
        let server =
            Self { programs: programs.to_owned(), data: data.to_owned(), socket: socket.to_owned(), running: true };
        server.start()?;
        Ok(server)
    }

    /// Starts the server.
    ///
    /// # Errors
    /// What pg_ctl says.
    pub fn start(&self) -> anyhow::Result<()> {
        // A port says nothing where the socket is its own, and a restored copy has one of its own.
        let mut options =
            format!("-c listen_addresses= -c port=5432 -c unix_socket_directories={}", self.socket.display());
        // Where it is installed, reports know of statements.
        if self.programs.join("../lib/pg_stat_statements.so").exists() {
            options.push_str(" -c shared_preload_libraries=pg_stat_statements");
        }
        let log = self.socket.join("server.log");
        let mut command = Command::new(self.programs.join("pg_ctl"));
        command.arg("-D").arg(&self.data).arg("-l").arg(&log).args(["-w", "-o", &options, "start"]);
        run(&mut command).with_context(|| format!("start a scratch server, see {}", log.display()))
    }

    /// Stops the server.
    pub fn stop(&self) {
        let mut command = Command::new(self.programs.join("pg_ctl"));
        let stopped = run(command.arg("-D").arg(&self.data).args(["-w", "-m", "fast", "stop"]));
        if let Err(error) = stopped {
            tracing::warn!(%error, "scratch server");
        }
    }

    /// Lets the server outlive this program.
    pub fn leave_running(mut self) {
        self.running = false;
    }

    /// Loads the tables of pgbench.
    ///
    /// # Errors
    /// What pgbench says.
    pub fn pgbench(&self, scale: u32) -> anyhow::Result<()> {
        let mut command = Command::new(self.programs.join("pgbench"));
        run(command
            .args(["-i", "-q", "-s", &scale.to_string(), "-h"])
            .arg(&self.socket)
            .args(["-U", "postgres", "postgres"]))
    }

    /// Has pgbench work for some seconds.
    ///
    /// # Errors
    /// What pgbench says.
    pub fn load(&self, seconds: u64) -> anyhow::Result<()> {
        let mut command = Command::new(self.programs.join("pgbench"));
        command.args(["-n", "-c", "2", "-T", &seconds.to_string(), "-U", "postgres", "-h"]).arg(&self.socket);
        run(command.arg("postgres"))
    }

    /// The one value of a query.
    ///
    /// # Errors
    /// What psql says.
    pub fn query(&self, statement: &str) -> anyhow::Result<String> {
        let mut command = Command::new(self.programs.join("psql"));
        command.arg("-h").arg(&self.socket).args(["-U", "postgres", "-d", "postgres", "-XAtqc", statement]);
        let output = command.output()?;
        anyhow::ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    // pg_ctl's server inherits its output; a pipe would never end.
    let errors = tempfile()?;
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.0.try_clone()?).status()?;
    let words = fs::read_to_string(&errors.1).unwrap_or_default();
    let _ = fs::remove_file(&errors.1);
    anyhow::ensure!(status.success(), "{}: {}", command.get_program().display(), words.trim());
    Ok(())
}

fn tempfile() -> anyhow::Result<(fs::File, PathBuf)> {
    let path = std::env::temp_dir().join(format!("pgbosun-demo-{}.err", uuid::Uuid::now_v7().simple()));
    Ok((fs::File::create_new(&path)?, path))
}
