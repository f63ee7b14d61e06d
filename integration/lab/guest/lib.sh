# Sourced by jobs as /lab/lib.sh. A job is a bash script; its exit code is 1 when any check failed. README.md tells how to use these.
# shellcheck shell=bash
# It also works on a host, given python3 with pymongo and mongod in PATH and LAB_STATE, a folder for logs, pid files and data.
set -uo pipefail
lab_here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
LAB_STATE=${LAB_STATE:-/var/lib/lab}

lab_failed=0
# What commands said, a file for each depth of calls: a process more for each assertion would be felt in the laboratory. Failures are told at once,
# wherever the output of the caller goes.
mkdir -p "$LAB_STATE"
lab_said=$LAB_STATE/said.$$
exec {lab_out}>&1
export LVM_SUPPRESS_FD_WARNINGS=1 # it would tell of that one
lab_failure() {
    {
        echo "FAILED $1"
        sed 's/^/    /' "$2"
    } >&"$lab_out"
}
# A job ends with its own code if it has one, else with the verdict of its checks; forgetting to ask for it is not possible.
lab_verdict() {
    local code=$?
    if ((code == 0 && lab_failed > 0)); then code=1; fi
    if ((lab_failed)); then echo "$lab_failed checks FAILED"; fi
    exit "$code"
}
trap lab_verdict EXIT

