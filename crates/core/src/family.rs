//! Families of job kinds: what the program treats alike, whatever the kind is called.
//!
//! Invariant: nobody else tells families apart by how the names of kinds begin. Runs in the journal have a kind's name alone, also of versions
//! before this one, so the name decides.

/// A family of job kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Checks something, and changes nothing.
    Monitor,
    /// Takes backups.
    Backup,
    /// Keeps repositories: copies, expires.
    Repository,
    /// Reads backups again.
    Verify,
    /// Restores backups on trial.
    RestoreTest,
    /// Works on tables and indexes.
    Maintenance,
    /// Works on the server's logs.
    Logs,
    /// Writes reports.
    Report,
    /// Records what reports are made from.
    Sample,
    /// Runs what the user wrote, or writes what is measured by it.
    Program,
}

impl Family {
    /// The family of a kind, by its name.
    pub fn of(kind: &str) -> Self {
        match kind.split_once('.').map_or(kind, |(family, _)| family) {
            "monitor" => Self::Monitor,
            "backup" => Self::Backup,
            "wal" | "replicate" => Self::Repository,
            "verify" => Self::Verify,
            "restore-test" => Self::RestoreTest,
            "maintenance" => Self::Maintenance,
            "logs" => Self::Logs,
            "report" => Self::Report,
            "sample" => Self::Sample,
            _ => Self::Program,
        }
    }
}

/// Whether jobs of a kind are there to find something out, and what they found is what they came to: a backup that was taken is one, also
/// where it found another damaged.
pub fn is_check(kind: &str) -> bool {
    matches!(Family::of(kind), Family::Monitor | Family::Verify | Family::RestoreTest)
        || kind == "maintenance.integrity"
}

/// A kind's name without its family: `disk` of `monitor.disk`.
pub fn short_name(kind: &str) -> &str {
    kind.split_once('.').map_or(kind, |(_, name)| name)
}
