#!/bin/bash
# store-run.sh KIND DIRECTORY [PORT] - runs one store for the tests in the foreground, as the invoking user, on
# 127.0.0.1, with everything it writes below DIRECTORY. It stops at once when this process gets TERM (or KILL, but then
# open connections of sftp live on and fuse leaves its mount). DIRECTORY/ready is there once the store answers.
# stores.sh installs what this needs; PGBOSUN_TEST_STORES names its prefix.
#   seaweedfs  S3 over HTTPS on PORT, authority DIRECTORY/ca.pem; takes the ports PORT to PORT+7
#   rclone-s3  S3 over HTTP on PORT, ignores If-None-Match; objects are the files DIRECTORY/data/BUCKET/KEY
#   sftp       sshd for the invoking user on PORT: key DIRECTORY/id_ed25519, DIRECTORY/known_hosts; starts in
#              DIRECTORY/data
#   fuse       DIRECTORY/data mounted on DIRECTORY/mount with delayed write-back (STORE_WRITE_BACK, 5s); no port.
#              Mounted by root, everybody may use it; mounted by another user, only that user
# Both S3 stores: region us-east-1, paths (not host names) for buckets, bucket "backups", access key "pgbosun-test",
# secret "pgbosun-test-secret".
set -euo pipefail
umask 077
case "$#:${1:-}" in
3:seaweedfs | 3:rclone-s3 | 3:sftp | [23]:fuse) kind=$1 port=${3:-} ;;
*)
    echo "usage: store-run.sh seaweedfs|rclone-s3|sftp DIRECTORY PORT, or fuse DIRECTORY" >&2
    exit 64
    ;;
esac
tools=$(cd "$(dirname "$0")" && pwd)
programs=${PGBOSUN_TEST_STORES:-/opt/pgbosun-test}/bin
mkdir -p "$2"
directory=$(cd "$2" && pwd -P)
cd "$directory"
rm -f ready

# Nothing of the invoking user's own settings.
for name in $(compgen -v | grep -E '^(AWS|RCLONE|WEED|S3)_'); do unset "$name"; done
export HOME=$directory RCLONE_CONFIG=$directory/rclone.conf
: >rclone.conf

# when_up TEST: in the background, until TEST holds: then DIRECTORY/ready. Ends without it when the store is gone.
when_up() {
    (
        (
            for _ in $(seq 300); do
                kill -0 $$ 2>/dev/null || exit 0
                if "$@" >ready.log 2>&1; then
                    mv ready.log ready
                    exit 0
                fi
                sleep 0.2
            done
            echo "store-run.sh: $kind does not answer: $(cat ready.log)" >&2
        ) &
    )
}

# run COMMAND...: not in our place, but killed with all its children when we are asked to end, and without them when we
# are killed.
run() {
    setpriv --pdeathsig KILL "$@" &
    store=$!
    trap 'kill -KILL $(family "$store") 2>/dev/null; wait "$store" || :; rm -f "${leftovers[@]}"; exit 0' TERM INT HUP
    local status=0
    wait "$store" || status=$?
    exit "$status"
}

family() {
    local child
    echo "$1"
    for child in $(pgrep -P "$1"); do family "$child"; done
}
leftovers=()

# A bucket, and an object in it: an S3 store that takes a bucket may not yet take objects.
s3_answers() {
    local keys=access_key_id=pgbosun-test,secret_access_key=pgbosun-test-secret
    local remote=":s3,provider=Other,region=us-east-1,$keys,endpoint='$1':backups"
    local rclone=("$programs/rclone" --ca-cert "${2:-}" --retries 1 --low-level-retries 1 --timeout 5s)
    "${rclone[@]}" mkdir "$remote" && echo "ready" | "${rclone[@]}" rcat "$remote/store-run-probe" &&
        "${rclone[@]}" deletefile "$remote/store-run-probe"
}

sftp_answers() {
    echo pwd | sftp -q -b - -P "$port" -i id_ed25519 -F none -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
        -o "UserKnownHostsFile=$directory/known_hosts" -o ConnectTimeout=5 127.0.0.1
}