# check NAME COMMAND...: one assertion; what the command said is shown when it failed. The command runs in this very shell (no $(...)), so it may
# be a function that sets variables or waits for a child.
check() {
    local name=$1 said=$lab_said.${#FUNCNAME[@]} code=0
    shift
    "$@" >"$said" 2>&1 || code=$?
    if ((code == 0)); then
        echo "ok $name"
    else
        lab_failed=$((lab_failed + 1))
        lab_failure "$name: $* (exit code $code)" "$said"
    fi
    return "$code"
}

# refused NAME COMMAND...: the command must fail
refused() {
    local name=$1
    shift
    check "$name" lab_not "$@"
}
lab_not() { ! "$@"; }

# must COMMAND...: no assertion but a step without which the rest means nothing: the job ends where it fails
must() {
    local said=$lab_said.${#FUNCNAME[@]} code=0
    "$@" >"$said" 2>&1 || code=$?
    if ((code)); then
        lab_failure "step: $* (exit code $code)" "$said"
        exit "$code"
    fi
}

# wait_for SECONDS COMMAND...: polls a condition; fails when it has not come true in time
wait_for() {
    local seconds=$1 end
    shift
    end=$((${EPOCHREALTIME/./} + seconds * 1000000))
    until "$@" >/dev/null 2>&1; do
        if ((${EPOCHREALTIME/./} > end)); then
            echo "waited $seconds s in vain for: $*" >&2
            return 1
        fi
        sleep 0.1
    done
}

# sample N WORD...: the words, a line each; where only a sample is wanted (LAB_SAMPLE, a seed) N of them, in their order
sample() {
    if [[ ! ${LAB_SAMPLE-} ]]; then
        printf '%s\n' "${@:2}"
        return
    fi
    python3 -c '
import random, sys
seed, count, *words = sys.argv[1:]
chosen = random.Random(seed).sample(range(len(words)), min(int(count), len(words)))
print(f"sample of {len(chosen)} out of {len(words)}, seed {seed}:", *(words[at] for at in sorted(chosen)), file=sys.stderr)
print(*(words[at] for at in sorted(chosen)), sep="\n")' "$LAB_SAMPLE" "$@"
}

# lab_rate N: so many writes a second for each of a writer's threads; where only a sample is wanted two: a write costs a guest 70 ms of its one processor, primary and
# secondaries together, and what a job is about starves beside more.
lab_rate() { if [[ ${LAB_SAMPLE-} ]]; then echo 2; else echo "$1"; fi; }

# timed NAME COMMAND...: prints how long it took; its exit code is the command's
timed() {
    local name=$1 start=${EPOCHREALTIME/./} code=0
    shift
    "$@" || code=$?
    echo "time $name $(((${EPOCHREALTIME/./} - start) / 1000)) ms"
    return "$code"
}

# lab_volume VG LV SIZE STRIPES FS MOUNT DISK...: a mounted logical volume, striped over STRIPES of the disks (1: linear). What a former boot left
# on the disks is used again, never made anew. Extends VG when it has not all of the disks.
lab_volume() {
    local vg=$1 lv=$2 size=$3 stripes=$4 fs=$5 at=$6 disk new=()
    shift 6
    for disk; do
        [[ $(pvs --noheadings -o vg_name "$disk" 2>/dev/null | tr -d ' ') == "$vg" ]] || new+=("$disk")
    done
    if ((${#new[@]})); then
        must pvcreate -qq -y "${new[@]}"
        if vgs "$vg" &>/dev/null; then must vgextend -qq "$vg" "${new[@]}"; else must vgcreate -qq "$vg" "${new[@]}"; fi
    fi
    if ! lvs "$vg/$lv" &>/dev/null; then
        must lvcreate -qq -y -W y -n "$lv" -i "$stripes" -L "$size" "$vg" "$@"
        case $fs in
            xfs) must mkfs.xfs -q "/dev/$vg/$lv" ;;
            ext4) must mkfs.ext4 -q "/dev/$vg/$lv" ;;
            btrfs) must mkfs.btrfs -q "/dev/$vg/$lv" ;;
            *) echo "lab_volume: unknown file system $fs"; exit 2 ;;
        esac
    fi
    mkdir -p "$at"
    must mount "/dev/$vg/$lv" "$at"
}

# For jobs of many cases: a mongod that does little beside, so that a case takes seconds less. A journal of 4 MiB in place of 400, no diagnostics.
# shellcheck disable=SC2034 # for jobs
LAB_LEAN=(--wiredTigerEngineConfigString 'log=(file_max=2MB,prealloc=false)' --setParameter diagnosticDataCollectionEnabled=false)

# lab_mongod NAME PORT DBPATH [ARGUMENT...]: starts a mongod on loopback; returns when it accepts connections (mongod's own --fork tells)
lab_mongod() {
    local name=$1 port=$2 path=$3
    shift 3
    mkdir -p "$path" "$LAB_STATE"
    must mongod --dbpath "$path" --port "$port" --bind_ip 127.0.0.1 --nounixsocket --wiredTigerCacheSizeGB 0.25 --fork \
        --logpath "$LAB_STATE/$name.log" --logappend --pidfilepath "$LAB_STATE/$name.pid" "$@"
}

# lab_stop NAME: an orderly shutdown; returns when the process is gone. lab_kill NAME: SIGKILL.
lab_stop() { lab_end TERM "$1"; }
lab_kill() { lab_end KILL "$1"; }
lab_end() {
    local pid
    pid=$(<"$LAB_STATE/$2.pid")
    kill "-$1" "$pid"
    # a forked mongod is not our child, so there is nothing to wait(2) for
    must wait_for 60 lab_not kill -0 "$pid"
}

# lab_replset NAME PORT DBPATH [ARGUMENT...]: a set of three, all on this machine: primary on PORT, secondary on PORT+1, and on PORT+2 with its data
# in DBPATH the hidden member (priority 0, votes 0). ARGUMENTs go to every mongod. Sets PRIMARY, SECONDARY and HIDDEN to host:port; the processes
# are NAME-primary, NAME-secondary and NAME-hidden to lab_stop and lab_kill.
lab_replset() {
    local name=$1 port=$2 path=$3
    shift 3
    PRIMARY=127.0.0.1:$port SECONDARY=127.0.0.1:$((port + 1)) HIDDEN=127.0.0.1:$((port + 2))
    lab_mongod "$name-primary" "$port" "$LAB_STATE/$name-primary" --replSet "$name" "$@"
    lab_mongod "$name-secondary" "$((port + 1))" "$LAB_STATE/$name-secondary" --replSet "$name" "$@"
    lab_mongod "$name-hidden" "$((port + 2))" "$path" --replSet "$name" "$@"
    must "$lab_here/replset" "$name" "$PRIMARY" "$SECONDARY" "$HIDDEN=hidden"
}

# lab_writer LOG_FOLDER [ARGUMENT of writer.py...]: writes to PRIMARY in the background until lab_writer_stop; returns when it has begun.
lab_writer() {
    local log=$1
    shift
    LAB_WRITER_LOG=$log
    mkdir -p "$log"
    rm -f "$log/ready"
    python3 "$lab_here"/writer.py "$PRIMARY" "$log" "$@" &
    LAB_WRITER=$!
    must wait_for 60 test -e "$log/ready"
}
# lab_writer_goes_on N: returns when the writer has done N more operations, all threads together
lab_writer_goes_on() {
    local until=$(($(lab_written) + $1))
    must wait_for 120 lab_written_at_least "$until"
}
lab_written() { cat "$LAB_WRITER_LOG"/*.jsonl | grep -c '"done"'; }
lab_written_at_least() { (($(lab_written) >= $1)); }
# lab_writer_stop: ends the writer in order and prints its summary; fails when it had to stop because of an error
lab_writer_stop() {
    kill "$LAB_WRITER"
    wait "$LAB_WRITER"
}
# lab_optime HOST:PORT: the newest entry of that server's oplog, as replay.py --at wants it
lab_optime() { python3 "$lab_here"/replay.py --top "$1"; }
