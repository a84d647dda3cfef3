//! What recovery needed goes with it: left in `postgresql.auto.conf`, a target or the timeline that was followed would hold for every
//! standby made from the server, which then stops where this one did, or never follows it.

use super::{configuration::RECOVERY, extract::Access};
use crate::Error;
use pgbosun_core::publish::publish;
use std::{fs, path::Path};

/// Stands above what is written for recovery.
pub(super) const HEAD: &str = "# Recovery, written by pgbosun.\n";

/// What keeps readers out until recovery has ended.
pub(super) const CLOSED: &str = "hot_standby = 'off'\n";

/// Takes the settings of a recovery out of a data directory's `postgresql.auto.conf`; false where there are none. PostgreSQL calls it at
/// the end of recovery (`recovery_end_command`). By their names, since ALTER SYSTEM leaves no comment in the file.
///
/// # Errors
/// [`Error::File`]; then they stay.
pub fn forget_recovery(data: &Path) -> Result<bool, Error> {
    let path = data.join("postgresql.auto.conf");
    let text = fs::read(&path).map_err(Error::file("read", &path))?;
    let kept = without_recovery(&text);
    if kept == text {
        return Ok(false);
    }
    publish(&path, Access::of(data).file(), &kept).map_err(Error::file("write", &path))?;
    Ok(true)
}

/// Bytes, since lines may be in any encoding.
fn without_recovery(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let stays = |line: &&[u8]| {
        let said = String::from_utf8_lossy(line);
        let is_ours = said == HEAD || said == CLOSED;
        !is_ours && crate::settings::parse_line(&said).is_none_or(|(name, _)| !RECOVERY.contains(&name.as_str()))
    };
    lines.filter(stays).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_recovery_needed_goes_and_nothing_else() {
        let read = |text: &[u8]| String::from_utf8_lossy(&without_recovery(text)).into_owned();
        let ours = format!("a = '1'\n{HEAD}recovery_target_time = 'x'\nRestore_Command = 'y'\n{CLOSED}b = '2'\n");
        assert_eq!(read(ours.as_bytes()), "a = '1'\nb = '2'\n");
        // As ALTER SYSTEM leaves it, with the comments of an earlier restore, and lines that mean something else.
        let others = "archive_mode = 'off'\n# recovery_target_time = 'before'\nhot_standby = 'on'\ncluster_name = 'recovery_target'\n";
        let mixed = format!("recovery_target_timeline = '1'\n{others}recovery_end_command = 'z'\n");
        assert_eq!(read(mixed.as_bytes()), others);
        let latin = [mixed.as_bytes(), b"c = '\xfc'\n"].concat();
        assert!(without_recovery(&latin).ends_with(b"c = '\xfc'\n"));
    }
}
