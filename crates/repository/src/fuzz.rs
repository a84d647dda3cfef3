//! What others write into a repository, for the fuzz targets of `tests/fuzz`: catalogues, lists of files, archives.

use crate::{BackupInfo, listing, sealed, tar_stream::TarStream};
use std::io::Read;

/// `backup.json`, as it is and sealed, and a list of files of a backup that says so much of its volumes.
pub fn catalogue(data: &[u8]) {
    let object = "main/7/backups/x/backup.json";
    let _ = BackupInfo::from_bytes(object, data);
    let Ok(fields) = serde_json::from_slice(data) else { return };
    let Ok(bytes) = sealed::seal(object, fields) else { return };
    if let Ok(info) = BackupInfo::from_bytes(object, &bytes) {
        let _ = (info.most_files(), listing::parse(&info, data));
    }
}

/// A tar archive in pieces, and read by the library that unpacks.
pub fn archive(data: &[u8]) {
    let Some((piece, rest)) = data.split_first() else { return };
    let mut stream = TarStream::default();
    for chunk in rest.chunks(usize::from(*piece) * 8 + 1) {
        if stream.push(chunk, |_| Ok(())).is_err() {
            break;
        }
    }
    let _ = stream.finish();
    let mut archive = tar::Archive::new(rest);
    let Ok(entries) = archive.entries() else { return };
    for entry in entries {
        let Ok(mut entry) = entry else { return };
        let _ = (entry.path_bytes().into_owned(), entry.link_name_bytes().map(|name| name.into_owned()));
        let mut block = [0; 4096];
        while let Ok(1..) = entry.read(&mut block) {}
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn catalogue() {
        pgbosun_seeds::run("catalogue", super::catalogue);
    }

    #[test]
    fn archive() {
        pgbosun_seeds::run("archive", super::archive);
    }
}
