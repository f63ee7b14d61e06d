//! Archives of what real mongods write.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use freezeframe::archive::*;
use freezeframe::progress::Meter;
use mongodb::bson::{Document, doc};
use tokio_util::sync::CancellationToken;

use crate::support::mongod::{Member, Options, ReplicaSet};

/// Documents that compress about as business data does.
fn document(random: &mut fastrand::Rng, number: i32) -> Document {
    const WORDS: [&str; 8] = [
        "order",
        "customer",
        "shipped",
        "pending",
        "street",
        "invoice",
        "returned",
        "warehouse",
    ];
    let words = |random: &mut fastrand::Rng, count: usize| {
        let chosen: Vec<_> = (0..count).map(|_| WORDS[random.usize(0..8)]).collect();
        chosen.join(" ")
    };
    let noise: String = (0..random.usize(10..120))
        .map(|_| random.alphanumeric())
        .collect();
    let count = random.usize(5..40);
    doc! { "_id": number, "state": words(random, 1), "text": words(random, count), "token": noise, "price": random.f64() }
}

/// Mode, time with its fraction, owner, size and content.
type Seen = (u32, i64, i64, u32, u64, blake3::Hash);

/// Everything below `root`, but for what is not archived.
fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_path_buf();
            let left_out = ["mongod.lock", "WiredTiger.lock", "diagnostic.data", "_tmp"];
            if left_out.iter().any(|name| relative == Path::new(name)) {
                continue;
            }
            let about = path.symlink_metadata().unwrap();
            let content = match about.is_dir() {
                true => blake3::hash(b""),
                false => blake3::hash(&std::fs::read(&path).unwrap()),
            };
            let (mode, owner) = (about.mode(), about.uid());
            let size = if about.is_dir() { 0 } else { about.size() };
            seen.insert(
                relative,
                (
                    mode,
                    about.mtime(),
                    about.mtime_nsec(),
                    owner,
                    size,
                    content,
                ),
            );
            if about.is_dir() {
                folders.push(path);
            }
        }
    }
    seen
}

#[tokio::test]
async fn what_a_mongod_wrote_comes_back_to_the_bit_and_smaller() {
    let mut set = ReplicaSet::start(Options {
        members: vec![Member::primary()],
        ..Options::default()
    })
    .await;
    let seed = fastrand::u64(..1 << 32);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let client = set.admin(0).await;
    let orders = client.database("shop").collection::<Document>("orders");
    for batch in 0..20 {
        let batch: Vec<_> = (0..2000)
            .map(|number| document(&mut random, batch * 2000 + number))
            .collect();
        orders.insert_many(batch).await.unwrap();
    }
    let index = mongodb::IndexModel::builder()
        .keys(doc! { "token": 1 })
        .build();
    orders.create_index(index).await.unwrap();
    let deflated = doc! { "wiredTiger": { "configString": "block_compressor=zlib" } };
    let create = doc! { "create": "deflated", "storageEngine": deflated };
    client.database("shop").run_command(create).await.unwrap();
    let deflated = client.database("shop").collection::<Document>("deflated");
    let batch: Vec<_> = (0..8000)
        .map(|number| document(&mut random, number))
        .collect();
    deflated.insert_many(batch).await.unwrap();
    let admin = client.database("admin");
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    // Free space with old pages in it, and what only the journal has.
    orders
        .delete_many(doc! { "_id": { "$mod": [3, 0] } })
        .await
        .unwrap();
    admin.run_command(doc! { "fsync": 1 }).await.unwrap();
    orders
        .update_many(
            doc! { "_id": { "$mod": [5, 0] } },
            doc! { "$set": { "state": "closed" } },
        )
        .await
        .unwrap();
    set.members[0].kill();
    let source = set.members[0].db_path.clone();

    tokio::task::spawn_blocking(move || {
        let before = look(&source);
        let scratch = tempfile::tempdir().unwrap();
        let (mut sizes, mut proven_by) = (BTreeMap::new(), BTreeMap::new());
        for method in [Method::default(), Method::Fast, Method::Small] {
            let name = method.profile().name();
            let object = scratch.path().join(format!("{name}.archive"));
            let summary = packed(&source, method, &object);
            println!("{name}: {} bytes", summary.size);
            sizes.insert(name, summary.size);
            let target = scratch.path().join(name);
            std::fs::create_dir(&target).unwrap();
            unpack_alone(
                &FileArchive::open(&object).unwrap(),
                &target,
                NonZeroUsize::new(2).unwrap(),
                Owners::Restore,
                &Meter::default(),
                &CancellationToken::new(),
            )
            .unwrap();
            assert_eq!(look(&target), before, "{name}");
            if method.profile() == Profile::Portable {
                continue;
            }
            let found = summary.unsnapped;
            println!("{name}: {found:?}");
            assert!(found.tried > 100, "{found:?}");
            proven_by.insert(name, found.proven);
            let kinds = found.kinds().map(|(_, kind)| kind);
            let tried: u64 = kinds.iter().map(|kind| kind.tried).sum();
            let proven: u64 = kinds.iter().map(|kind| kind.proven.total()).sum();
            assert_eq!((tried, proven), (found.tried, found.proven));
            // What this mongod is built with.
            let collections = found.collections.proven;
            assert!(collections.snappy_to_1_1_8 > 100, "{found:?}");
            let deflated = collections.zlib;
            assert_eq!(
                collections.snappy_to_1_1_8 + deflated,
                collections.total()
            );
            if method == Method::Small {
                assert!(deflated > 20, "{found:?}");
                assert!(found.proven * 100 >= found.tried * 95, "{found:?}");
                let snappy = found.proven - deflated;
                assert_eq!(proven_by["fast"], snappy, "fast leaves zlib alone");
            }

            // The second reader of the format comes to the same.
            let target = scratch.path().join(format!("{name}-by-python"));
            std::fs::create_dir(&target).unwrap();
            let script = format!(
                "set -o pipefail; {}/scripts/unpack-reference.py {} | tar --xattrs --numeric-owner -xpf - -C {}",
                env!("CARGO_MANIFEST_DIR"),
                object.display(),
                target.display()
            );
            let read = Command::new("bash").args(["-c", &script]).status().unwrap();
            assert!(read.success());
            assert_eq!(look(&target), before, "{name} by the reference");
        }
        assert!(sizes["fast"] < sizes["portable"], "{sizes:?}");
        assert!(sizes["small"] < sizes["fast"], "{sizes:?}");
    })
    .await
    .unwrap();
}

fn packed(source: &Path, method: Method, object: &Path) -> PackSummary {
    let source = SourceTree {
        root: source.to_path_buf(),
        grafts: Vec::new(),
        exclude: Vec::new(),
        include_diagnostics: false,
        live: false,
    };
    let options = PackOptions {
        method,
        threads: NonZeroUsize::new(2).unwrap(),
    };
    pack(
        &source,
        &"rs0".parse().unwrap(),
        &options,
        &mut std::fs::File::create(object).unwrap(),
        &mut |_| Ok(()),
        &Meter::default(),
        &CancellationToken::new(),
    )
    .unwrap()
}
