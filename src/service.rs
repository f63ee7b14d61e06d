//! What the service manager is told, where one has started us: that the run has begun, and that it still turns.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;

/// Does `work`, and tells the service manager that it has begun and, as often as the unit's watchdog wants it, that it still turns. It is told by the very
/// task that works: one that hangs in a call which never comes back is ended by the service manager, and its guard unlocks. What waits for an answer has
/// a time limit of its own.
///
/// Nothing happens where no service manager listens. For the main process of a unit.
pub async fn under_watch<T>(work: impl Future<Output = T>) -> T {
    tell(&[NotifyState::Ready]);
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return work.await;
    };
    beating(limit, work, || tell(&[NotifyState::Watchdog])).await
}

async fn beating<T>(limit: Duration, work: impl Future<Output = T>, beat: impl Fn()) -> T {
    // Three times before the limit: one may come late on a busy host.
    let mut turns = tokio::time::interval(limit / 3);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = turns.tick() => beat(),
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told that the run goes on");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// How often it beats while `work` is done on its own task, a limit of 30 ms given.
    fn beats(work: impl Future<Output = ()>) -> u32 {
        let count = AtomicU32::new(0);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_time()
            .build()
            .unwrap();
        let limit = Duration::from_millis(30);
        runtime.block_on(beating(limit, work, || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        count.into_inner()
    }

    #[test]
    fn a_run_that_waits_is_seen_to_turn_and_one_that_is_stuck_is_not() {
        assert!(beats(async { tokio::time::sleep(Duration::from_millis(200)).await }) > 3);
        let stuck = beats(async { std::thread::sleep(Duration::from_millis(200)) });
        assert!(stuck <= 1, "{stuck} beats from a run that is stuck");
    }
}
