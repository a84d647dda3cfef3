//! What the daemon's unit keeps from it, by the names of the directives (systemd.exec(5)).
//!
//! Invariant: only what the kernel says of this process counts; without a unit nothing is said.

use std::path::{Component, Path, PathBuf};

/// `/tmp` and `/var/tmp` are the unit's own.
pub const PRIVATE_TMP: &str = "the unit has PrivateTmp=yes, and with it /tmp and /var/tmp of its own, which end with it: take another \
    place, or set PrivateTmp=no with \"systemctl edit pgbosun\"";
/// Home directories cannot be seen.
pub const PROTECT_HOME: &str = "the unit has ProtectHome=yes, and sees nothing of /home, /root and /run/user: take another place, or \
    BindPaths= or ProtectHome=read-only with \"systemctl edit pgbosun\" shows it";
/// A place cannot be seen.
const INACCESSIBLE: &str = "the unit has InaccessiblePaths= for it: \"systemctl cat pgbosun\" shows where";

/// Why what lies at a path on this machine is not what this process sees there.
pub fn hides(path: &Path) -> Option<&'static str> {
    hidden(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), path)
}

/// Why what is not at a path for this process may be there for others. Only where the unit hides something is it asked whether it is
/// there: nothing that hangs.
pub fn keeps_away(path: &Path) -> Option<&'static str> {
    hides(path).filter(|_| !path.exists())
}

/// [`hides`] by the text of `mountinfo` (proc(5)): of mounts on one place the last counts.
fn hidden(mounts: &str, path: &Path) -> Option<&'static str> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    let path = plain.as_path();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    let above = mounts.filter(|(_, place)| path.starts_with(place));
    let (root, place) = above.reduce(|best, next| if next.1.len() >= best.1.len() { next } else { best })?;
    let is_home = ["/home", "/root", "/run/user"].contains(&place);
    match root {
        root if root.contains("/systemd-private-") => Some(PRIVATE_TMP),
        root if !root.contains("/systemd/inaccessible/") => None,
        _ if is_home => Some(PROTECT_HOME),
        _ => Some(INACCESSIBLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_hides_is_named_by_its_directive() {
        let mounts = "\
            21 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda rw\n\
            30 21 254:0 /tmp /tmp rw - ext4 /dev/vda rw\n\
            31 21 254:0 /tmp/systemd-private-5e-pgbosun.service-a/tmp /tmp rw,relatime shared:5 - ext4 /dev/vda rw\n\
            32 21 0:31 /systemd-private-5e-pgbosun.service-b/tmp /var/tmp rw - tmpfs tmpfs rw\n\
            33 21 0:22 /systemd/inaccessible/dir /home ro,nosuid - tmpfs tmpfs rw\n\
            34 21 0:22 /systemd/inaccessible/dir /srv/secret ro,nosuid - tmpfs tmpfs rw\n\
            35 31 254:0 /shared /tmp/shared rw - ext4 /dev/vda rw\n";
        let hidden = |path: &str| hidden(mounts, Path::new(path));
        assert_eq!(hidden("/tmp"), Some(PRIVATE_TMP));
        assert_eq!(hidden("/var/tmp/repo"), Some(PRIVATE_TMP));
        assert_eq!(hidden("/var/../tmp/repo"), Some(PRIVATE_TMP));
        assert_eq!(hidden("/tmp/../srv"), None);
        assert_eq!(hidden("/home/anna/.pgpass"), Some(PROTECT_HOME));
        assert_eq!(hidden("/srv/secret/x"), Some(INACCESSIBLE));
        for seen in ["/tmp/shared/x", "/tmpx", "/var/backups", "/root/x", "relative"] {
            assert_eq!(hidden(seen), None, "{seen}");
        }
        assert_eq!(super::hidden("", Path::new("/tmp")), None);
    }
}
