//! Files that somebody may read at any moment: there whole, or as they were.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Writes a file anew with this mode, whatever the umask is. A link at its place is replaced, not followed.
///
/// # Errors
/// Those of writing in its directory.
pub fn publish(file: &Path, mode: u32, text: &str) -> io::Result<()> {
    let unfinished = file.with_extension("unfinished");
    let _ = fs::remove_file(&unfinished);
    let mut writer = fs::File::options().write(true).create_new(true).mode(mode).open(&unfinished)?;
    writer.set_permissions(fs::Permissions::from_mode(mode))?;
    writer.write_all(text.as_bytes())?;
    writer.sync_all()?;
    fs::rename(unfinished, file)?;
    fs::File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}
