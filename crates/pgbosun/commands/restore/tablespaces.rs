//! Where tablespaces go when a backup is restored.

use crate::{exit::Exit, output};
use pgbosun_repository::{BackupInfo, TablespaceInfo};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// By old location, as it was said.
pub(super) fn said(pairs: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    pairs.iter().map(|pair| mapping(pair)).collect()
}

/// C36: a place that the backup alone names is shown, and taken without a question only where it is an empty directory of this user.
pub(super) fn confirm(info: &BackupInfo, said: &BTreeMap<String, PathBuf>, force: bool) -> anyhow::Result<()> {
    let unnamed = info.tablespaces.iter().filter(|space| !said.contains_key(&space.location));
    let places: Vec<_> = unnamed.map(TablespaceInfo::place).collect();
    let doubtful: Vec<_> = places.iter().filter(|place| !is_ready(place)).map(|place| format!("{place:?}")).collect();
    if !doubtful.is_empty() {
        let question = format!(
            "the backup puts tablespaces into {}, {} of this user; use --tablespace OLD=NEW for another location",
            doubtful.join(", "),
            if doubtful.len() == 1 { "which is not an empty directory" } else { "which are not empty directories" }
        );
        output::confirm(&question, force, "--force")?;
    }
    for place in places {
        tell!("a tablespace will go to {place:?}");
    }
    Ok(())
}

/// Whether it is an empty directory of this user.
fn is_ready(place: &Path) -> bool {
    let own =
        fs::symlink_metadata(place).is_ok_and(|found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw());
    own && fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none())
}

/// OLD=NEW, with an `=` of the paths themselves as `\=`, as pg_basebackup has it.
pub(crate) fn mapping(pair: &str) -> anyhow::Result<(String, PathBuf)> {
    let border = pair.match_indices('=').map(|(at, _)| at).find(|at| !pair[..*at].ends_with('\\'));
    let plain = |path: &str| path.replace("\\=", "=");
    match border.map(|at| (&pair[..at], &pair[at + 1..])) {
        Some((old, new)) if new.starts_with('/') => Ok((plain(old), plain(new).into())),
        _ => Err(Exit::usage(format!("--tablespace {pair}: write OLD=NEW with absolute paths"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_may_have_an_equals_sign() {
        assert_eq!(mapping(r"/srv/a\=b=/srv/c\=d").unwrap(), ("/srv/a=b".to_owned(), "/srv/c=d".into()));
        assert_eq!(mapping("/srv/a=/srv/c").unwrap(), ("/srv/a".to_owned(), "/srv/c".into()));
        assert!(mapping(r"/srv/a\=/srv/c").is_err() && mapping("/srv/a=c").is_err());
    }

    #[test]
    fn c36_only_an_empty_directory_of_ones_own_is_taken_unasked() {
        let directory = tempfile::tempdir().unwrap();
        assert!(is_ready(directory.path()));
        assert!(!is_ready(&directory.path().join("none")));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(!is_ready(&link) && !is_ready(directory.path()));
    }
}
