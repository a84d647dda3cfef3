//! What recovery needed goes with it: left in `postgresql.auto.conf`, the timeline that was followed would keep every standby made from
//! the server, and the server itself as one, from following it further.

use super::extract::{Access, write_file};
use crate::Error;
use std::{fs, path::Path};

pub(super) const BEGIN: &str = "# Recovery, written by pgbosun.\n";
pub(super) const END: &str = "# The end of what recovery needs; it goes when recovery has ended.\n";

/// Takes the settings of a recovery out of a data directory's `postgresql.auto.conf`; false where there are none. PostgreSQL calls it at
/// the end of recovery (`recovery_end_command`), when nobody can change the file yet.
///
/// # Errors
/// [`Error::File`]; then they stay, which ends no server.
pub fn forget_recovery(data: &Path) -> Result<bool, Error> {
    let path = data.join("postgresql.auto.conf");
    let text = fs::read(&path).map_err(Error::file("read", &path))?;
    let Some(kept) = without_block(&text) else { return Ok(false) };
    let unfinished = data.join("postgresql.auto.conf.pgbosun-unfinished");
    write_file(&unfinished, Access::of(data).file(), &mut kept.as_slice())?;
    fs::File::open(&unfinished).and_then(|file| file.sync_all()).map_err(Error::file("sync", &unfinished))?;
    fs::rename(&unfinished, &path).map_err(Error::file("write", &path))?;
    fs::File::open(data).and_then(|directory| directory.sync_all()).map_err(Error::file("sync", data))?;
    Ok(true)
}

/// The file without what stands between the two lines; `None` where they are not both there. Bytes, since its lines may be in any encoding.
fn without_block(text: &[u8]) -> Option<Vec<u8>> {
    let find = |from: usize, line: &str| {
        let mut places = text.get(from..)?.windows(line.len());
        places.position(|part| part == line.as_bytes()).map(|at| from + at)
    };
    let begin = find(0, BEGIN)?;
    let end = find(begin, END)? + END.len();
    Some([&text[..begin], &text[end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_recovery_needed_goes_and_nothing_else() {
        let text = format!("a = '1'\n{BEGIN}recovery_target_timeline = '1'\n{END}b = '\u{fc}'\n");
        assert_eq!(without_block(text.as_bytes()).unwrap(), "a = '1'\nb = '\u{fc}'\n".as_bytes());
        for other in ["a = '1'\n", BEGIN, &format!("{END}a = '1'\n{BEGIN}")] {
            assert_eq!(without_block(other.as_bytes()), None);
        }
        let latin = [text.as_bytes(), b"c = '\xfc'\n"].concat();
        assert!(without_block(&latin).unwrap().ends_with(b"c = '\xfc'\n"));
    }
}
