//! What every store must do, as one suite that each implementation passes.
//!
//! It reports a violation as an error and does not assert, so that it can also be pointed at a real
//! server from a tool.

use std::fmt;
use std::io;
use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use super::{ObjectInfo, SharedStore, StoreError};

/// A rule that a store broke.
#[derive(Debug, Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    rule: &'static str,
    detail: String,
}

type Outcome = Result<(), Violation>;

fn broken(rule: &'static str, detail: impl fmt::Debug) -> Violation {
    Violation {
        rule,
        detail: format!("{detail:?}"),
    }
}

fn must(rule: &'static str, holds: bool, detail: impl fmt::Debug) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(broken(rule, detail))
    }
}

fn done<T>(rule: &'static str, result: Result<T, StoreError>) -> Result<T, Violation> {
    result.map_err(|error| broken(rule, error))
}

/// Longest component of a key that every store must take, in bytes.
pub const LONGEST: usize = 220;

/// Runs the whole suite; `fresh` gives an empty store each time it is called.
pub async fn run(fresh: impl Fn() -> SharedStore) -> Outcome {
    run_with(fresh, LONGEST).await
}

/// As [`run`], for a server that cannot take components of more than `longest` bytes.
pub async fn run_with(fresh: impl Fn() -> SharedStore, longest: usize) -> Outcome {
    whole_objects(fresh()).await?;
    ranges(fresh()).await?;
    missing(fresh()).await?;
    never_overwritten(fresh()).await?;
    one_of_many_wins(fresh()).await?;
    listing(fresh()).await?;
    keys(fresh(), longest).await?;
    streams(fresh()).await?;
    sealed(fresh()).await?;
    given_up(fresh()).await?;
    deletion_beside_creation(fresh()).await?;
    probe(fresh()).await
}

/// Bytes in which every offset can be told from its neighbours.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_add(0x9E37_79B9);
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

async fn read_all(store: &SharedStore, key: &str) -> Result<Vec<u8>, StoreError> {
    let size = store.size(key).await?;
    store.read(key, 0..size).await
}

async fn listed(store: &SharedStore, prefix: &str) -> Result<Vec<ObjectInfo>, Violation> {
    done("a prefix can be listed", store.list(prefix).await)
}

async fn whole_objects(store: SharedStore) -> Outcome {
    const RULE: &str = "what was put is read back";
    for (key, content) in [
        ("empty", Vec::new()),
        ("one", vec![7]),
        ("folder/deep/er/object", pattern(100_000, 1)),
    ] {
        let info = done(RULE, store.put(key, &content).await)?;
        let expected = ObjectInfo {
            key: key.to_owned(),
            size: content.len() as u64,
        };
        must(RULE, info == expected, &info)?;
        must(
            RULE,
            done(RULE, read_all(&store, key).await)? == content,
            key,
        )?;
        must(
            "list shows what was put",
            listed(&store, key).await? == [expected],
            key,
        )?;
    }
    Ok(())
}

async fn ranges(store: SharedStore) -> Outcome {
    const RULE: &str = "a read gives exactly its range";
    let content = pattern(10_000, 2);
    done(RULE, store.put("ranges", &content).await)?;
    let edges: [Range<u64>; 7] = [
        0..0,
        0..1,
        0..10_000,
        9_999..10_000,
        10_000..10_000,
        1..9_999,
        4_095..4_097,
    ];
    for range in edges {
        let read = done(RULE, store.read("ranges", range.clone()).await)?;
        let wanted = content.get(range.start as usize..range.end as usize);
        must(RULE, Some(read.as_slice()) == wanted, &range)?;
    }
    for range in [0..10_001, 10_000..10_001, 20_000..20_001, 0..u64::MAX] {
        let read = store.read("ranges", range.clone()).await;
        let told = matches!(
            &read,
            Err(StoreError::Truncated { size: 10_000, wanted, .. }) if *wanted == range.end
        );
        must(
            "a read beyond the end is Truncated and tells both sizes",
            told,
            (range, read),
        )?;
    }
    Ok(())
}

