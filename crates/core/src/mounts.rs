//! Which mount a path lies on, by what is mounted and by what `/etc/fstab` says is to be: a share may be away at this moment.

use crate::unit::mount_point;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Mounts of the system's own (file-hierarchy(7)), which do not come and go.
const SYSTEM: [&str; 14] =
    ["/", "/boot", "/dev", "/etc", "/home", "/opt", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/usr", "/var"];

/// Where something is mounted or is to be, but for the root of everything.
pub struct Mounts {
    planned: Vec<PathBuf>,
    present: Vec<PathBuf>,
}

impl Mounts {
    /// Those of this machine.
    pub fn of_this_machine() -> Self {
        let text = |file| fs::read_to_string(file).ok();
        // Where this runs under the unit it has mounts of its own.
        let mountinfo = text("/proc/1/mountinfo").or_else(|| text("/proc/self/mountinfo"));
        Self::read(&text("/etc/fstab").unwrap_or_default(), &mountinfo.unwrap_or_default())
    }

    /// By the texts of `fstab` and `mountinfo` (fstab(5), proc(5)).
    pub fn read(fstab: &str, mountinfo: &str) -> Self {
        let lines = fstab.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let planned = places(lines.filter_map(|line| line.split_whitespace().nth(1)));
        let present = places(mountinfo.lines().filter_map(|line| line.split(' ').nth(4)));
        Self { planned, present }
    }

    /// systemd's name of the mount that a path lies on.
    pub fn unit_of(&self, path: &Path) -> Option<String> {
        self.of(path).map(|place| unit(place))
    }

    /// The mount that a path lies on, where that is one that may come and go.
    pub fn share_of(&self, path: &Path) -> Option<&Path> {
        let is_system = |place: &Path| {
            SYSTEM.iter().any(|system| place == Path::new(system))
                || ["/var", "/run", "/usr"].iter().any(|system| place.starts_with(system))
        };
        self.of(path).map(PathBuf::as_path).filter(|place| !is_system(place))
    }

    /// Whether the mount that a path is to lie on is away.
    pub fn is_away(&self, path: &Path) -> bool {
        self.of(path).is_some_and(|place| !self.present.contains(place))
    }

    fn of(&self, path: &Path) -> Option<&PathBuf> {
        let above = self.planned.iter().chain(&self.present).filter(|place| path.starts_with(place));
        above.max_by_key(|place| place.as_os_str().len())
    }
}

fn places<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<PathBuf> {
    let places = fields.map(mount_point);
    places.filter(|place| place.is_absolute() && place != Path::new("/")).collect()
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
        let away = |path: &str| mounts.is_away(Path::new(path));
        assert!(away("/mnt/pg-backup/main") && !away("/mnt/other") && !away("/srv"));
    }
}
