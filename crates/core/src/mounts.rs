//! Which mount a path lies on, by what is mounted and by what `/etc/fstab` says is to be: a share may be away at this moment.

use crate::unit::mount_point;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// Where file systems are mounted that come and go (file-hierarchy(7), hier(7)).
const COMING: [&str; 3] = ["/mnt", "/media", "/run/media"];
/// How the types of those of a network begin, and of those that are mounted when they are needed (mount(8), autofs(5)).
const NETWORK: [&str; 9] = ["autofs", "nfs", "cifs", "smb", "fuse", "ceph", "glusterfs", "9p", "davfs"];

/// Where something is mounted or is to be, but for the root of everything.
pub struct Mounts {
    planned: Vec<Place>,
    present: Vec<Place>,
}

struct Place {
    path: PathBuf,
    /// Its file system comes and goes.
    is_share: bool,
    /// It is mounted without being asked for.
    is_expected: bool,
    /// The file with the user and the password that it is mounted with (mount.cifs(8)).
    credentials: Option<PathBuf>,
}

impl Mounts {
    /// Those of this machine.
    pub fn of_this_machine() -> Self {
        let text = |file| fs::read_to_string(file).ok();
        // Where this runs under the unit it has mounts of its own.
        let mountinfo = text("/proc/1/mountinfo").or_else(|| text("/proc/self/mountinfo"));
        Self::read(&text("/etc/fstab").unwrap_or_default(), &mountinfo.unwrap_or_default())
    }

    /// By the texts of `fstab` and `mountinfo` (fstab(5), proc(5)). What is not mounted by itself is not expected.
    pub fn read(fstab: &str, mountinfo: &str) -> Self {
        let lines = fstab.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let planned = lines.filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            Some((fields.next()?, fields.next()?, fields.next().unwrap_or_default()))
        });
        let present = mountinfo.lines().filter_map(|line| {
            let kind = line.split_once(" - ")?.1.split(' ').next()?;
            Some((line.split(' ').nth(4)?, kind, ""))
        });
        Self { planned: places(planned), present: places(present) }
    }

    /// systemd's name of the mount that a path lies on.
    pub fn unit_of(&self, path: &Path) -> Option<String> {
        self.of(&self.real(path)).map(|place| unit(&place.path))
    }

    /// The mount that a path lies on, where that is one that comes and goes.
    pub fn share_of(&self, path: &Path) -> Option<&Path> {
        self.of(&self.real(path)).filter(|place| place.is_share).map(|place| place.path.as_path())
    }

    /// Whether the mount that a path is to lie on is away.
    pub fn is_away(&self, path: &Path) -> bool {
        self.of(&self.real(path)).is_some_and(|place| !self.present.iter().any(|there| there.path == place.path))
    }

    /// The file with the password of the share that a path lies on, where `fstab` names one.
    pub fn credentials_of(&self, path: &Path) -> Option<&Path> {
        let path = self.real(path);
        // The kernel tells nobody about this option, and one that is mounted only when it is needed has it, too.
        nearest(self.planned.iter(), &path)?.credentials.as_deref()
    }

    fn of(&self, path: &Path) -> Option<&Place> {
        let expected = self.planned.iter().filter(|place| place.is_expected);
        nearest(expected.chain(&self.present), path)
    }

    /// A path without the links that lead to a share; nothing is asked of a share itself, which may hang.
    fn real(&self, path: &Path) -> PathBuf {
        let mut left: Vec<OsString> = path.iter().rev().map(ToOwned::to_owned).collect();
        let (mut real, mut links) = (PathBuf::new(), 0);
        while let Some(part) = left.pop() {
            if part == ".." {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            let is_safe = links < LINKS && self.of(&next).is_none_or(|place| !place.is_share);
            match is_safe.then(|| fs::read_link(&next).ok()).flatten() {
                Some(target) => {
                    links += 1;
                    left.extend(target.iter().rev().map(ToOwned::to_owned));
                }
                None => real = next,
            }
        }
        real
    }
}

/// Links that are followed at the most, as the kernel does (path_resolution(7)).
const LINKS: u32 = 40;

/// The place that a path lies on, of those that it lies below.
fn nearest<'a>(places: impl Iterator<Item = &'a Place>, path: &Path) -> Option<&'a Place> {
    let above = places.filter(|place| path.starts_with(&place.path));
    above.max_by_key(|place| place.path.as_os_str().len())
}

