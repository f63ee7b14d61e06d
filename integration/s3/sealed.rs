//! Objects of which many are written before the first is finished, as a backup of several members does while it holds them all.

use std::num::NonZeroUsize;
use std::time::Duration;

use freezeframe::config::Period;
use freezeframe::config::s3::S3Config;
use freezeframe::progress::Silent;
use freezeframe::store::SharedStore;
use freezeframe::verify::verify;
use tokio_util::sync::CancellationToken;

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::faults::{LARGE, content};
use crate::schedules::{Making, data, id};
use crate::servers::S3sFs;

/// Far longer than anything here takes; what waits for itself waits for ever.
const SOON: Duration = Duration::from_secs(120);

/// As little memory as the configuration allows: two parts of the least size.
fn frugal(server: &S3sFs, max_parts: u32) -> S3Config {
    S3Config {
        max_parts,
        memory: "16MiB".parse().unwrap(),
        ..server.settings()
    }
}

async fn written_in_turn(store: &SharedStore) {
    // The file table, written all the time beside the archives: it is beyond its first part.
    let table = content(9 << 20);
    let mut open = store.create("table", None).await.unwrap();
    open.write(table.clone()).await.unwrap();
    let mut sealed = Vec::new();
    for (key, size) in [("a", LARGE), ("b", LARGE - 1), ("c", LARGE - 2)] {
        let mut writer = store.create(key, Some(LARGE as u64)).await.unwrap();
        for chunk in content(size).chunks(3 << 20) {
            writer.write(chunk.to_vec()).await.unwrap();
        }
        writer.seal().await.unwrap();
        sealed.push((key, size, writer));
    }
    assert!(store.list("").await.unwrap().is_empty());
    for (key, size, writer) in sealed {
        writer.finish().await.unwrap();
        let read = store.read(key, 0..size as u64).await.unwrap();
        assert!(read == content(size), "{key}");
    }
    open.finish().await.unwrap();
    assert!(store.read("table", 0..9 << 20).await.unwrap() == table);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_sealed_leave_memory_and_spool_to_the_next() {
    let server = S3sFs::start().await;
    // Parts in memory, and parts in files: the table's second part is one, too.
    for (max_parts, spooled) in [(10_000, None), (2, Some(0))] {
        let store = server.store(&format!("{max_parts}"), &frugal(&server, max_parts));
        let written = tokio::time::timeout(SOON, written_in_turn(&store)).await;
        written.unwrap_or_else(|_| panic!("{max_parts} parts: one waits for another"));
        assert_eq!(server.spooled(), spooled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_packed_one_after_the_other_however_little_memory_there_is() {
    let server = S3sFs::start().await;
    let given_up = CancellationToken::new();
    let store = server.store_until("members", &frugal(&server, 10_000), &given_up);
    let data = data(3);
    let making = Making {
        members: 4,
        ..Making::of(data.path())
    };
    // A thread that waits for ever would keep the test from failing.
    let patience = tokio::spawn(async move {
        tokio::time::sleep(SOON).await;
        given_up.cancel();
    });
    let made = making.back_up(store.clone(), id()).await;
    patience.abort();
    let made = made.expect("one waits for another");
    assert_eq!(made.members.len(), 4);
    let cancel = CancellationToken::new();
    let verified = verify(&store, made.id, NonZeroUsize::MIN, &Silent, &cancel).await;
    assert!(verified.unwrap().findings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_overflows_when_it_has_been_read_spoils_no_archive() {
    let server = S3sFs::start().await;
    // The last part is on its way, and the object is not made, when it overflows.
    let slow = |request: &Request| match request.operation() {
        "UploadPart" => Fault::Delay(Duration::from_secs(1)),
        _ => Fault::None,
    };
    let proxy = FaultProxy::start(server.address(), slow).await;
    let settings = S3Config {
        retry_for: Period(SOON),
        ..server.settings_by(&proxy.endpoint())
    };
    let (data, overflowed) = (data(5), CancellationToken::new());
    let overflows = overflowed.clone();
    let making = Making {
        overflowed,
        when_packed: &|| overflows.cancel(),
        ..Making::of(data.path())
    };
    let made = making.back_up(server.store("late", &settings), id()).await;
    made.unwrap();
    assert!(overflows.is_cancelled());
    // While it is being read it ends the archive, and the wait for the store.
    let making = Making {
        overflowed: overflows,
        ..Making::of(data.path())
    };
    let made = making.back_up(server.store("early", &settings), id()).await;
    assert!(made.is_err());
}