async fn missing(store: SharedStore) -> Outcome {
    const RULE: &str = "a missing object is NotFound";
    done(RULE, store.put("there/object", b"x").await)?;
    for key in [
        "nothing",
        "no/such/folder/object",
        "there",
        "there/objec",
        "there/object2",
    ] {
        let size = store.size(key).await;
        must(RULE, matches!(size, Err(StoreError::NotFound { .. })), size)?;
        let read = store.read(key, 0..1).await;
        must(RULE, matches!(read, Err(StoreError::NotFound { .. })), read)?;
        done(
            "deleting what is not there is well done",
            store.delete(key).await,
        )?;
    }
    must(
        "deleting what is not there deletes nothing",
        store.size("there/object").await.is_ok(),
        "there/object",
    )?;
    must(
        "an empty prefix lists nothing",
        listed(&store, "no/such/").await?.is_empty(),
        "no/such/",
    )
}

async fn never_overwritten(store: SharedStore) -> Outcome {
    const RULE: &str = "nothing is ever overwritten";
    done(RULE, store.put("folder/taken", b"first").await)?;
    let again = store.put("folder/taken", b"second").await;
    must(
        RULE,
        matches!(again, Err(StoreError::Exists { .. })),
        &again,
    )?;
    let streamed = store.create("folder/taken", None).await.err();
    must(
        "a stream to a taken key fails before it begins",
        matches!(streamed, Some(StoreError::Exists { .. })),
        streamed,
    )?;
    // Taken only after the stream began.
    let mut late = done(RULE, store.create("folder/late", Some(4)).await)?;
    done(RULE, late.write(b"late".to_vec()).await)?;
    done(RULE, store.put("folder/late", b"first").await)?;
    let finished = late.finish().await;
    must(
        RULE,
        matches!(finished, Err(StoreError::Exists { .. })),
        finished,
    )?;
    for key in ["folder/taken", "folder/late"] {
        must(
            RULE,
            done(RULE, read_all(&store, key).await)? == b"first",
            key,
        )?;
    }
    must(
        "a stream that lost leaves nothing unfinished",
        done(RULE, store.unfinished("").await)?.is_empty(),
        "folder/late",
    )?;
    done(RULE, store.delete("folder/taken").await)?;
    done(
        "a deleted key is free again",
        store.put("folder/taken", b"x").await,
    )
    .map(drop)
}

/// Half by `put`, half streamed.
async fn write_once(store: SharedStore, key: String, content: Vec<u8>) -> Result<(), StoreError> {
    if content.first().is_some_and(|first| first % 2 == 0) {
        return store.put(&key, &content).await.map(drop);
    }
    let mut writer = store.create(&key, Some(content.len() as u64)).await?;
    writer.write(content).await?;
    writer.finish().await.map(drop)
}

async fn one_of_many_wins(store: SharedStore) -> Outcome {
    const RULE: &str = "of many that create one key exactly one wins";
    const WRITERS: u8 = 16;
    for round in 0..8 {
        let key = format!("race/{round}");
        let racing: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let content = vec![writer; 10_000];
                tokio::spawn(write_once(store.clone(), key.clone(), content))
            })
            .collect();
        let mut winners = Vec::new();
        for (writer, task) in (0u8..).zip(racing) {
            match task.await.map_err(|error| broken(RULE, error))? {
                Ok(()) => winners.push(writer),
                Err(StoreError::Exists { .. }) => {}
                Err(error) => return Err(broken(RULE, error)),
            }
        }
        let [winner] = winners.as_slice() else {
            return Err(broken(RULE, winners));
        };
        let content = done(RULE, read_all(&store, &key).await)?;
        must(
            "the winner's bytes are the object",
            content == vec![*winner; 10_000],
            winner,
        )?;
    }
    must(
        "losers leave nothing unfinished",
        done(RULE, store.unfinished("").await)?.is_empty(),
        "race/",
    )
}

