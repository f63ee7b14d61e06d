# Sourced by jobs after lib.sh and freezeframe.sh: mongod's data on each of the layouts that are one snapshot for each file system.
# shellcheck shell=bash

disks=(/dev/ubd[b-e])

# make LAYOUT: /data/db, and where it is a place of its own the journal; sets `drawn`, what check's tree must show
make() {
    mkdir -p /data /journal
    "make_$1"
    mkdir -p /data/db
    if mountpoint -q /journal; then
        mkdir -p /journal/j
        ln -s /journal/j /data/db/journal
    fi
}
make_thin() {
    must pvcreate -qq -y "${disks[@]}"
    must vgcreate -qq data "${disks[@]}"
    must lvcreate -qq -y --type thin-pool -L 1G -i 4 --poolmetadatasize 16M -n pool data
    for lv in mongo journal; do
        must lvcreate -qq -y --thin -V 3G -n $lv data/pool
        must mkfs.xfs -q /dev/data/$lv
    done
    must mount /dev/data/mongo /data
    must mount /dev/data/journal /journal
    drawn='logical volume data/journal'
}
make_linear() {
    must pvcreate -qq -y "${disks[@]}"
    must vgcreate -qq data "${disks[@]}"
    must lvcreate -qq -y -L 768M -n mongo data
    must lvcreate -qq -y -i 2 -L 512M -n journal data
    for lv in mongo journal; do must mkfs.xfs -q /dev/data/$lv; done
    must mount /dev/data/mongo /data
    must mount /dev/data/journal /journal
    drawn='logical volume data/journal'
}
make_raid() {
    must pvcreate -qq -y "${disks[@]}"
    must vgcreate -qq data "${disks[@]}"
    must lvcreate -qq -y --type "$@" -L 768M -n mongo data
    must lvcreate -qq -y -L 512M -n journal data
    must mkfs.ext4 -q /dev/data/mongo
    must mkfs.xfs -q /dev/data/journal
    must mount /dev/data/mongo /data
    must mount /dev/data/journal /journal
    drawn='rimage_1'
}
make_raid1() { make_raid raid1 -m 1; }
make_raid10() { make_raid raid10 -m 1 -i 2; }
make_on-md() {
    must mdadm --quiet --create /dev/md7 --run --metadata=1.2 --level=10 --raid-devices=4 "${disks[@]}"
    must pvcreate -qq -y /dev/md7
    must vgcreate -qq data /dev/md7
    must lvcreate -qq -y -L 1G -n mongo data
    must lvcreate -qq -y -L 512M -n journal data
    for lv in mongo journal; do must mkfs.xfs -q /dev/data/$lv; done
    must mount /dev/data/mongo /data
    must mount /dev/data/journal /journal
    drawn='md raid10'
}
# A mirror of two logical volumes, and the journal on a third.
make_array() {
    local disk
    must pvcreate -qq -y "${disks[@]}"
    must vgcreate -qq data "${disks[@]}"
    for disk in b c; do must lvcreate -qq -y -W y -L 768M -n mongo-$disk data /dev/ubd$disk; done
    must lvcreate -qq -y -L 512M -n journal data
    must mdadm --quiet --create /dev/md8 --run --metadata=1.2 --level=1 --assume-clean --bitmap=internal --raid-devices=2 /dev/data/mongo-b /dev/data/mongo-c
    must mkfs.xfs -q -K /dev/md8
    must mkfs.ext4 -q /dev/data/journal
    must mount /dev/md8 /data
    must mount /dev/data/journal /journal
    drawn='md raid1'
}
make_btrfs() {
    must mkfs.btrfs -q -f -d raid0 -m raid1 "${disks[@]:0:2}"
    must mount "${disks[0]}" /data
    # mongod's directories as subvolumes: dbPath itself, and the journal in it
    must btrfs -q subvolume create /data/db
    must btrfs -q subvolume create /data/db/journal
    drawn='disk ubdc'
}
make_reflink() {
    must mkfs.xfs -q -f -m reflink=1 "${disks[0]}"
    must mkfs.xfs -q -f -m reflink=1 "${disks[1]}"
    must mount "${disks[0]}" /data
    must mount "${disks[1]}" /journal
    drawn='disk ubdb'
}
# ext4 with its journal, and XFS with its log, on devices of their own: what no picture can be mounted of.
make_external() {
    must pvcreate -qq -y "${disks[@]}"
    must vgcreate -qq data "${disks[@]}"
    for lv in mongo journal mongo-log journal-log; do must lvcreate -qq -y -W y -L 512M -n $lv data; done
    must mke2fs -q -F -b 4096 -O journal_dev /dev/data/mongo-log
    must mkfs.ext4 -q -F -b 4096 -J device=/dev/data/mongo-log /dev/data/mongo
    must mkfs.xfs -q -f -l logdev=/dev/data/journal-log /dev/data/journal
    must mount /dev/data/mongo /data
    must mount -o logdev=/dev/data/journal-log /dev/data/journal /journal
}
unmake() {
    for at in /data /journal; do ! mountpoint -q $at || must umount $at; done
    [[ ! -e /dev/md8 ]] || must mdadm --quiet --stop /dev/md8
    ! vgs data &>/dev/null || must vgremove -qq -y --force data
    if [[ -e /dev/md7 ]]; then
        must pvremove -qq -y /dev/md7
        must mdadm --quiet --stop /dev/md7
        must mdadm --quiet --zero-superblock "${disks[@]}"
    fi
    must wipefs -q -a "${disks[@]}"
}

# No snapshot of btrfs either, and no clones.
nothing_left() {
    ff_nothing_left && [[ -z $(find /data /journal -name '.freezeframe-*') ]]
}
