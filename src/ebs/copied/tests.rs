use super::super::Call;
use super::super::fake::FakeEc2;
use super::*;

const QUIET: Duration = Duration::from_secs(60);
const OTHERS: Duration = Duration::from_secs(1200);

fn run() -> RunId {
    "0badcafe".parse().unwrap()
}

fn orders(count: u32) -> Vec<CopyOrder> {
    let tags = [
        (super::super::TAG, "set"),
        (super::super::RUN_TAG, "0badcafe"),
    ];
    let tags = tags
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    let order = |n: u32| {
        let snapshot = format!("snap-{n:08x}").parse().unwrap();
        let volume = format!("vol-{n:08x}").parse().unwrap();
        CopyOrder::new(&snapshot, &volume, "test-0", None, &tags)
    };
    (1..=count).map(order).collect()
}

async fn copied(
    ec2: &FakeEc2,
    orders: &[CopyOrder],
    within: u64,
) -> Result<BTreeMap<SnapshotId, SnapshotId>, EbsError> {
    let limits = Limits {
        within: Duration::from_secs(within),
        others_copy_for: OTHERS,
        quiet: QUIET,
    };
    let cancel = CancellationToken::new();
    let patience = Patience::new(Duration::from_secs(300), cancel.clone());
    let meter = Meter::expecting((orders.len() as u64) << 30);
    let copies = copy_all(ec2, orders, run(), limits, &patience, &meter, &cancel).await?;
    assert_eq!(meter.done(), meter.expected());
    Ok(copies)
}

#[tokio::test(start_paused = true)]
async fn as_many_copies_as_ec2_bears_are_under_way_and_all_are_waited_for() {
    let ec2 = FakeEc2::with_volumes(0);
    ec2.completes_after(Duration::from_secs(3600));
    ec2.bears_copies(3);
    let orders = orders(8);
    let began = Instant::now();
    let copies = copied(&ec2, &orders, 24 * 3600).await.unwrap();
    assert_eq!(copies.len(), 8);
    let hours = began.elapsed().as_secs_f64() / 3600.0;
    assert!((3.0..3.2).contains(&hours), "{hours}");
    assert_eq!(ec2.left(), 8);
    // The time is that of all together.
    let error = copied(&FakeEc2::with_volumes(0), &orders, 24 * 3600).await;
    assert!(error.is_ok());
    let slow = FakeEc2::with_volumes(0);
    slow.completes_after(Duration::from_secs(3600));
    slow.bears_copies(3);
    let error = copied(&slow, &orders, 2 * 3600).await.unwrap_err();
    assert!(matches!(error, EbsError::Overdue { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_making_was_not_answered_is_found_and_not_made_twice() {
    for late in [0, 20, 50] {
        let ec2 = FakeEc2::with_volumes(0);
        ec2.shows_after(Duration::from_secs(late));
        ec2.loses(Call::CopySnapshot, 1);
        let copies = copied(&ec2, &orders(3), 3600).await.unwrap();
        assert_eq!(copies.len(), 3);
        assert_eq!(
            (ec2.left(), ec2.calls(Call::CopySnapshot)),
            (3, 3),
            "{late} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_shown_too_late_is_made_twice_and_one_of_the_two_goes() {
    let ec2 = FakeEc2::with_volumes(0);
    ec2.shows_after(QUIET + Duration::from_secs(20));
    ec2.completes_after(Duration::from_secs(600));
    ec2.loses(Call::CopySnapshot, 1);
    let copies = copied(&ec2, &orders(2), 3600).await.unwrap();
    assert_eq!(ec2.calls(Call::CopySnapshot), 3);
    assert_eq!((copies.len(), ec2.left()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_others_use_up_is_waited_for_and_told() {
    let ec2 = FakeEc2::with_volumes(0);
    ec2.bears_copies(0);
    let orders = orders(1);
    let passes = async {
        tokio::time::sleep(OTHERS / 2).await;
        ec2.bears_copies(1);
    };
    let (copies, ()) = tokio::join!(copied(&ec2, &orders, 3600), passes);
    assert_eq!(copies.unwrap().len(), 1);

    let ec2 = FakeEc2::with_volumes(0);
    ec2.bears_copies(0);
    let began = Instant::now();
    let error = copied(&ec2, &orders, 3600).await.unwrap_err();
    assert!(began.elapsed() >= OTHERS, "{:?}", began.elapsed());
    assert!(
        matches!(&error, EbsError::Call(failed) if failed.kind == Kind::Limit),
        "{error}"
    );
}
