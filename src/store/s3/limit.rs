//! A limit on bytes a second, shared by everything that moves in one direction.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets `rate` bytes a second through, or everything.
#[derive(Debug)]
pub(super) struct Limit {
    rate: Option<u64>,
    free_at: Mutex<Option<Instant>>,
}

impl Limit {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0),
            free_at: Mutex::new(None),
        }
    }

    /// Waits until `bytes` more may move.
    pub(super) async fn pass(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let turn = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = free_at.map_or(now, |at| at.max(now));
            let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free_at = Some(turn + takes);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_together_go_no_faster_than_the_limit() {
        let limit = Limit::new(Some(1000));
        let began = Instant::now();
        futures_util::future::join_all((0..11).map(|_| limit.pass(500))).await;
        assert_eq!(began.elapsed().as_secs(), 5);
        Limit::new(None).pass(u64::MAX).await;
    }
}
