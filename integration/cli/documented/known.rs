//! The commands that the documents show, and who runs them.

/// Who runs it.
pub enum By {
    /// This test, which runs this in its place, to end with this code. `ID` is the newest backup, `MEMBER` the hidden member.
    This(&'static str, i32),
    /// The test in this file, in which this stands.
    Other(&'static str, &'static str),
    /// The like of it is run by the test in this file, in which this stands.
    Like(&'static str, &'static str),
    /// Nobody: that is not what it is named for, or cannot be here.
    Nobody(&'static str),
}
use By::{Like, Nobody, Other, This};

/// What the documents show, in an order in which it can be run.
pub const COMMANDS: &[(&str, By)] = &[
    (
        "freezeframe setup --help",
        This("freezeframe setup --help", 0),
    ),
    (
        "freezeframe setup",
        Other("integration/cli/around.rs", "freezeframe setup --store"),
    ),
    ("freezeframe check", This("freezeframe check", 0)),
    ("freezeframe backup", This("freezeframe backup", 0)),
    ("freezeframe list", This("freezeframe list", 0)),
    ("freezeframe show", This("freezeframe show ID", 0)),
    (
        "freezeframe show latest --json",
        This("freezeframe show latest --json", 0),
    ),
    (
        "freezeframe show latest --files",
        This("freezeframe show latest --files", 0),
    ),
    ("freezeframe verify", This("freezeframe verify latest", 0)),
    ("freezeframe verify ID", This("freezeframe verify ID", 0)),
    (
        "freezeframe verify latest --deep",
        This("freezeframe verify latest --deep", 0),
    ),
    (
        "freezeframe restore latest --to /srv/mongodb --member db7.example.net:27017",
        This(
            "freezeframe restore latest --to DIR/srv/mongodb --member db7.example.net:27017",
            0,
        ),
    ),
    (
        "freezeframe restore",
        This("freezeframe restore latest --to DIR/restored", 0),
    ),
    (
        "freezeframe restore ID --to DIR",
        This("freezeframe restore ID --to DIR/again", 0),
    ),
    (
        "freezeframe restore latest --to /srv/part --only journal --only sizeStorer.wt",
        This(
            "freezeframe restore latest --to DIR/part --only journal --only sizeStorer.wt",
            0,
        ),
    ),
    ("freezeframe copy", This("freezeframe copy", 0)),
    (
        "freezeframe copy 20260131_020000 --to file:///mnt/disk/freezeframe",
        This("freezeframe copy ID --to file://DIR/disk", 0),
    ),
    (
        "freezeframe list --store s3://example-backups/db3",
        This("freezeframe list --store file://DIR/other", 0),
    ),
    (
        "freezeframe restore latest --store s3://example-backups/db3 --to /srv/mongodb --member db7.example.net:27017",
        This(
            "freezeframe restore latest --store file://DIR/other --to DIR/far --member db7.example.net:27017",
            0,
        ),
    ),
    (
        "freezeframe hold 20260131_020000 --note \"before the upgrade\"",
        This("freezeframe hold ID --note before-the-upgrade", 0),
    ),
    (
        "freezeframe hold 20260131_020000 --release",
        This("freezeframe hold ID --release", 0),
    ),
    ("freezeframe prune", This("freezeframe prune", 0)),
    (
        "freezeframe prune --yes",
        This("freezeframe prune --yes", 0),
    ),
    ("freezeframe recover", This("freezeframe recover", 0)),
    ("freezeframe status", This("freezeframe status", 0)),
    ("freezeframe metrics", This("freezeframe metrics", 0)),
    (
        "freezeframe metrics --textfile",
        This("freezeframe metrics --textfile", 0),
    ),
    (
        "freezeframe metrics --listen [ADDR:]PORT",
        Other("integration/lab/jobs/package", "freezeframe-metrics"),
    ),
    ("freezeframe unlock", This("freezeframe unlock", 0)),
    (
        "freezeframe unlock --member HOST:PORT --force --yes",
        This("freezeframe unlock --member MEMBER --force --yes", 0),
    ),
    (
        "freezeframe snapshot --label before-upgrade",
        Other(
            "integration/lab/jobs/kept",
            "freezeframe snapshot --label before-upgrade",
        ),
    ),
    (
        "freezeframe snapshot list",
        Other("integration/lab/jobs/kept", "freezeframe snapshot list"),
    ),
    (
        "freezeframe snapshot remove before-upgrade --yes",
        Other("integration/lab/jobs/kept", "freezeframe snapshot remove"),
    ),
    (
        "freezeframe rollback before-upgrade",
        Other("integration/lab/jobs/kept", "freezeframe rollback"),
    ),
    (
        "freezeframe backup --from before-upgrade",
        Other("integration/lab/jobs/kept", "freezeframe backup --from"),
    ),
    (
        "freezeframe backup --from ID",
        Other("integration/lab/jobs/ebs", "freezeframe backup --from"),
    ),
    ("freezeframe -q recover", This("freezeframe -q recover", 0)),
    ("freezeframe -q backup", This("freezeframe -q backup", 0)),
    (
        "freezeframe -q prune --yes --wait 12h",
        This("freezeframe -q prune --yes --wait 12h", 0),
    ),
    (
        "freezeframe config --check",
        This("freezeframe config --check", 0),
    ),
    (
        "freezeframe backup --no-copy",
        This("freezeframe backup --no-copy", 0),
    ),
    (
        "freezeframe -q verify latest --deep",
        This("freezeframe -q verify latest --deep", 0),
    ),
    (
        "freezeframe generate man /usr/share/man/man1",
        This("freezeframe generate man DIR/man1", 0),
    ),
];

/// What they show of other programs. What is run here is run by bash, `DIR` being the test's folder and `ID` the newest backup.
pub const OTHERS: &[(&str, By)] = &[
    (
        "scripts/demo",
        Other("scripts/test", "demo() { scripts/demo; }"),
    ),
    ("scripts/test", Other(".ci/run", "scripts/test")),
    (
        "scripts/package",
        Other("integration/lab/check-package", "scripts/package"),
    ),
    (
        "sudo apt install ./target/packages/freezeframe_*.deb",
        Like("integration/lab/jobs/package", "dpkg -i"),
    ),
    (
        "sudo dnf install ./target/packages/freezeframe-*.rpm",
        Like("integration/lab/jobs/package", "rpm -i"),
    ),
    (
        "cargo build --release",
        Like("scripts/package", "cargo build --release"),
    ),
    (
        "install target/release/freezeframe /usr/bin/",
        This("mkdir DIR/bin; install \"$FREEZEFRAME\" DIR/bin/", 0),
    ),
    (
        "install -D -m 640 packaging/freezeframe.toml /etc/freezeframe/freezeframe.toml",
        This(
            "install -D -m 640 packaging/freezeframe.toml DIR/etc/freezeframe.toml",
            0,
        ),
    ),
    (
        "mkdir -m 700 /var/backups/freezeframe",
        This("mkdir -m 700 DIR/backups", 0),
    ),
    (
        "scripts/lab run --disks 4 --size 2G my-job",
        Other("scripts/test", "scripts/lab run"),
    ),
    (
        "chown -R mongodb: /srv/mongodb",
        This("chown -R \"$(id -un)\": DIR/srv/mongodb", 0),
    ),
    (
        "mongod --dbpath /srv/mongodb --port 27017 --replSet rs0 --bind_ip_all",
        Like("integration/cli/documented.rs", "\"--dbpath\""),
    ),
    (
        "mongod --config /etc/mongod.conf",
        Like("integration/cli/documented.rs", "\"--config\""),
    ),
    (
        "rm /var/backups/freezeframe/mongo_backup-20260131_020000/manifest.json",
        This("rm DIR/store/ID/manifest.json", 0),
    ),
    (
        "rm -r /var/backups/freezeframe/mongo_backup-20260131_020000",
        This("rm -r DIR/store/ID", 0),
    ),
    (
        "aws s3 rm s3://example-backups/db3/mongo_backup-20260131_020000/manifest.json",
        Other("integration/s3/by_hand.rs", "aws s3 rm"),
    ),
    (
        "aws s3 rm --recursive s3://example-backups/db3/mongo_backup-20260131_020000/",
        Other("integration/s3/by_hand.rs", "aws s3 rm"),
    ),
    (
        concat!(
            "aws s3api list-object-versions --bucket example-backups --prefix $set/ --query 'DeleteMarkers[?IsLatest].[Key, VersionId]' --output text | ",
            r"awk '/\/reading-|\/hold\.json|\/manifest\.removed\.json|^None/ {next} /\/manifest\.json/ {last = $0; next} {print} END {if (last) print last}' | ",
            r#"while read -r key version; do aws s3api delete-object --bucket example-backups --key "$key" --version-id "$version"; done"#,
        ),
        Other("integration/s3/by_hand.rs", "set="),
    ),
    (
        "aws ec2 unlock-snapshot --snapshot-id SNAPSHOT",
        Other("integration/ebs/by_hand.rs", "aws ec2 unlock-snapshot"),
    ),
    (
        "aws ec2 describe-snapshots --filters Name=tag:freezeframe,Values=mongo_backup-20260131_020000 --query 'Snapshots[].SnapshotId' --output text",
        Other("integration/ebs/by_hand.rs", "aws ec2 describe-snapshots"),
    ),
    (
        "findmnt -rno TARGET | grep ^/run/freezeframe/ | xargs -r umount",
        Other("integration/lab/jobs/package", "findmnt -rno TARGET"),
    ),
    (
        "lvs @freezeframe",
        Other("integration/lab/jobs/package", "lvs @freezeframe"),
    ),
    (
        "lvremove GROUP/NAME",
        Like("integration/lab/jobs/package", "lvremove"),
    ),
];

/// What they show of other programs in backquotes, run likewise.
pub const IN_LINES: &[(&str, By)] = &[
    (
        "scripts/demo --s3",
        Other("scripts/test", "scripts/demo --s3"),
    ),
    (
        "scripts/demo ebs",
        Other("scripts/test", "scripts/demo ebs"),
    ),
    (
        "scripts/test --whole",
        Nobody("it is all tests that there are"),
    ),
    (
        "scripts/package tar",
        Nobody("it compiles everything once more, for half an hour"),
    ),
    ("scripts/lab --help", This("scripts/lab --help", 0)),
    ("mkdir /srv/mongodb", This("mkdir DIR/srv/by-hand", 0)),
    (
        "tar --xattrs -xJpf rs0.tar.xz -C /srv/mongodb",
        This(
            "tar --xattrs -xJpf DIR/store/ID/rs0.tar.xz -C DIR/srv/by-hand && ls DIR/srv/by-hand/WiredTiger.wt",
            0,
        ),
    ),
    ("set -o pipefail", This("set -o pipefail", 0)),
    (
        "scripts/unpack-reference.py rs0.tar.ffz | tar --xattrs -xpf - -C /srv/mongodb",
        This(
            "\"$FREEZEFRAME\" pack DIR/srv/by-hand -o DIR/rs0.tar.ffz --profile fast && mkdir DIR/srv/again && set -o pipefail && \
             scripts/unpack-reference.py DIR/rs0.tar.ffz | tar --xattrs -xpf - -C DIR/srv/again && diff -r DIR/srv/by-hand DIR/srv/again",
            0,
        ),
    ),
    ("tar xJf", This("tar tJf DIR/store/ID/rs0.tar.xz", 0)),
    ("tar tJf", This("tar tJf DIR/store/ID/rs0.tar.xz", 0)),
    ("xz -t", This("xz -t DIR/store/ID/rs0.tar.xz", 0)),
    ("tar | pixz", Like("scripts/bench.d/levels", "pixz")),
    (
        "man freezeframe",
        Other("integration/lab/jobs/package", "EXIT STATUS"),
    ),
    (
        "apt install ./freezeframe_*.deb",
        Other("integration/lab/jobs/package", "apt-get"),
    ),
    ("dpkg -i", Other("integration/lab/jobs/package", "dpkg -i")),
    (
        "rustup target add x86_64-unknown-linux-musl",
        Nobody("as `scripts/package tar`"),
    ),
    (
        "systemctl disable mongod",
        Nobody("the unit is the operator's"),
    ),
    (
        "lvconvert --merge",
        Like("integration/lab/jobs/kept", "freezeframe rollback"),
    ),
    (
        "systemctl start --wait freezeframe-backup",
        Other("integration/lab/jobs/units", "systemctl start --wait $UNIT"),
    ),
    (
        "systemctl start",
        Other("integration/lab/jobs/units", "systemctl start $UNIT"),
    ),
    (
        "systemctl enable --now freezeframe-backup.timer",
        Other(
            "integration/lab/jobs/units",
            "systemctl enable --quiet --now freezeframe-$timer.timer",
        ),
    ),
    (
        "systemctl enable --now freezeframe-copy.timer",
        Other(
            "integration/lab/jobs/units",
            "systemctl enable --quiet --now freezeframe-$timer.timer",
        ),
    ),
    (
        "systemctl enable --now freezeframe-prune.timer",
        Other(
            "integration/lab/jobs/units",
            "systemctl enable --quiet --now freezeframe-$timer.timer",
        ),
    ),
    (
        "systemctl edit freezeframe-backup.timer",
        Other("integration/lab/jobs/units", "systemctl edit $UNIT.timer"),
    ),
    (
        "systemctl edit freezeframe-backup",
        Like("integration/lab/jobs/units", "systemctl edit $UNIT.timer"),
    ),
    (
        "systemd-creds encrypt --name=mongodb-password FILE /etc/freezeframe/mongodb-password.cred",
        Other("integration/lab/jobs/units", "systemd-creds encrypt"),
    ),
    (
        "systemd-analyze security",
        Other("integration/lab/jobs/units", "systemd-analyze security"),
    ),
    (
        "xfs_admin -U generate",
        This(
            "PATH=$PATH:/usr/sbin; truncate -s 400M DIR/disk.img && mkfs.xfs -q DIR/disk.img && xfs_admin -U generate DIR/disk.img",
            0,
        ),
    ),
    (
        "tune2fs -U random",
        This(
            "PATH=$PATH:/usr/sbin; mkfs.ext4 -qF DIR/disk.img && tune2fs -U random DIR/disk.img",
            0,
        ),
    ),
    (
        "vgimportdevices GROUP",
        Nobody("the laboratory's LVM keeps no devices file"),
    ),
    ("lvchange -K", Nobody("it is warned of")),
    (
        "vgchange --refresh",
        Nobody("it is what must not be run; the job `prepared` runs its like"),
    ),
];