/// By place, type of file system, and options.
fn places<'a>(fields: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Vec<Place> {
    let places = fields.map(|(place, kind, options)| {
        let path = mount_point(place);
        let is_coming = COMING.iter().any(|place| path.starts_with(place));
        let is_share = is_coming || NETWORK.iter().any(|network| kind.starts_with(network));
        let is_expected = !options.split(',').any(|option| option == "noauto");
        let mut named = options.split(',').filter_map(|option| option.split_once('='));
        let credentials = named.find(|(name, _)| ["credentials", "cred"].contains(name));
        Place { path, is_share, is_expected, credentials: credentials.map(|(_, file)| mount_point(file)) }
    });
    places.filter(|place| place.path.is_absolute() && place.path != Path::new("/")).collect()
}

/// The name of the unit of a mount (systemd.unit(5), String Escaping for Inclusion in Unit Names).
fn unit(place: &Path) -> String {
    let place = place.to_string_lossy();
    let mut name = String::new();
    for (index, byte) in place.trim_matches('/').bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            byte if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(byte.into()),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts_and_has_the_name_that_systemd_gives_it() {
        let mounts = Mounts::read(
            "# comment /mnt x\nUUID=1 / ext4 defaults 0 1\nhost:/x /mnt/pg-backup nfs4 nofail 0 0\ntmp none swap sw 0 0\n",
            "21 1 254:0 / / rw - ext4 /dev/vda rw\n22 21 0:1 / /mnt rw - tmpfs t rw\n23 21 0:1 / /mnt/\\040ü rw - tmpfs t rw\n",
        );
        let unit = |path: &str| mounts.unit_of(Path::new(path));
        assert_eq!(unit("/mnt/pg-backup/main").as_deref(), Some("mnt-pg\\x2dbackup.mount"));
        assert_eq!(unit("/mnt/other").as_deref(), Some("mnt.mount"));
        assert_eq!(unit("/mnt/ ü").as_deref(), Some("mnt-\\x20\\xc3\\xbc.mount"));
        assert_eq!(unit("/mntx"), None);
        let share = |path: &str| mounts.share_of(Path::new(path)).map(|place| place.display().to_string());
        assert_eq!(share("/mnt/pg-backup/main").as_deref(), Some("/mnt/pg-backup"));
        assert_eq!(share("/var/backups/x"), None);
        let away = |path: &str| mounts.is_away(Path::new(path));
        assert!(away("/mnt/pg-backup/main") && !away("/mnt/other") && !away("/srv"));
    }

    #[test]
    fn the_password_of_a_share_is_where_fstab_says() {
        let fstab = "//nas/pg /mnt/pg cifs noauto,x-systemd.automount,credentials=/etc/my\\040nas,vers=3.1 0 0\n/dev/sdb /mnt/pg/disk ext4 defaults 0 0\n";
        let mounts = Mounts::read(fstab, "22 21 0:1 / /mnt/pg rw - cifs //nas/pg rw\n");
        assert_eq!(mounts.credentials_of(Path::new("/mnt/pg/backup")), Some(Path::new("/etc/my nas")));
        assert_eq!(mounts.credentials_of(Path::new("/mnt/pg/disk/backup")), None);
        assert_eq!(mounts.credentials_of(Path::new("/mnt/pg2")), None);
    }

    #[test]
    fn a_link_leads_to_the_share_it_leads_to_and_what_is_mounted_by_hand_is_not_expected() {
        let directory = tempfile::tempdir().unwrap();
        let (link, share) = (directory.path().join("backup"), directory.path().join("nas"));
        std::os::unix::fs::symlink("nas/pgbosun", &link).unwrap();
        let fstab = format!("host:/x {} nfs4 nofail 0 0\n/dev/sdb {} ext4 noauto 0 0\n", share.display(), "/srv/usb");
        let mounts = Mounts::read(&fstab, "22 21 0:1 / / rw - ext4 /dev/vda rw\n");
        assert_eq!(mounts.share_of(&link.join("main")), Some(share.as_path()));
        assert!(mounts.is_away(&link) && !mounts.is_away(Path::new("/srv/usb/repo")));
    }
}
