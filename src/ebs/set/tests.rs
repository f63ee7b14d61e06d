use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::super::State;
use super::super::fake::FakeEc2;
use super::super::ids::VolumeId;
use super::super::order::{compare, order, tags};
use super::*;
use crate::error::{Exit, Explain};

const RUN: &str = "0badcafe";
const QUIET: Duration = Duration::from_secs(60);

fn run() -> RunId {
    RUN.parse().unwrap()
}

fn instance() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

async fn ordered(ec2: &FakeEc2) -> Order {
    let deployment = "65b9a1f0c3d2e4f5a6b7c8d9".parse().unwrap();
    let shard = "rs0".parse().unwrap();
    let tags = tags(
        "20260131_020000".parse().unwrap(),
        run(),
        &deployment,
        [&shard].into_iter(),
    );
    let instance = ec2.instance(&instance()).await.unwrap();
    let wanted = ec2.volumes.iter().map(|volume| volume.id.clone()).collect();
    order(&instance, &ec2.volumes, wanted, tags)
}

fn made(snapshots: Vec<SnapshotId>) -> MadeSet {
    MadeSet {
        place: Place {
            region: "test-1".into(),
            endpoint: None,
        },
        instance: instance(),
        run: run(),
        set: "20260131_020000".parse().unwrap(),
        store: "file:///backups".into(),
        server: None,
        planned: Timestamp::now(),
        pruned: false,
        snapshots,
    }
}

fn patience() -> Patience {
    Patience::new(Duration::from_secs(60), CancellationToken::new())
}

async fn taken(ec2: &FakeEc2) -> BTreeMap<VolumeId, Snapshot> {
    let order = ordered(ec2).await;
    let made = take(ec2, &order, &CancellationToken::new()).await.unwrap();
    compare(&order, made).unwrap().set
}

async fn waited(
    ec2: &FakeEc2,
    set: &BTreeMap<VolumeId, Snapshot>,
    within: u64,
) -> Result<(), EbsError> {
    let within = Duration::from_secs(within);
    let (meter, cancel) = (Meter::expecting(0), CancellationToken::new());
    let set = Awaited::all(set);
    complete(ec2, &set, within, &patience(), &meter, &cancel).await
}

