# Sourced by jobs after lib.sh and freezeframe.sh: commands that fail on order, and what must hold after every failure.
# shellcheck shell=bash

FAULTS=/run/faults
faults_commands=(lvs vgs lvcreate lvconvert lvremove lvextend lvchange dmsetup systemd-run systemctl)

# A shim before every external command of freezeframe: it notes each call, and does what /run/faults/action says at the call that /run/faults/order
# names: "PROGRAM:FIRST_ARGUMENT N", N counted from 1, or "always". In the action, `real` is the command itself.
faults_install() {
    local command
    mkdir -p "$FAULTS/bin"
    cat >"$FAULTS/shim" <<'S'
#!/bin/sh
program=${0##*/} faults=/run/faults
PATH=${PATH#"$faults/bin:"}
key=$program:$1
echo "$key" >>$faults/calls
real() { "$program" "$@"; }
if read -r wanted nth <$faults/order && [ "$key" = "$wanted" ]; then
    if [ "$nth" = always ] || [ "$nth" = "$(grep -cxF -e "$key" $faults/calls)" ]; then
        : >$faults/hit
        . $faults/action
    fi
fi
exec "$program" "$@"
S
    chmod 755 "$FAULTS/shim"
    for command in "${faults_commands[@]}"; do ln -sf ../shim "$FAULTS/bin/$command"; done
    no_fault
}

# fault PROGRAM:FIRST_ARGUMENT N|always ACTION
fault() {
    rm -f "$FAULTS"/{calls,hit}
    : >"$FAULTS/calls"
    echo "$3" >"$FAULTS/action"
    echo "$1 $2" >"$FAULTS/order"
}
no_fault() { fault none 0 :; }

# ff ARGUMENT...: freezeframe behind the shims; what it said is in $FAULTS/said
ff() { PATH=$FAULTS/bin:$PATH freezeframe "$@" >"$FAULTS/said" 2>&1; }

# exits CODE COMMAND...: the command ends with that very code
exits() {
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    ((code == wanted)) || { echo "exit code $code, expected $wanted"; cat "$FAULTS/said"; return 1; }
}

# says PATTERN: in what freezeframe said last
says() { grep -q -e "$1" "$FAULTS/said" || { cat "$FAULTS/said"; return 1; }; }

faults_hit() { [[ -e $FAULTS/hit ]]; }

# backups, folders: how many complete ones the store lists, and how many sets of any kind lie in it
backups() { freezeframe list --json | grep -c '"state": "complete"'; }
folders() { find "$FREEZEFRAME_STORE" -mindepth 1 -maxdepth 1 -type d ! -name 'lease-*' | wc -l; }
backups_are() {
    [[ $(backups) == "$1" && $(folders) == "$1" ]] || { freezeframe list | tail -n 3; echo "$(folders) folders, expected $1"; return 1; }
}

# What is not ours: two snapshots of the origin, one of them with a name as ours, and a locked mongod.
foreign_begin() {
    FOREIGN=127.0.0.1:27050 FOREIGN_VG=$1
    # after a power cut they are there
    lvs "$1/by-hand" &>/dev/null || must lvcreate -qq -y -s -n by-hand -L 192M "$1/$2"
    lvs "$1/freezeframe-deadbeef-0" &>/dev/null || must lvcreate -qq -y -s -n freezeframe-deadbeef-0 -L 192M "$1/$2"
    lab_mongod foreign 27050 "$LAB_STATE/foreign" "${LAB_LEAN[@]}"
    must mongo "$FOREIGN" '{"fsync": 1, "lock": true}'
}
foreign_untouched() {
    ff_locked "$FOREIGN" && lvs "$FOREIGN_VG/by-hand" "$FOREIGN_VG/freezeframe-deadbeef-0" >/dev/null
}

# left_well NAME BACKUPS: what must hold after every case, without recovery
left_well() {
    check "$1: unlocked, and what is written arrives" /lab/follows "$PRIMARY" "$HIDDEN"
    check "$1: nothing is left" ff_nothing_left
    check "$1: what is not ours is untouched" foreign_untouched
    check "$1: the store holds complete backups only" backups_are "$2"
}