case $kind in
seaweedfs)
    [ -e cert.pem ] || "$tools/certificates.sh" "$directory"
    cat >s3.json <<JSON
{"identities": [{"name": "pgbosun-test", "actions": ["Admin", "Read", "List", "Tagging", "Write"],
  "credentials": [{"accessKey": "pgbosun-test", "secretKey": "pgbosun-test-secret"}]}]}
JSON
    mkdir -p data
    when_up s3_answers "https://127.0.0.1:$port" ca.pem
    # No option moves these out of /tmp.
    leftovers=("/tmp/seaweedfs-master-grpc-$((port + 4)).sock" "/tmp/seaweedfs-volume-grpc-$((port + 5)).sock"
        "/tmp/seaweedfs-filer-grpc-$((port + 6)).sock" "/tmp/seaweedfs-s3-grpc-$((port + 7)).sock")
    rm -f "${leftovers[@]}"
    # Asked to end, it takes 15 s or hangs for good: killed instead. A master alone need not wait for votes. It takes objects
    # however full the disk is: its default of 1 % is gigabytes on a large one.
    run "$programs/weed" -logtostderr=true server -dir=data -ip=127.0.0.1 -ip.bind=127.0.0.1 \
        -master.telemetry=false -master.electionTimeout=500ms -master.volumeSizeLimitMB=256 -volume.max=200 \
        -volume.minFreeSpace=16MiB \
        -master.port=$((port + 1)) -volume.port=$((port + 2)) -filer.port=$((port + 3)) \
        -master.port.grpc=$((port + 4)) -volume.port.grpc=$((port + 5)) -filer.port.grpc=$((port + 6)) \
        -filer -filer.localSocket=filer.sock \
        -s3 -s3.port="$port" -s3.port.grpc=$((port + 7)) -s3.port.iceberg=0 -s3.port.lance=0 -s3.localSocket=s3.sock \
        -s3.config=s3.json -s3.cert.file=cert.pem -s3.key.file=key.pem -s3.autoCreateBucket=false
    ;;
rclone-s3)
    mkdir -p data/backups
    when_up s3_answers "http://127.0.0.1:$port"
    # Without a cache of directories: a test may change the files behind its back.
    exec "$programs/rclone" serve s3 data --addr "127.0.0.1:$port" --auth-key pgbosun-test,pgbosun-test-secret \
        --dir-cache-time 0s --cache-dir cache
    ;;
sftp)
    mkdir -p data
    for key in host_ed25519 id_ed25519; do
        [ -e "$key" ] || ssh-keygen -q -t ed25519 -N '' -C pgbosun-test -f "$key"
    done
    cp id_ed25519.pub authorized_keys
    for host in "[127.0.0.1]:$port" "[localhost]:$port"; do
        echo "$host $(cut -d ' ' -f 1,2 host_ed25519.pub)"
    done >known_hosts
    cat >sshd_config <<CONF
ListenAddress 127.0.0.1
Port $port
HostKey $directory/host_ed25519
AuthorizedKeysFile $directory/authorized_keys
AuthenticationMethods publickey
UsePAM no
StrictModes no
UseDNS no
PidFile none
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp -d $directory/data
CONF
    sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd)
    # Newer ones shut out who failed to log in: tests do that on purpose.
    if "$sshd" -t -f sshd_config -o PerSourcePenalties=no 2>/dev/null; then
        echo "PerSourcePenalties no" >>sshd_config
    fi
    when_up sftp_answers
    # Killed with the connections that are open: each is a process that would outlive it.
    run "$sshd" -D -e -f "$directory/sshd_config"
    ;;
fuse)
    # One that was killed leaves its mount behind.
    if grep -qF " $directory/mount fuse" /proc/mounts; then fusermount3 -u -z mount; fi
    mkdir -p data mount
    when_up mountpoint -q mount
    others=()
    [ "$(id -u)" != 0 ] || others=(--allow-other)
    exec "$programs/rclone" mount data mount --vfs-cache-mode writes --vfs-write-back "${STORE_WRITE_BACK:-5s}" \
        --dir-cache-time 0s --cache-dir cache "${others[@]}"
    ;;
esac