#[tokio::test(start_paused = true)]
async fn hours_of_pending_are_waited_for_and_late_showing_too() {
    let ec2 = FakeEc2::with_volumes(8);
    ec2.completes_after(Duration::from_secs(5 * 3600));
    ec2.shows_after(Duration::from_secs(90));
    let set = taken(&ec2).await;
    assert_eq!(set.len(), 8);
    let began = Instant::now();
    waited(&ec2, &set, 24 * 3600).await.unwrap();
    let hours = began.elapsed().as_secs_f64() / 3600.0;
    assert!((5.0..5.1).contains(&hours), "{hours}");
    // Twice a minute is little enough for any account.
    assert!(ec2.calls(Call::DescribeSnapshots) < 5 * 120 + 30);
    assert_eq!(ec2.calls(Call::CreateSnapshots), 1);
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_gone_for_an_hour_spoils_no_set_that_is_pending_for_two() {
    let ec2 = FakeEc2::with_volumes(2);
    ec2.completes_after(Duration::from_secs(7200));
    ec2.is_silent(Duration::from_secs(600), Duration::from_secs(3600));
    let set = taken(&ec2).await;
    waited(&ec2, &set, 24 * 3600).await.unwrap();
    // But not for longer than is waited at all.
    ec2.is_silent(Duration::ZERO, Duration::from_secs(48 * 3600));
    let error = waited(&ec2, &set, 3600).await.unwrap_err();
    assert!(matches!(error, EbsError::Overdue { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_deleted_or_takes_too_long_is_no_set() {
    let ec2 = FakeEc2::with_volumes(2);
    ec2.completes_after(Duration::from_secs(3600));
    let set = taken(&ec2).await;
    let error = waited(&ec2, &set, 600).await.unwrap_err();
    assert!(
        matches!(
            error,
            EbsError::Overdue {
                percent: 49..=50,
                ..
            }
        ),
        "{error}"
    );
    let first = set.values().next().unwrap();
    ec2.change(&first.id, Some(State::Error));
    let error = waited(&ec2, &set, 7200).await.unwrap_err();
    assert!(matches!(&error, EbsError::Failed { snapshot, .. } if *snapshot == first.id));
    ec2.change(&first.id, None);
    let error = waited(&ec2, &set, 7200).await.unwrap_err();
    assert!(matches!(error, EbsError::Gone { .. }), "{error}");
    assert_eq!(error.exit(), Exit::BackupFailed);
}

#[tokio::test(start_paused = true)]
async fn a_set_whose_making_was_not_answered_is_found_by_its_run_and_deleted() {
    for late in [0, 20, 50] {
        let ec2 = FakeEc2::with_volumes(8);
        ec2.shows_after(Duration::from_secs(late));
        ec2.loses_answer();
        let order = ordered(&ec2).await;
        let error = take(&ec2, &order, &CancellationToken::new())
            .await
            .unwrap_err();
        assert!(!nothing_was_made(&error));
        assert_eq!(ec2.left(), 8);
        let gone = give_back(&ec2, &made(vec![]), &patience(), Timestamp::now(), QUIET).await;
        assert_eq!(gone.unwrap().len(), 8, "shown after {late} s");
        assert_eq!((ec2.left(), ec2.calls(Call::CreateSnapshots)), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_made_nothing_and_nobody_waits_for_it() {
    for kind in [Kind::Throttled, Kind::Limit, Kind::Denied, Kind::Refused] {
        let ec2 = FakeEc2::with_volumes(2);
        ec2.refuses(kind);
        let order = ordered(&ec2).await;
        let error = take(&ec2, &order, &CancellationToken::new())
            .await
            .unwrap_err();
        assert!(nothing_was_made(&error), "{kind:?}");
        assert_eq!(ec2.calls(Call::CreateSnapshots), 1, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn known_snapshots_go_at_once_and_others_are_looked_for_as_long_as_they_may_come() {
    let ec2 = FakeEc2::with_volumes(4);
    let set = taken(&ec2).await;
    let known = set.values().map(|one| one.id.clone()).collect();
    let began = Instant::now();
    let gone = give_back(&ec2, &made(known), &patience(), Timestamp::now(), QUIET).await;
    assert_eq!(gone.unwrap().len(), 4);
    assert_eq!(began.elapsed(), Duration::ZERO);

    // A call nobody knows the end of, just made: a minute. An old one: one look.
    let unknown = made(vec![]);
    let began = Instant::now();
    let now = Timestamp::now();
    give_back(&ec2, &unknown, &patience(), now, QUIET)
        .await
        .unwrap();
    assert!(began.elapsed() >= QUIET && began.elapsed() < QUIET * 2);
    let began = Instant::now();
    let later = now.checked_add(SignedDuration::from_mins(11)).unwrap();
    give_back(&ec2, &unknown, &patience(), later, QUIET)
        .await
        .unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_another_run_goes() {
    let ec2 = FakeEc2::with_volumes(2);
    taken(&ec2).await;
    let other = MadeSet {
        run: "00000001".parse().unwrap(),
        ..made(vec![])
    };
    let gone = give_back(&ec2, &other, &patience(), Timestamp::now(), QUIET).await;
    assert!(gone.unwrap().is_empty());
    assert_eq!(ec2.left(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_deleted_is_still_held() {
    let ec2 = FakeEc2::with_volumes(1);
    taken(&ec2).await;
    ec2.denies_deletion();
    let error = give_back(&ec2, &made(vec![]), &patience(), Timestamp::now(), QUIET)
        .await
        .unwrap_err();
    assert!(error.hint().unwrap().contains("ec2:DeleteSnapshot"));
    assert_eq!(ec2.left(), 1);
}

/// What stands in journals has to be read by later versions.
#[test]
fn what_the_journal_records_stays_as_it_is() {
    let written = r#"{"place":{"region":"eu-central-1"},"instance":"i-0123456789abcdef0","run":"0badcafe","set":"mongo_backup-20260131_020000","store":"s3://b/p","planned":"2026-01-31T02:00:00Z"}"#;
    let read: MadeSet = serde_json::from_str(written).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), written);
}
