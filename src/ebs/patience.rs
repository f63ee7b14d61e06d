//! Trying again what may be tried again.
//!
//! The SDK's own retries are off, as they are for the store: they know nothing of how long an operator wants to wait, nor of being asked to end, and
//! would send `CreateSnapshots` twice.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{CallFailed, Kind};

/// The first pause; each further one is twice as long, up to [`LONGEST_PAUSE`], and a random share of that.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How long calls that change nothing twice are tried again.
#[derive(Debug, Clone)]
pub struct Patience {
    retry_for: Duration,
    cancel: CancellationToken,
}

impl Patience {
    /// For `retry_for` after the first failure, unless `cancel` is cancelled.
    pub fn new(retry_for: Duration, cancel: CancellationToken) -> Self {
        Self { retry_for, cancel }
    }

    /// Tries `attempt` until it succeeds, fails for good, or time is up.
    ///
    /// # Errors
    /// The last failure; [`Kind::Interrupted`].
    pub async fn call<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, CallFailed>
    where
        F: Future<Output = Result<T, CallFailed>>,
    {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = tokio::select! {
                biased;
                outcome = attempt() => outcome,
                () = self.cancel.cancelled() => return Err(interrupted(None, began)),
            };
            let failed = match outcome {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            let passing = matches!(failed.kind, Kind::Unanswered | Kind::Throttled);
            if !passing || began.elapsed() + wait > self.retry_for {
                return Err(CallFailed {
                    tried_for: began.elapsed(),
                    ..failed
                });
            }
            tracing::debug!(error = %failed, "trying again");
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(interrupted(Some(failed), began)),
                () = tokio::time::sleep(wait) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits.
    ///
    /// # Errors
    /// [`Kind::Interrupted`].
    pub async fn pause(&self, time: Duration) -> Result<(), CallFailed> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted(None, Instant::now())),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }
}

fn interrupted(failed: Option<CallFailed>, began: Instant) -> CallFailed {
    let failed = failed.unwrap_or_else(|| {
        CallFailed::new(
            super::Call::DescribeSnapshots,
            Kind::Interrupted,
            "we were asked to end",
        )
    });
    CallFailed {
        kind: Kind::Interrupted,
        tried_for: began.elapsed(),
        ..failed
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::Call;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_nothing_else() {
        let patience = Patience::new(Duration::from_secs(60), CancellationToken::new());
        for (kind, again) in [
            (Kind::Unanswered, true),
            (Kind::Throttled, true),
            (Kind::Limit, false),
            (Kind::Denied, false),
            (Kind::NotFound, false),
            (Kind::Refused, false),
            (Kind::Untrusted, false),
        ] {
            let tries = Cell::new(0);
            let outcome = patience
                .call(|| async {
                    tries.set(tries.get() + 1);
                    match tries.get() {
                        3 => Ok(()),
                        _ => Err(CallFailed::new(Call::DescribeVolumes, kind, "x")),
                    }
                })
                .await;
            assert_eq!(
                (outcome.is_ok(), tries.get() > 1),
                (again, again),
                "{kind:?}"
            );
        }
        let began = Instant::now();
        let never = patience
            .call(|| async {
                Err::<(), _>(CallFailed::new(Call::DescribeVolumes, Kind::Throttled, "x"))
            })
            .await;
        assert_eq!(never.unwrap_err().kind, Kind::Throttled);
        assert!(began.elapsed() <= Duration::from_secs(60));
    }
}
