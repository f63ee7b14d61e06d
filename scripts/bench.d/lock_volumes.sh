#!/bin/bash
# How long a backup holds the database when its data lies on one, four and eight volumes, beside a plain script that does the same: flush, `fsyncLock`,
# `lvcreate -s` for each volume, `fsyncUnlock`; ours with `[lvm] window` "lvm" and "prepared". In the laboratory, one run, all in turn, with a writer running. The script's commands to mongod
# come from a process that is there already (no shell of MongoDB's has to start), so it is as fast as a script can be.
#   scripts/bench lock [--volumes 1,4,8] [--rounds N] [--kernel K]
set -euo pipefail
repo=$(realpath "$(dirname "$0")/../..")
kernel=debian12 rounds=5 volumes=1,4,8
while (($#)); do
    case $1 in
        --kernel) kernel=$2 ;;
        --rounds) rounds=$2 ;;
        --volumes) volumes=$2 ;;
        *) echo "usage: scripts/bench lock [--volumes 1,4,8] [--rounds N] [--kernel K]" >&2; exit 2 ;;
    esac
    shift 2
done
work=$(mktemp -d "$repo/target/bench-lock.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/share"

cat >"$work/job" <<J
rounds=$rounds volumes=(${volumes//,/ })
J
cat >>"$work/job" <<'J'
. /lab/lib.sh
. /lab/freezeframe.sh
ff_configure 'window = "lvm"'
disks=(/dev/ubd[b-e])

# plain N: the script's window in microseconds, to /host
plain() {
    local lv n=0 start
    must mongo "$HIDDEN" '{"fsync": 1}'
    start=${EPOCHREALTIME/./}
    must mongo "$HIDDEN" '{"fsync": 1, "lock": true}'
    for lv in "${origins[@]}"; do
        must lvcreate -qq -y -s -n "plain$((n += 1))" -L 64M "data/$lv"
    done
    must mongo "$HIDDEN" '{"fsyncUnlock": 1}'
    echo $((${EPOCHREALTIME/./} - start)) >>"/host/plain.$1"
    for ((; n > 0; n--)); do must lvremove -qq -y "data/plain$n"; done
}
ours() {
    must freezeframe backup
    freezeframe show latest --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["window"]["held_us"])' >>"/host/$2.$1"
    rm -rf "$FREEZEFRAME_STORE"/*
}

for count in "${volumes[@]}"; do
    origins=(mongo)
    must lab_volume data mongo 1G 4 xfs /data "${disks[@]}"
    mkdir -p /data/db
    for ((n = 2; n <= count; n++)); do
        must lab_volume data "db$n" 256M 4 ext4 "/db$n" "${disks[@]}"
        mkdir "/db$n/d"
        ln -s "/db$n/d" "/data/db/db$n"
        origins+=("db$n")
    done
    lab_replset rs0 27017 /data/db --directoryperdb "${LAB_LEAN[@]}"
    # each database writes to its own volume
    for ((n = 2; n <= count; n++)); do must mongo "$PRIMARY" '{"insert": "c", "documents": [{"n": 1}]}' "db$n"; done
    rm -rf /host/log
    lab_writer /host/log --threads 2 --rate 5
    must lab_writer_goes_on 20
    for ((round = 0; round < rounds; round++)); do
        plain "$count"
        must lab_writer_goes_on 5
        for window in lvm prepared; do
            sed -i "s/^window = .*/window = \"$window\"/" /etc/freezeframe/freezeframe.toml
            ours "$count" "$window"
            must lab_writer_goes_on 5
        done
    done
    must lab_writer_stop
    for name in hidden secondary primary; do lab_stop "rs0-$name"; done
    rm -rf "$LAB_STATE"/rs0-*
    for ((n = count; n > 1; n--)); do must umount "/db$n"; done
    must umount /data
    must vgremove -qq -y --force data
    must wipefs -qa "${disks[@]}"
done
J
"$repo/scripts/lab" run --kernel "$kernel" --disks 4 --size 2G --mem 3G --timeout 2400 --share "$work/share" "$work/job" >&2

python3 - "$work/share" "$kernel" "$volumes" <<'P'
import statistics
import sys

folder, kernel, volumes = sys.argv[1:]
# The share of the script's time, and milliseconds.
WANTED = {("8", "lvm"): (0.80, 1e9), ("8", "prepared"): (0.35, 1500)}


def median(name):
    return statistics.median(int(line) for line in open(f"{folder}/{name}")) / 1000


missed = False
print(f"kernel {kernel}; milliseconds that the database is held, medians; the ratio is to the script's\nvolumes   script      lvm  ratio  prepared  ratio")
for count in volumes.split(","):
    script = median(f"plain.{count}")
    line = f"{count:>7} {script:8.1f}"
    for window in ("lvm", "prepared"):
        ours = median(f"{window}.{count}")
        share, most = WANTED.get((count, window), (1e9, 1e9))
        missed |= ours / script > share or ours >= most
        line += f" {ours:8.1f} {ours / script:6.2f} "
    print(line)
if missed:
    sys.exit("FAILED: the lock is longer than wanted")
P
