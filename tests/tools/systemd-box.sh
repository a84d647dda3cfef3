#!/bin/bash
# systemd-box.sh COMMAND [ARGUMENT...] - boots a real systemd as process 1 on a throw-away overlay of this machine's
# root, in namespaces and a control group of its own, runs COMMAND in it as root, and returns its exit status. Needs root.
#   SHARE="/dir ..."  directories that stay writable to the host
#   BOX_TIMEOUT       seconds, 600 by default
#   BOX_ROOT          another root than this machine's, below the overlay
set -eu
self=$(readlink -f "$0")
limit=${BOX_TIMEOUT:-600}

if [ "${1:-}" != --inside ]; then
    work=$(mktemp -d /tmp/systemd-box.XXXXXX)
    groups=$(findmnt -nt cgroup2 -o TARGET | head -1)/box.$$
    export BOX=$work
    mkdir "$groups"
    mkfifo "$work.out"
    cat "$work.out" &
    exec 9>"$work.out" # a writer of ours, so that cat lives until we close it
    trap 'exec 9>&-; wait; rm -f "$work.out"; rmdir "$work"; find "$groups" -depth -type d -exec rmdir {} +' EXIT
    status=0
    (
        echo "$BASHPID" >"$groups/cgroup.procs"
        exec timeout -s KILL $((limit + 60)) unshare --mount --propagation private --uts --ipc --cgroup --pid --fork \
            --kill-child --net "$self" --inside "$@" 9>&-
    ) || status=$?
    exit "$status"
fi

shift
root=$BOX/root
mount -t tmpfs box "$BOX"
mkdir "$BOX"/{upper,work,root}
mount -t overlay box -o "lowerdir=${BOX_ROOT:-/},upperdir=$BOX/upper,workdir=$BOX/work" "$root"
mount -t proc proc "$root/proc"
mount -o bind,ro "$root/proc/sys" "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir "$root"/{dev/pts,dev/shm,run/box}
chmod 1777 "$root/dev/shm"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for link in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${link%:*}" "$root/dev/${link#*:}"; done
for directory in ${SHARE:-}; do
    mkdir -p "$root$directory"
    mount --bind "$directory" "$root$directory"
done
touch "$root/run/box/out"
mount --bind "$BOX.out" "$root/run/box/out"
export -p >"$root/run/box/environment"
: >"$root/etc/fstab"
mkdir -p "$root/etc/tmpfiles.d"
ln -sf /dev/null "$root/etc/tmpfiles.d/tmp.conf" # leave /tmp be
printf '#!/bin/bash\n. /run/box/environment\nexec >/run/box/out 2>&1 </dev/null\ncd %q\nexec %s\n' "$PWD" "${*@Q}" \
    >"$root/run/box/command"
cat >"$root/etc/systemd/system/box.service" <<UNIT
[Unit]
Requires=basic.target dbus.service
After=basic.target dbus.service
SuccessAction=exit
FailureAction=exit

[Service]
Type=exec
ExecStart=/bin/bash /run/box/command
RuntimeMaxSec=$limit
UNIT
ip link set lo up
cd "$root"
pivot_root . .
umount -l .
# As on a machine: what is mounted and unmounted reaches services that have mounts of their own. In a container systemd leaves that be.
mount --make-rshared /
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=box.service --show-status=no --log-target=journal
