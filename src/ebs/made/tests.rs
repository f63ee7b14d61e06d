use jiff::SignedDuration;

use super::super::Volume;
use super::super::attach::{self, Attachments};
use super::super::fake::FakeEc2;
use super::*;

const QUIET: Duration = Duration::from_secs(60);

fn run() -> RunId {
    "0badcafe".parse().unwrap()
}

fn instance() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

fn order(n: u32) -> VolumeOrder {
    let shape = Shape {
        volume_type: Some("gp3".into()),
        iops: None,
        throughput: None,
        bytes: 1 << 30,
    };
    let snapshot = format!("snap-{n:08x}").parse().unwrap();
    let set = "20260131_020000".parse().unwrap();
    VolumeOrder::new(set, run(), &snapshot, "test-1a", shape)
}

fn patience() -> Patience {
    Patience::new(Duration::from_secs(60), CancellationToken::new())
}

fn record(volumes: Vec<VolumeId>) -> MadeVolumes {
    MadeVolumes {
        place: Place {
            region: "test-1".into(),
            endpoint: None,
        },
        run: run(),
        planned: Timestamp::now(),
        volumes,
    }
}

async fn made(ec2: &FakeEc2, count: u32) -> Vec<VolumeId> {
    let mut ids = Vec::new();
    for n in 1..=count {
        let one = make(ec2, &order(n), run(), &patience()).await.unwrap();
        ids.push(one.id);
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_makes_no_second_volume_whether_the_first_is_shown_or_not() {
    for shown_after in [0, 3600] {
        let ec2 = FakeEc2::with_volumes(1);
        ec2.shows_after(Duration::from_secs(shown_after));
        ec2.loses(Call::CreateVolume, 2);
        let one = make(&ec2, &order(1), run(), &patience()).await.unwrap();
        assert_eq!(ec2.copies().len(), 1);
        assert_eq!(ec2.copies()[0].id, one.id);
        assert!(order(1).token.len() <= 64);
        assert!(ec2.copies()[0].is_of(run()));
    }
}

#[tokio::test(start_paused = true)]
async fn volumes_are_waited_for_and_one_that_never_comes_is_an_error() {
    let ec2 = FakeEc2::with_volumes(1);
    ec2.volumes_take(Duration::from_secs(100));
    let ids = made(&ec2, 3).await;
    let began = Instant::now();
    let cancel = CancellationToken::new();
    await_available(&ec2, &ids, &patience(), &cancel)
        .await
        .unwrap();
    assert!(began.elapsed() >= Duration::from_secs(100));
    ec2.volumes_take(Duration::from_secs(1 << 20));
    let error = await_available(&ec2, &ids, &patience(), &cancel).await;
    assert!(matches!(error, Err(EbsError::Unready { volumes, .. }) if volumes.len() == 3));
    cancel.cancel();
    let error = await_available(&ec2, &ids, &patience(), &cancel).await;
    assert!(matches!(error, Err(EbsError::Call(failed)) if failed.kind == Kind::Interrupted));
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_late_is_deleted_all_the_same() {
    let ec2 = FakeEc2::with_volumes(1);
    ec2.shows_after(Duration::from_secs(30));
    made(&ec2, 2).await;
    // No answer is known.
    let record = record(Vec::new());
    give_back(&ec2, &record, &patience(), Timestamp::now(), QUIET)
        .await
        .unwrap();
    assert!(ec2.copies().is_empty());
    // An old call has made what it will.
    let later = record.planned + SignedDuration::from_hours(1);
    let began = Instant::now();
    give_back(&ec2, &record, &patience(), later, QUIET)
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn volumes_of_another_run_stay_and_so_do_attached_ones_until_they_are_detached() {
    let ec2 = FakeEc2::with_volumes(1);
    let ids = made(&ec2, 2).await;
    let other = MadeVolumes {
        run: "00000001".parse().unwrap(),
        ..record(ids.clone())
    };
    give_back(&ec2, &other, &patience(), Timestamp::now(), QUIET)
        .await
        .unwrap();
    assert_eq!(ec2.copies().len(), 2);

    let volume = |id: &VolumeId, name: &str| Volume {
        id: id.clone(),
        attached_as: name.into(),
        bytes: 1 << 30,
        volume_type: None,
        iops: None,
        throughput: None,
        encrypted: false,
    };
    let attachments = Attachments {
        place: record(Vec::new()).place,
        instance: instance(),
        volumes: vec![volume(&ids[0], "/dev/sdf"), volume(&ids[1], "/dev/sdg")],
    };
    ec2.loses(Call::AttachVolume, 1);
    ec2.attachable_after(Duration::from_secs(20));
    for one in &attachments.volumes {
        attach::attach(&ec2, &instance(), one, &patience())
            .await
            .unwrap();
    }
    let cancel = CancellationToken::new();
    attach::await_attached(&ec2, &attachments, &patience(), &cancel)
        .await
        .unwrap();
    let record = record(ids);
    let error = give_back(&ec2, &record, &patience(), Timestamp::now(), QUIET).await;
    assert!(
        matches!(error, Err(EbsError::Elsewhere { .. })),
        "{error:?}"
    );
    assert_eq!(ec2.copies().len(), 2);
    for _ in 0..2 {
        attach::give_back(&ec2, &attachments, &patience())
            .await
            .unwrap();
        let now = Timestamp::now();
        give_back(&ec2, &record, &patience(), now, QUIET)
            .await
            .unwrap();
        assert!(ec2.copies().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_deleted_is_told() {
    let ec2 = FakeEc2::with_volumes(1);
    let ids = made(&ec2, 1).await;
    ec2.denies_deletion();
    let error = give_back(&ec2, &record(ids), &patience(), Timestamp::now(), QUIET).await;
    assert!(matches!(error, Err(EbsError::Call(failed)) if failed.kind == Kind::Denied));
}
