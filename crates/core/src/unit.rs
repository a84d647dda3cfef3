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
/// Nothing can be written but where the unit says.
pub const READ_ONLY: &str = "the unit has ProtectSystem=strict, and lets the daemon write only where ReadWritePaths= says: \"pgbosun config \
    unit --install\" adds what the configuration names, and \"systemctl restart pgbosun\" applies it";
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

/// Why this process cannot write at a path, whether it is there or not, though its file system takes writes.
pub fn forbids_writing(path: &Path) -> Option<&'static str> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // A link may lead to where it is allowed; systemd follows it, too. Only what seems forbidden is looked at: nothing that hangs.
    (is_read_only(&mounts, path) && is_read_only(&mounts, &resolved(path))).then_some(READ_ONLY)
}

/// A path without links, as far as it is there.
fn resolved(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    match there {
        Some((part, real)) => path.strip_prefix(part).map_or_else(|_| real.clone(), |rest| real.join(rest)),
        None => path.to_owned(),
    }
}

/// [`hides`] by the text of `mountinfo`.
fn hidden(mounts: &str, path: &Path) -> Option<&'static str> {
    let [root, place, ..] = mount_of(mounts, path)?;
    let is_home = ["/home", "/root", "/run/user"].contains(&place);
    match root {
        root if root.contains("/systemd-private-") => Some(PRIVATE_TMP),
        root if !root.contains("/systemd/inaccessible/") => None,
        _ if is_home => Some(PROTECT_HOME),
        _ => Some(INACCESSIBLE),
    }
}

/// [`forbids_writing`] by the text of `mountinfo`: the mount is read-only and its file system is not.
fn is_read_only(mounts: &str, path: &Path) -> bool {
    let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
    mount_of(mounts, path).is_some_and(|[_, _, own, whole]| has(own, "ro") && has(whole, "rw"))
}

/// The mount on which a path lies, by the text of `mountinfo` (proc(5)): its root, its place, its options, and those of its file system.
/// Of mounts on one place the last counts.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<[&'a str; 4]> {
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
        let whole = line.rsplit(' ').next()?;
        Some([fields.next()?, fields.next()?, fields.next()?, whole])
    });
    let above = mounts.filter(|[_, place, ..]| path.starts_with(mount_point(place)));
    above.reduce(|best, next| if next[1].len() >= best[1].len() { next } else { best })
}

/// A mount point as `mountinfo` and `fstab` write it: blanks and backslashes are octal numbers there (proc(5), fstab(5)).
pub fn mount_point(field: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(field.to_owned(), |text, (code, character)| text.replace(code, character)).into()
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

    #[test]
    fn what_a_unit_lets_nobody_write_is_told_from_a_disk_that_takes_no_writes() {
        let mounts = "\
            21 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro\n\
            22 21 254:0 /var/backups/pgbosun /var/backups/pgbosun rw,relatime - ext4 /dev/vda rw,errors=remount-ro\n\
            25 21 254:0 /srv/a /srv/with\\040blank/a rw,relatime - ext4 /dev/vda rw,errors=remount-ro\n\
            23 21 254:16 / /mnt/broken ro,relatime - ext4 /dev/vdb ro\n\
            24 21 0:40 / /mnt/share ro,relatime - nfs4 host:/share rw,vers=4.2\n";
        for (path, expected) in [
            ("/srv/backups", true),
            ("/var/backups", true),
            ("/var/backups/pgbosun/main", false),
            ("/srv/with blank/a/b", false),
            ("/srv/with blank", true),
            ("/mnt/broken/backups", false),
            ("/mnt/share/backups", true),
        ] {
            assert_eq!(is_read_only(mounts, Path::new(path)), expected, "{path}");
        }
    }
}
