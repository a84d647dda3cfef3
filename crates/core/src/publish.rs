//! Files that somebody may read at any moment: there whole, or as they were.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Writes a file anew with this mode, whatever the umask is, and makes it durable. A link at its place is replaced, not followed.
///
/// # Errors
/// Those of writing in its directory.
pub fn publish(file: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    let _ = fs::remove_file(unfinished);
    let mut writer = fs::File::options().write(true).create_new(true).mode(mode).open(unfinished)?;
    writer.set_permissions(fs::Permissions::from_mode(mode))?;
    let written = writer.write_all(bytes).and_then(|()| writer.sync_all()).and_then(|()| fs::rename(unfinished, file));
    if let Err(error) = written {
        let _ = fs::remove_file(unfinished);
        return Err(error);
    }
    fs::File::open(file.parent().unwrap_or(Path::new("/")))?.sync_all()
}