async fn listing(store: SharedStore) -> Outcome {
    const RULE: &str = "list is by prefix, in key order";
    // Folder order and key order differ here: '-' and '.' sort before '/', '0' after it.
    let all = [
        "a-b", "a.txt", "a/b", "a/b-c", "a/b/c", "a0", "b/a", "b/z", "ba",
    ];
    // Where a folder is a folder, a key cannot be an object and a prefix of others at once.
    let kept: Vec<&str> = all.iter().copied().filter(|key| *key != "a/b").collect();
    for key in kept.iter().rev() {
        done(RULE, store.put(key, key.as_bytes()).await)?;
    }
    for prefix in [
        "", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/cc", "b", "b/", "b/z", "c", "a-",
    ] {
        let found = listed(&store, prefix).await?;
        let expected: Vec<ObjectInfo> = kept
            .iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| ObjectInfo {
                key: (*key).to_owned(),
                size: key.len() as u64,
            })
            .collect();
        must(RULE, found == expected, (prefix, found))?;
    }
    Ok(())
}

async fn keys(store: SharedStore, longest: usize) -> Outcome {
    const ODD: &str = "odd but plain keys work";
    let long = "n".repeat(longest);
    for key in [
        "with space",
        "ümlaut/文",
        "per%cent%2F",
        "a+b=c&d?e#f",
        "back\\slash",
        "q\"uote'",
        "-dash",
        "~",
        "*",
        long.as_str(),
    ] {
        done(ODD, store.put(key, key.as_bytes()).await)?;
        let read = done(ODD, read_all(&store, key).await)?;
        must(ODD, read == key.as_bytes(), key)?;
        let found = listed(&store, key).await?;
        must(ODD, found.len() == 1, found)?;
    }
    const BAD: &str = "a key that is no plain relative path is InvalidKey everywhere";
    let too_long = "x".repeat(300);
    for key in [
        "",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../out",
        "a/../../out",
        ".hidden",
        "a/.hidden",
        "nul\0",
        "line\nbreak",
        too_long.as_str(),
    ] {
        let outcomes = [
            store.put(key, b"x").await.map(drop),
            store.create(key, None).await.map(drop),
            store.size(key).await.map(drop),
            store.read(key, 0..1).await.map(drop),
            store.delete(key).await,
            store.discard_unfinished(key).await,
        ];
        for outcome in outcomes {
            must(
                BAD,
                matches!(outcome, Err(StoreError::InvalidKey { .. })),
                (key, outcome),
            )?;
        }
    }
    for prefix in ["/", "..", "../", "a/../"] {
        let found = store.list(prefix).await;
        must(
            BAD,
            matches!(found, Err(StoreError::InvalidKey { .. })),
            (prefix, found),
        )?;
    }
    Ok(())
}

async fn streams(store: SharedStore) -> Outcome {
    const RULE: &str = "a stream becomes exactly its bytes";
    // Beyond the least part size of object stores (5 MiB), in chunks that divide nothing.
    let content = pattern(13_000_001, 3);
    for (key, expected, chunk) in [
        ("stream/known", Some(content.len() as u64), 777_777),
        ("stream/unknown", None, 4_000_000),
        ("stream/wrong-hint", Some(10), 13_000_001),
    ] {
        let mut writer = done(RULE, store.create(key, expected).await)?;
        for piece in content.chunks(chunk) {
            done(RULE, writer.write(piece.to_vec()).await)?;
            must(
                "an unfinished object is not visible",
                listed(&store, "stream/")
                    .await?
                    .iter()
                    .all(|info| info.key != key),
                key,
            )?;
        }
        let info = done(RULE, writer.finish().await)?;
        must(RULE, info.object.size == content.len() as u64, &info)?;
        let read = done(RULE, read_all(&store, key).await)?;
        must(RULE, read == content, key)?;
    }
    let empty = done(RULE, store.create("stream/empty", None).await)?;
    let info = done(RULE, empty.finish().await)?;
    must(
        "an empty stream is an empty object",
        info.object.size == 0,
        &info,
    )?;
    must(
        "a finished stream is not unfinished",
        done(RULE, store.unfinished("").await)?.is_empty(),
        "stream/",
    )
}

/// Objects that are written one after the other and finished in the end: more than any store has room for, were each to keep its
/// own.
const SEALED: u8 = 24;
/// After this the suite says that one waits for another; none takes longer on any server.
const WAITING: Duration = Duration::from_secs(300);

