# Sourced by jobs after lib.sh: what lies on the laboratory's EBS volumes, and whether a copy of it disturbs it. `ec2` is a function of the job.
# shellcheck shell=bash

# ebs_layout VOLUME...: the file systems of a member on five volumes: /data on a RAID0 of two, /journal (XFS) on a partition of one, /extra on a logical volume over a
# mirror of two, beside another; in /data/db absolute symlinks to the other two
ebs_layout() {
    local disks name
    read -ra disks <<<"$(ec2 disks "$@")"
    ebs_partition=${disks[4]}1
    must mdadm --quiet --create /dev/md0 --run --metadata=1.2 --level=0 --chunk=64 --raid-devices=2 "${disks[@]:0:2}"
    must mkfs.ext4 -q -E nodiscard /dev/md0
    must mdadm --quiet --create /dev/md1 --run --metadata=1.2 --level=1 --assume-clean --bitmap=internal --raid-devices=2 "${disks[@]:2:2}"
    must pvcreate -qq -y /dev/md1
    must vgcreate -qq vg0 /dev/md1
    for name in extra other; do # two on the same volumes: only the UUID tells which is which
        must lvcreate -qq -y -W y -n $name -L 300M vg0
        must mkfs.ext4 -q -E nodiscard /dev/vg0/$name
    done
    python3 - "${disks[4]}" <<'P'
import struct, sys
# a partition table with one partition from 1 MiB to the end
with open(sys.argv[1], "r+b") as disk:
    sectors = disk.seek(0, 2) // 512
    disk.seek(446)
    disk.write(struct.pack("<8B2I", 0, 0, 0, 0, 0x83, 0, 0, 0, 2048, sectors - 2048) + bytes(48) + b"\x55\xaa")
P
    # udev may do it, and has the disk open meanwhile
    must wait_for 60 sh -c "test -b $ebs_partition || blockdev --rereadpt ${disks[4]}"
    must wait_for 60 test -b "$ebs_partition"
    must mkfs.xfs -q -K "$ebs_partition"
    mkdir -p /data /extra /journal
    must mount /dev/md0 /data
    must mount /dev/vg0/extra /extra
    must mount "$ebs_partition" /journal
    mkdir -p /data/db /extra/db /journal/j
    ln -s /journal/j /data/db/journal
    ln -s /extra/db /data/db/extra
    must udevadm settle
}

# ebs_uuids: of all its file systems
ebs_uuids() {
    local device
    for device in /dev/md0 /dev/vg0/extra /dev/vg0/other "$ebs_partition"; do blkid -p -s UUID -o value "$device"; done
}

# ebs_originals: what md, LVM, mounts and udev make of them, and who is called by their UUIDs; none of it may change because of a copy
ebs_originals() {
    local name
    for name in md0 md1; do
        mdadm --detail --export "/dev/$name" | grep -v EVENTS
        ls "/sys/block/$name/slaves"
    done
    cat /sys/block/md0/md/array_state /sys/block/md1/md/degraded
    for name in $(ebs_uuids); do echo "$name $(readlink -f "/dev/disk/by-uuid/$name")"; done
    grep -E ' /(data|extra|journal) ' /proc/self/mountinfo
    vgs --noheadings -o vg_name,vg_uuid,pv_count,lv_count vg0 2>&1
}

# ebs_arrays: how many arrays there are. One that was stopped is a name without members, and so is one whose node udev opened just then; the kernel takes it away later.
ebs_arrays() { cat /sys/block/md*/md/array_state | grep -cvx clear; }

# ebs_restore ID OPTION...: below /restored; what it says is kept for `ebs_away`
ebs_restore() {
    local code=0
    freezeframe restore "$1" --to /restored "${@:2}" >/run/ebs-said || code=$?
    cat /run/ebs-said
    ((code != 0)) || mv /run/ebs-said /run/ebs-restored
    return $code
}

# ebs_away: what a user does who needs the copies no more: the commands that the last restore has shown, EC2 being the laboratory's
ebs_away() {
    local line
    grep -E '^  (umount|find|dmsetup|mdadm|aws|rm) ' /run/ebs-restored >/run/ebs-commands || return
    while read -r line; do
        line=${line% &&}
        echo "$line"
        case $line in
            "aws ec2 delete-volume "*) ec2 away "${line##* }" ;;
            "aws ec2 "*) ;;
            *) eval "$line" ;;
        esac || return
    done </run/ebs-commands
    rm /run/ebs-restored
}

# ebs_away_unseen DIR: the same where nobody has seen what restore says, as it was killed at its very end
ebs_away_unseen() {
    local point layer copies
    while point=$(awk -v dir="$1" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tail -1) && [[ $point ]]; do umount "$point" || return; done
    for layer in $(dmsetup ls | awk '/^vg0_/ { print $1 }'); do dmsetup remove --retry "$layer" || return; done
    for layer in /dev/md9[0-9]; do [[ ! -b $layer ]] || mdadm --quiet --stop "$layer" || return; done
    read -ra copies <<<"$(ec2 volumes)"
    ec2 away "${copies[@]}" && rm -rf "$1" && rm -f /run/udev/rules.d/63-z-freezeframe-*
}
