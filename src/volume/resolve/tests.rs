use std::os::unix::fs::symlink;

use super::super::fake::FakeHost;
use super::*;

/// A host with three LVs on one disk, the first of them mounted on `data`, dbPath inside.
fn host() -> (FakeHost, PathBuf) {
    let host = FakeHost::default();
    host.disk("sda", 8, 0, 1 << 22);
    for (minor, lv) in [(0, "data"), (1, "journal"), (2, "index")] {
        host.lv(minor, "vg", lv);
    }
    host.mount(0, "/", &host.dir("data"), "xfs");
    let db = host.dir("data/db");
    (host, db)
}

fn graft(layout: &DataLayout, at: &str) -> (PathBuf, DevNumber) {
    let graft = layout
        .grafts
        .iter()
        .find(|graft| graft.at == Path::new(at))
        .unwrap();
    (
        graft.path.clone(),
        layout.filesystems[graft.filesystem].device.number,
    )
}

#[test]
fn a_plain_db_path_is_one_file_system() {
    let (host, db) = host();
    fs::create_dir_all(db.join("mydb/index")).unwrap();
    fs::write(db.join("mydb/index/1.wt"), "x").unwrap();
    let layout = resolve(&db, &host.view()).unwrap();
    assert_eq!(layout.db_path, db);
    assert_eq!((layout.grafts.len(), layout.filesystems.len()), (0, 1));
    let home = layout.home().unwrap();
    assert_eq!(
        home.device.kind,
        LayerKind::LogicalVolume {
            vg: "vg".into(),
            lv: "data".into()
        }
    );
    assert_eq!(home.inside(&db).unwrap(), Path::new("db"));
}

#[test]
fn links_and_mounts_become_grafts() {
    let (host, db) = host();
    let link = host.dir("dbpath-link").join("db");
    symlink(&db, &link).unwrap();
    // journal by symlink to another volume; a database by symlink on the same volume, with a mount
    // for its index directory; another database's index as a mount in place.
    let journal_volume = host.dir("journal-volume");
    host.mount(1, "/", &journal_volume, "xfs");
    fs::create_dir(journal_volume.join("j")).unwrap();
    symlink(journal_volume.join("j"), db.join("journal")).unwrap();
    let moved = host.dir("data/moved");
    symlink(&moved, db.join("moved")).unwrap();
    fs::create_dir(moved.join("index")).unwrap();
    host.mount(2, "/", &moved.join("index"), "ext4");
    fs::create_dir_all(db.join("inplace/index")).unwrap();
    host.mount(2, "/sub", &db.join("inplace/index"), "ext4");
    // What mongod sorts, which nobody archives.
    let sorting = host.dir("scratch");
    host.mount(3, "/", &sorting, "ext4");
    symlink(&sorting, db.join("_tmp")).unwrap();
    let layout = resolve(&link, &host.view()).unwrap();
    assert_eq!(layout.db_path, db);
    let number = |minor| DevNumber { major: 254, minor };
    assert_eq!(
        graft(&layout, "journal"),
        (journal_volume.join("j"), number(1))
    );
    assert_eq!(graft(&layout, "moved"), (moved.clone(), number(0)));
    assert_eq!(
        graft(&layout, "moved/index"),
        (moved.join("index"), number(2))
    );
    assert_eq!(
        graft(&layout, "inplace/index"),
        (db.join("inplace/index"), number(2))
    );
    assert_eq!(layout.grafts.len(), 4);
    // Two mounts of one volume stay apart, since their paths have different beginnings.
    assert_eq!(layout.filesystems.len(), 4);
    let bound = &layout.filesystems[layout
        .grafts
        .iter()
        .find(|g| g.at == Path::new("inplace/index"))
        .unwrap()
        .filesystem];
    assert_eq!(
        bound.inside(&db.join("inplace/index")).unwrap(),
        Path::new("sub")
    );
}

