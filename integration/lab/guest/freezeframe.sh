# Sourced by jobs after lib.sh: a configured freezeframe, and what must hold after every run of it.
# shellcheck shell=bash

FREEZEFRAME_STORE=${FREEZEFRAME_STORE:-/var/backups/freezeframe}
FREEZEFRAME_STATE=${FREEZEFRAME_STATE:-/var/lib/freezeframe}

# ff_configure [LINE...]: a configuration for the laboratory, with more lines of TOML at its end
ff_configure() {
    mkdir -p /etc/freezeframe "$FREEZEFRAME_STORE"
    {
        printf '[store]\nurl = "file://%s"\n' "$FREEZEFRAME_STORE"
        # a set a few seconds old has an oplog of a few seconds
        printf '[mongodb]\nmin_oplog_window = "1s"\n'
        printf '[lvm]\nsnapshot_floor = "64MiB"\n'
        (($# == 0)) || printf '%s\n' "$@"
        # Where the length of the window is not what is tested, it is not what a busy machine makes it fail by.
        [[ "$*" == *'[window]'* ]] || printf '[window]\nmax_lock = "60s"\n'
    } >/etc/freezeframe/freezeframe.toml
}

# ff_optime ID [SHARD]: the optime read under the lock, as replay.py --at wants it
ff_optime() {
    freezeframe show "$1" --json | python3 -c '
import json, sys
for member in json.load(sys.stdin)["members"]:
    if member["shard"] == (sys.argv[1:] or [member["shard"]])[0]:
        print("%d,%d" % (member["optime"]["seconds"], member["optime"]["increment"]))' "${@:2}"
}

# ff_locked HOST:PORT, ff_unlocked HOST:PORT: is it fsyncLocked? Neither where it does not answer. No `grep -q` in a pipe: it ends at the first match, and
# with pipefail whoever still writes to it makes a match a failure.
ff_locked() { local said; said=$(mongo "$1" '{"currentOp": 1}') && [[ $said == *'"fsyncLock": true'* ]]; }
ff_unlocked() { local said; said=$(mongo "$1" '{"currentOp": 1}') && [[ $said != *'"fsyncLock": true'* ]]; }

# ff_nothing_left: no snapshot, mount, device, journal, guard, timer or partial file of ours. The run deadbeef is none of ours: see faults.sh.
ff_nothing_left() {
    local left
    left=$(
        lvs --noheadings -o lv_full_name @freezeframe 2>/dev/null
        grep -F ' /run/freezeframe/' /proc/self/mountinfo
        find /run/freezeframe -mindepth 1 2>/dev/null
        dmsetup ls | grep freezeframe | grep -v freezeframe--deadbeef
        dmsetup info -c --noheadings -o name,suspended | grep -i 'suspended$'
        ls "$FREEZEFRAME_STATE"/runs/*.journal 2>/dev/null
        pgrep -af 'freezeframe.* guard$'
        systemctl list-units --all --plain --no-legend 'freezeframe-guard-*' 'freezeframe-recover-*'
        find "$FREEZEFRAME_STORE" -name '.*.partial'
    )
    [[ -z $left ]] || { echo "$left"; return 1; }
}

# ff_restored ID LOG PORT [ARGUMENT...]: restores ID, starts mongod on it, with ARGUMENTs, and compares it with the writer's log at the backup's optime
ff_restored() {
    local id=$1 log=$2 port=$3 target
    shift 3
    target=/var/lib/restored-$port
    freezeframe restore "$id" --to "$target" --member "127.0.0.1:$port" || return
    lab_mongod "restored-$port" "$port" "$target" --replSet rs0 "$@"
    wait_for 60 sh -c "mongo 127.0.0.1:$port '{\"hello\":1}' | grep -q '\"isWritablePrimary\": true'" || return
    "$lab_here"/replay.py "$log" "127.0.0.1:$port" --at "$(ff_optime "$id")" || return
    lab_stop "restored-$port"
    rm -rf "$target"
}

# ends CODE COMMAND...: it ends with that code; what it says is in /run/ended
ends() {
    local code=0
    "${@:2}" >/run/ended 2>&1 || code=$?
    ((code == $1)) || { echo "ended with $code"; cat /run/ended; return 1; }
}