async fn sealed(store: SharedStore) -> Outcome {
    const RULE: &str = "an object that is sealed keeps nothing that others wait for";
    let content = |number: u8| pattern(1000, number);
    let writing = async {
        // One that is written all the time, as the file table is.
        let mut open = done(RULE, store.create("sealed/open", None).await)?;
        done(RULE, open.write(content(SEALED)).await)?;
        let mut objects = Vec::new();
        for number in 0..SEALED {
            let key = format!("sealed/{number:02}");
            let mut writer = done(RULE, store.create(&key, Some(1000)).await)?;
            done(RULE, writer.write(content(number)).await)?;
            done(RULE, writer.seal().await)?;
            objects.push((key, writer));
        }
        must(
            "a sealed object is not visible",
            listed(&store, "sealed/").await?.is_empty(),
            "sealed/",
        )?;
        for (number, (key, writer)) in (0..SEALED).zip(objects) {
            done(RULE, writer.finish().await)?;
            let read = done(RULE, read_all(&store, &key).await)?;
            must(
                "a stream becomes exactly its bytes",
                read == content(number),
                &key,
            )?;
        }
        done(RULE, open.finish().await)
    };
    let written = tokio::time::timeout(WAITING, writing).await;
    written.map_err(|error| broken(RULE, error))?.map(drop)
}

async fn given_up(store: SharedStore) -> Outcome {
    const RULE: &str = "an object given up leaves nothing";
    let mut writer = done(RULE, store.create("set/aborted", None).await)?;
    done(RULE, writer.write(pattern(3_000_000, 4)).await)?;
    done(RULE, writer.abort().await)?;
    must(
        RULE,
        done(RULE, store.unfinished("").await)?.is_empty(),
        "after abort",
    )?;

    let mut writer = done(RULE, store.create("set/dropped", None).await)?;
    done(RULE, writer.write(pattern(3_000_000, 5)).await)?;
    drop(writer);
    must(
        "a dropped writer leaves nothing visible",
        listed(&store, "").await?.is_empty(),
        "after drop",
    )?;

    const LISTED: &str = "unfinished writes can be listed by prefix and discarded";
    let mut open = done(LISTED, store.create("set/open", None).await)?;
    done(LISTED, open.write(pattern(3_000_000, 6)).await)?;
    let elsewhere = done(LISTED, store.unfinished("other/").await)?;
    must(LISTED, elsewhere.is_empty(), elsewhere)?;
    let ids = done(LISTED, store.unfinished("set/open").await)?;
    let [id] = ids.as_slice() else {
        return Err(broken(LISTED, ids));
    };
    done(LISTED, store.discard_unfinished(id).await)?;
    done(
        "discarding twice is well done",
        store.discard_unfinished(id).await,
    )?;
    let left = done(LISTED, store.unfinished("set/open").await)?;
    must(LISTED, left.is_empty(), left)?;
    let finished = open.finish().await;
    must(
        "a discarded write cannot become an object",
        finished.is_err() && listed(&store, "").await?.is_empty(),
        finished,
    )?;
    done(
        "a key given up is free",
        store.put("set/aborted", b"x").await,
    )?;
    done("a key given up is free", store.put("set/open", b"x").await).map(drop)
}

async fn deletion_beside_creation(store: SharedStore) -> Outcome {
    const RULE: &str = "deleting a folder's last object does not disturb who creates in it";
    let turns = |name: &'static str| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                store.put(name, b"x").await?;
                store.delete(name).await?;
            }
            Ok::<(), StoreError>(())
        })
    };
    for task in [turns("shared/deep/one"), turns("shared/deep/two")] {
        let outcome = task.await.map_err(|error| broken(RULE, error))?;
        done(RULE, outcome)?;
    }
    must(RULE, listed(&store, "").await?.is_empty(), "shared/")
}

async fn probe(store: SharedStore) -> Outcome {
    const RULE: &str = "a probe succeeds and leaves nothing";
    done(RULE, store.probe().await)?;
    let left = listed(&store, "").await?;
    must(RULE, left.is_empty(), left)?;
    let url = store.url();
    must(
        "the store has an address",
        !url.is_empty(),
        io::Error::other(url.clone()),
    )
}