#[test]
fn refuses_what_an_archive_would_get_wrong() {
    type Case = (&'static str, fn(&FakeHost, &Path), fn(&VolumeError) -> bool);
    let cases: [Case; 8] = [
        (
            "link to a file",
            |host, db| {
                fs::write(host.dir("else").join("f"), "x").unwrap();
                symlink(host.dir("else").join("f"), db.join("WiredTiger.wt")).unwrap();
            },
            |e| matches!(e, VolumeError::LinkedFile { path, .. } if path.ends_with("WiredTiger.wt")),
        ),
        (
            "link to a file two deep",
            |host, db| {
                fs::write(host.dir("else").join("f"), "x").unwrap();
                fs::create_dir_all(db.join("mydb/index")).unwrap();
                symlink(host.dir("else").join("f"), db.join("mydb/index/1.wt")).unwrap();
            },
            |e| matches!(e, VolumeError::LinkedFile { path, .. } if path.ends_with("mydb/index/1.wt")),
        ),
        (
            "dangling link",
            |_, db| symlink("/nowhere/at/all", db.join("x")).unwrap(),
            |e| matches!(e, VolumeError::LinkedFile { target, .. } if target == Path::new("/nowhere/at/all")),
        ),
        (
            "directory link three deep",
            |host, db| {
                fs::create_dir_all(db.join("a/b")).unwrap();
                symlink(host.dir("else"), db.join("a/b/c")).unwrap();
            },
            |e| matches!(e, VolumeError::TooDeep { path } if path.ends_with("a/b/c")),
        ),
        (
            "mount three deep",
            |host, db| {
                fs::create_dir_all(db.join("a/b/c")).unwrap();
                host.mount(1, "/", &db.join("a/b/c"), "xfs");
            },
            |e| matches!(e, VolumeError::TooDeep { .. }),
        ),
        (
            "link to dbPath itself",
            |_, db| symlink(db, db.join("self")).unwrap(),
            |e| matches!(e, VolumeError::Overlap { .. }),
        ),
        (
            "two databases in one place",
            |host, db| {
                symlink(host.dir("else"), db.join("a")).unwrap();
                symlink(host.dir("else"), db.join("b")).unwrap();
            },
            |e| matches!(e, VolumeError::Overlap { .. }),
        ),
        (
            "a link to a directory beside it",
            |_, db| {
                fs::create_dir(db.join("a")).unwrap();
                symlink(db.join("a"), db.join("b")).unwrap();
            },
            |e| matches!(e, VolumeError::Overlap { .. }),
        ),
    ];
    for (name, arrange, expected) in cases {
        let (host, db) = host();
        arrange(&host, &db);
        let error = resolve(&db, &host.view()).unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
    }
}

#[test]
fn says_when_there_is_no_block_device() {
    let (host, db) = host();
    host.mount_device(
        DevNumber {
            major: 0,
            minor: 40,
        },
        "/",
        &host.dir("data"),
        "nfs4",
    );
    let layout = resolve(&db, &host.view()).unwrap();
    let home = layout.home().unwrap();
    assert!(matches!(
        &home.device.kind,
        LayerKind::NotABlockDevice { .. }
    ));
    assert!(home.draw().contains("no block device"), "{}", home.draw());
}

#[test]
fn a_device_that_mountinfo_does_not_know_is_refused() {
    let (host, db) = host();
    let view = HostView {
        device_of: Some(|_| {
            Ok(DevNumber {
                major: 0,
                minor: 77,
            })
        }),
        ..host.view()
    };
    assert!(matches!(
        resolve(&db, &view),
        Err(VolumeError::OtherDevice { .. })
    ));
}

#[test]
fn this_very_host_resolves() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("journal")).unwrap();
    let layout = resolve(dir.path(), &HostView::real()).unwrap();
    assert!(layout.grafts.is_empty());
    assert!(
        layout
            .db_path
            .starts_with(&layout.home().unwrap().mount_point)
    );
}

#[test]
fn locates_what_does_not_exist_yet() {
    let (host, db) = host();
    let found = locate(&db.join("not/yet/there"), &host.view()).unwrap();
    assert_eq!(
        found.device.number,
        DevNumber {
            major: 254,
            minor: 0
        }
    );
}

/// A directory whose name begins with "sub", and what is in it, has a number of its own, as a subvolume has.
fn by_name(path: &Path) -> io::Result<DevNumber> {
    let subvolume = path.ancestors().find(|above| {
        above
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b"sub"))
    });
    let minor = subvolume.map_or(30, |root| root.components().count() as u32 + 30);
    Ok(DevNumber { major: 0, minor })
}

#[test]
fn subvolumes_are_file_systems_of_their_own() {
    let host = FakeHost::default();
    host.disk("sda", 8, 0, 1 << 22);
    host.disk("sdb", 8, 16, 1 << 22);
    host.btrfs("00-11", &["sda", "sdb"]);
    let anonymous = DevNumber {
        major: 0,
        minor: 29,
    };
    let point = host.dir("data");
    host.mount_from(anonymous, "/@", &point, "btrfs", "/dev/sdb");
    let db = host.dir("data/subdb/db");
    host.dir("data/subdb/db/subjournal");
    host.dir(&format!("data/subdb/db/{SUBVOLUME_PREFIX}0000abcd-1"));
    let view = HostView {
        device_of: Some(by_name),
        ..host.view()
    };
    let layout = resolve(&db, &view).unwrap();
    let roots: Vec<_> = layout
        .filesystems
        .iter()
        .map(|one| one.mount_point.strip_prefix(&point).unwrap())
        .collect();
    // dbPath lies in a subvolume of what is mounted; our own snapshots in it are no data.
    assert_eq!(
        roots,
        [Path::new("subdb"), Path::new("subdb/db/subjournal")]
    );
    assert_eq!(layout.grafts.len(), 1);
    assert_eq!(layout.grafts[0].at, Path::new("subjournal"));
    let home = layout.home().unwrap();
    assert_eq!(home.inside(&db).unwrap(), Path::new("db"));
    // These directories are real, and so no roots of subvolumes.
    assert_eq!(home.device.kind, LayerKind::Subvolume { whole: false });
    let below: Vec<_> = home
        .device
        .below
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(below, ["sda", "sdb"]);
    assert_ne!(
        layout.filesystems[0].device.number,
        layout.filesystems[1].device.number
    );
}
