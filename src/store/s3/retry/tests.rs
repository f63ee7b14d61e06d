use super::*;

fn patience(retry_for: u64) -> Patience {
    Patience::new(
        Duration::from_secs(retry_for),
        Duration::from_secs(60),
        CancellationToken::new().into(),
    )
}

async fn fail_times(patience: &Patience, times: u32, kind: Kind) -> (Result<u32, Failure>, u32) {
    let mut calls = 0;
    let outcome = patience
        .call(Call::LOOK, || {
            calls += 1;
            let failed = calls <= times;
            let calls = calls;
            async move {
                if failed {
                    Err(Failure::new(kind, "x"))
                } else {
                    Ok(calls)
                }
            }
        })
        .await;
    (outcome, calls)
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_nothing_else() {
    assert_eq!(
        fail_times(&patience(900), 9, Kind::Transient)
            .await
            .0
            .unwrap(),
        10
    );
    for kind in [Kind::Denied, Kind::NotFound, Kind::Taken, Kind::Refused] {
        let (outcome, calls) = fail_times(&patience(900), 9, kind).await;
        assert_eq!((outcome.unwrap_err().kind, calls), (kind, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let began = Instant::now();
    let (outcome, calls) = fail_times(&patience(900), u32::MAX, Kind::Transient).await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, Kind::Transient);
    assert!(failure.tried_for > Duration::from_secs(800), "{failure:?}");
    assert!(began.elapsed() <= Duration::from_secs(900) && calls < 100);
}

#[tokio::test(start_paused = true)]
async fn a_hang_is_no_answer_and_an_interruption_ends_it() {
    let waiting = patience(200);
    let hung = waiting
        .call(Call::LOOK, std::future::pending::<Result<(), Failure>>)
        .await;
    assert!(waiting.is_gone());
    assert_eq!(hung.unwrap_err().kind, Kind::Transient);
    waiting.ending.cancel.cancel();
    for call in [Call::LOOK, Call::CHANGE] {
        let ended = waiting
            .call(call, std::future::pending::<Result<(), Failure>>)
            .await;
        assert_eq!(ended.unwrap_err().kind, Kind::Interrupted);
    }
    assert!(waiting.is_gone(), "an interruption tells nothing");
    // Who cleans up goes on, for a minute.
    let cleaning = waiting.for_cleaning_up();
    let (outcome, _) = fail_times(&cleaning, 3, Kind::Transient).await;
    assert_eq!(outcome.unwrap(), 4);
    assert!(!waiting.is_gone());
    let (outcome, _) = fail_times(&cleaning, u32::MAX, Kind::Transient).await;
    assert!(outcome.unwrap_err().tried_for <= CLEANING_UP);
}

/// Calls, and cancels `token` while the first attempt is under way; the attempt then ends as `last` says.
async fn interrupted_under_way(
    waiting: &Patience,
    call: Call<'_>,
    token: &CancellationToken,
    last: Result<u32, Failure>,
) -> Result<u32, Failure> {
    waiting
        .call(call, || {
            let last = last.clone();
            async move {
                token.cancel();
                tokio::time::sleep(Duration::from_secs(5)).await;
                last
            }
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_change_under_way_is_waited_for_and_a_look_is_not() {
    let hiccup = || Err(Failure::new(Kind::Transient, "x"));
    for (call, last, expected) in [
        (Call::LOOK, Ok(1), Err(Kind::Interrupted)),
        (Call::CHANGE, Ok(1), Ok(1)),
        (Call::CHANGE, hiccup(), Err(Kind::Interrupted)),
    ] {
        for unwanted in [false, true] {
            let mut waiting = patience(900);
            let token = waiting.ending.cancel.clone();
            let token = match unwanted {
                true => waiting.unwanted.insert(CancellationToken::new()).clone(),
                false => token,
            };
            let ended = interrupted_under_way(&waiting, call, &token, last.clone()).await;
            assert_eq!(ended.map_err(|failure| failure.kind), expected);
        }
        // Who is in a hurry waits for nothing.
        let waiting = patience(900);
        let token = waiting.ending.hurry.clone();
        let ended = interrupted_under_way(&waiting, call, &token, last).await;
        assert_eq!(ended.unwrap_err().kind, Kind::Interrupted);
    }
    // Nor is one that hangs waited for beyond its time.
    let waiting = patience(900);
    let began = Instant::now();
    let hanging = || {
        waiting.ending.cancel.cancel();
        std::future::pending::<Result<(), Failure>>()
    };
    let ended = waiting.call(Call::CHANGE, hanging).await;
    assert_eq!(ended.unwrap_err().kind, Kind::Interrupted);
    assert_eq!(began.elapsed(), waiting.attempt);
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_is_no_failure() {
    const PART: u64 = 64 << 20;
    // Each attempt moves its bytes for longer than is tried again.
    let waiting = patience(900);
    let line = Limit::new(None);
    let slowly = async |call: Call<'_>, failures: u32| {
        let mut attempts = 0;
        let sending = || {
            attempts += 1;
            let failed = attempts <= failures;
            async move {
                tokio::time::sleep(Duration::from_secs(1000)).await;
                match failed {
                    true => Err(Failure::new(Kind::Transient, "x")),
                    false => Ok(()),
                }
            }
        };
        let sent = waiting.call(call, sending).await;
        (sent, attempts)
    };
    let (sent, attempts) = slowly(Call::LOOK.moving(PART, &line), 1).await;
    assert!(sent.is_ok() && attempts == 2, "{sent:?}");
    // But it has an end, and what moves nothing is not waited for.
    let (sent, attempts) = slowly(Call::LOOK.moving(PART, &line), u32::MAX).await;
    assert_eq!((sent.unwrap_err().kind, attempts), (Kind::Transient, 2));
    let began = Instant::now();
    let hung = patience(60)
        .call(Call::LOOK, std::future::pending::<Result<(), Failure>>)
        .await;
    assert_eq!(hung.unwrap_err().kind, Kind::Transient);
    assert_eq!(began.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_limit_is_no_failure() {
    // As many parts as are sent at once, under a limit that the last waits for longer than one may take.
    const PART: u64 = 8 << 20;
    let limit = Limit::new(Some(128 << 10));
    let waiting = patience(100);
    let (attempts, began) = (std::sync::atomic::AtomicU32::new(0), Instant::now());
    let sending = (0..8).map(|_| {
        waiting.call(Call::LOOK.moving(PART, &limit), || async {
            attempts.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok::<(), Failure>(())
        })
    });
    for sent in futures_util::future::join_all(sending).await {
        sent.unwrap();
    }
    assert_eq!(attempts.into_inner(), 8);
    assert!(began.elapsed() >= Duration::from_secs(7 * 64));
    // A queue can be left.
    waiting.ending.cancel.cancel();
    let left = waiting
        .call(Call::CHANGE.moving(PART, &limit), || async {
            Ok::<(), Failure>(())
        })
        .await;
    assert_eq!(left.unwrap_err().kind, Kind::Interrupted);
}

#[test]
fn answers_mean_what_they_say() {
    for (status, code, expected) in [
        (503, "SlowDown", Kind::Transient),
        (500, "", Kind::Transient),
        (400, "BadDigest", Kind::Transient),
        (404, "", Kind::NotFound),
        (404, "NoSuchBucket", Kind::Refused),
        (404, "NoSuchUpload", Kind::NoSuchUpload),
        (412, "PreconditionFailed", Kind::Taken),
        (409, "ConditionalRequestConflict", Kind::Transient),
        (403, "AccessDenied", Kind::Denied),
        (501, "NotImplemented", Kind::NotImplemented),
        (400, "EntityTooLarge", Kind::Refused),
    ] {
        assert_eq!(kind(status, code), expected, "{status} {code}");
    }
}
