//! What the daemon's unit keeps from it, by the names of the directives (systemd.exec(5)).
//!
//! Invariant: only what the kernel says of this process counts; without a unit nothing is said.

use crate::mounts::Mounts;
use std::path::{Component, Path, PathBuf};

/// `/tmp` and `/var/tmp` are the unit's own.
pub const PRIVATE_TMP: &str = "the unit has PrivateTmp=yes: it has its own /tmp and /var/tmp, which are deleted when it stops. \
    Use another path, or set PrivateTmp=no with \"systemctl edit pgbosun\"";
/// Home directories cannot be seen.
pub const PROTECT_HOME: &str = "the unit has ProtectHome=yes and cannot see /home, /root and /run/user: use another path, or \
    make it visible with BindPaths= or ProtectHome=read-only in \"systemctl edit pgbosun\"";
/// Nothing can be written but where the unit says.
pub const READ_ONLY: &str = "the unit has ProtectSystem=strict and lets the daemon write only where ReadWritePaths= allows it: \
    \"pgbosun config unit --install\" adds what the configuration names, and \"systemctl restart pgbosun\" applies it";
/// A place cannot be seen.
const INACCESSIBLE: &str = "the unit has InaccessiblePaths= for it: \"systemctl cat pgbosun\" shows where";

/// What the machine has at a place is not what the unit has held there.
const STALE: &str = "it was unmounted on this machine, and something else may be mounted there now, but the unit that this \
    process runs in still holds the old mount: restart that unit to release it (for the daemon: \"systemctl restart pgbosun\")";

/// Why what lies at a path on this machine is not what this process sees there.
pub fn hides(path: &Path) -> Option<&'static str> {
    hidden(&of_process("self"), path)
}

/// Why what this process sees at a path is not what the machine has there any more.
pub fn holds(path: &Path) -> Option<&'static str> {
    std::env::var_os("INVOCATION_ID")?;
    let (ours, machine) = (of_process("self"), of_process("1"));
    let is_stale = is_stale(&ours, &machine, path) || is_stale(&ours, &machine, &resolved(path));
    is_stale.then_some(STALE)
}

fn of_process(process: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default()
}

/// Why what is not at a path for this process may be there for others. Only where the unit hides something is it asked whether it is
/// there: nothing that hangs.
pub fn keeps_away(path: &Path) -> Option<&'static str> {
    hides(path).filter(|_| !path.exists())
}

/// Why this process cannot write at a path, whether it is there or not, though its file system takes writes.
pub fn forbids_writing(path: &Path) -> Option<&'static str> {
    forbidden(&of_process("self"), path)
}

/// Whether another process, by its id, is known to be able to: the daemon.
pub fn lets_process_write(process: &str, path: &Path) -> bool {
    let mounts = of_process(process);
    !mounts.is_empty() && forbidden(&mounts, path).is_none()
}

fn forbidden(mounts: &str, path: &Path) -> Option<&'static str> {
    // A link may lead to where it is allowed; systemd follows it, too. Only what seems forbidden is looked at: nothing that hangs.
    let is_forbidden = is_read_only(mounts, path) && is_read_only(mounts, &resolved(path));
    // Where a share is away it is not the unit that takes no writes.
    (is_forbidden && !Mounts::of_this_machine().is_away(path)).then_some(READ_ONLY)
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
    let Mount { root, place, .. } = mount_of(mounts, path)?;
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
    mount_of(mounts, path).is_some_and(|mount| has(mount.own, "ro") && has(mount.whole, "rw"))
}

/// Whether a unit with mounts of its own holds one that the machine has no more, by the texts of `mountinfo`. Each of its mounts follows one
/// of the machine (`master`) until that is gone (mount_namespaces(7)): with a mount of systemd's own below it, it stays then. And what the
/// machine mounts where systemd has put such a mount goes below that.
fn is_stale(mounts: &str, of_machine: &str, path: &Path) -> bool {
    let follows = |path: &Path| mount_of(mounts, path).map(|mount| mount.follows);
    if mounts == of_machine || follows(Path::new("/")) != Some(true) {
        return false;
    }
    let (Some(ours), Some(theirs)) = (mount_of(mounts, path), mount_of(of_machine, path)) else { return false };
    let is_below = |other: Mount<'_>| other.place == ours.place && other.device == theirs.device;
    let covers = || theirs.place == ours.place && all(mounts).any(is_below);
    // The same file system is right, whatever the mount is called.
    theirs.device != ours.device && (!ours.follows || covers())
}

/// A mount, by a line of `mountinfo`.
#[derive(Clone, Copy)]
struct Mount<'a> {
    id: &'a str,
    parent: &'a str,
    device: &'a str,
    root: &'a str,
    place: &'a str,
    /// Its options.
    own: &'a str,
    /// Those of its file system.
    whole: &'a str,
    /// Whether what happens to another one happens to it.
    follows: bool,
}

/// The mounts of the text of `mountinfo` (proc(5)).
fn all(mounts: &str) -> impl Iterator<Item = Mount<'_>> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let mut next = || fields.next();
        let (id, parent, device, root, place, own) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let follows = fields.take_while(|field| *field != "-").any(|field| field.starts_with("master:"));
        Some(Mount { id, parent, device, root, place, own, whole: line.rsplit(' ').next()?, follows })
    })
}

/// The mount on which a path lies. Of mounts on one place it is the one that the others are below.
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<Mount<'a>> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    let path = plain.as_path();
    let above = || all(mounts).filter(|mount| path.starts_with(mount_point(mount.place)));
    let place = above().max_by_key(|mount| mount.place.len())?.place;
    let there = || above().filter(|mount| mount.place == place);
    there().filter(|mount| !there().any(|other| other.parent == mount.id)).last()
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
    fn what_a_unit_holds_that_the_machine_has_no_more_is_known_by_its_mounts() {
        let mounts = "\
            99 90 254:0 / / ro,relatime shared:50 master:1 - ext4 /dev/vda rw\n\
            125 99 0:56 / /mnt/nas ro,relatime shared:52 - tmpfs first rw\n\
            127 125 0:56 /repo /mnt/nas/repo rw,relatime shared:53 - tmpfs first rw\n\
            128 99 0:57 / /mnt/share rw,relatime shared:54 master:26 - nfs4 host:/share rw\n\
            129 130 254:0 /mnt/late /mnt/late rw,relatime shared:55 master:1 - ext4 /dev/vda rw\n\
            130 99 0:58 / /mnt/late rw,relatime shared:56 master:27 - nfs4 host:/late rw\n";
        let machine = "21 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
            40 21 0:57 / /mnt/share rw shared:26 - nfs4 host:/share rw\n41 21 0:58 / /mnt/late rw shared:27 - nfs4 host:/late rw\n";
        let stale = |path: &str| is_stale(mounts, machine, Path::new(path));
        assert!(stale("/mnt/nas/repo/main") && stale("/mnt/nas"));
        assert!(!stale("/mnt/share/repo") && !stale("/var/backups"));
        // What came later lies below what systemd has put there.
        assert!(stale("/mnt/late/repo"));
        assert!(!is_stale(machine, machine, Path::new("/mnt/share")));
        assert!(!is_stale(&mounts.replace("master:1 ", ""), machine, Path::new("/mnt/nas/repo")));
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
