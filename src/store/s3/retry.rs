//! What an answer of the server means, and trying again where it may mean something else the next time.
//!
//! The SDK's own retries are off: they know nothing of how long an operator wants to wait, nor of being asked to end.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limit::Limit;
pub(super) use crate::aws::chain;
use crate::store::Ending;

/// The first pause; each further one is twice as long, up to [`LONGEST_PAUSE`], and a random share of that.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The slowest transfer that is not given up as hung, in bytes a second.
const SLOWEST: u64 = 64 << 10;
/// How long is tried to clean up.
const CLEANING_UP: Duration = Duration::from_secs(60);
/// Failures in a row after which a warning is logged, so that a hiccup is no news and a store that is gone is.
const WORTH_TELLING: u32 = 3;

/// What a failed call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may work when it is tried again.
    Transient,
    /// No such object.
    NotFound,
    /// A condition did not hold: the key is taken.
    Taken,
    /// The multipart upload is gone: aborted, or completed.
    NoSuchUpload,
    /// A range beyond the object.
    OutOfRange,
    /// We may not.
    Denied,
    /// Its certificate is not to be trusted.
    Untrusted,
    /// The server does not know this call or condition.
    NotImplemented,
    /// We were asked to end.
    Interrupted,
    /// Anything else that trying again does not change.
    Refused,
}

/// A failed call, in words that hold no secret.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub kind: Kind,
    pub detail: String,
    /// How long it was tried.
    pub tried_for: Duration,
}

impl Failure {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            tried_for: Duration::ZERO,
        }
    }
}

/// What a call does besides asking.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// Bytes that one attempt moves.
    bytes: u64,
    /// The limit they pass first.
    limit: Option<&'a Limit>,
    /// Whether an attempt under way is waited for when we are asked to end.
    is_waited_for: bool,
}

impl<'a> Call<'a> {
    /// One that may be left at any time.
    pub(super) const LOOK: Self = Self {
        bytes: 0,
        limit: None,
        is_waited_for: false,
    };

    /// One that changes what the store shows: were it left under way, it might still land after whoever cleans up has looked.
    pub(super) const CHANGE: Self = Self {
        is_waited_for: true,
        ..Self::LOOK
    };

    /// The same, moving `bytes` as `limit` allows.
    pub(super) fn moving(self, bytes: u64, limit: &'a Limit) -> Self {
        Self {
            bytes,
            limit: Some(limit),
            ..self
        }
    }
}

/// How long and how eagerly calls are tried again.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    retry_for: Duration,
    /// How long one attempt may take besides moving its bytes.
    attempt: Duration,
    ending: Ending,
    /// Cancelled when the one object that is being written is not wanted any more.
    unwanted: Option<CancellationToken>,
    /// Whether the last call ended without any answer that helps; clones share it.
    gone: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(retry_for: Duration, attempt: Duration, ending: Ending) -> Self {
        Self {
            retry_for,
            attempt,
            ending,
            unwanted: None,
            gone: Arc::default(),
        }
    }

    /// The same, which ends also when `unwanted` is cancelled.
    pub(super) fn while_wanted(&self, unwanted: Option<CancellationToken>) -> Self {
        Self {
            unwanted,
            ..self.clone()
        }
    }

    /// For cleaning up: it goes on when we were asked to end, and not for long.
    pub(super) fn for_cleaning_up(&self) -> Self {
        Self {
            ending: Ending {
                cancel: CancellationToken::new(),
                hurry: self.ending.hurry.clone(),
            },
            unwanted: None,
            ..self.at_most(CLEANING_UP)
        }
    }

    /// The same, for no longer than `time`.
    pub(super) fn at_most(&self, time: Duration) -> Self {
        Self {
            retry_for: self.retry_for.min(time),
            attempt: self.attempt.min(time),
            ..self.clone()
        }
    }

    /// Whether the store was given up on a moment ago: asking it anything more would only take as long again.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Waits until nobody wants an answer any more.
    pub(super) async fn ended(&self) {
        let unwanted = async {
            match &self.unwanted {
                Some(unwanted) => unwanted.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.ending.cancel.cancelled() => {}
            () = self.ending.hurry.cancelled() => {}
            () = unwanted => {}
        }
    }

    fn has_ended(&self) -> bool {
        let unwanted = self.unwanted.as_ref();
        self.ending.cancel.is_cancelled()
            || self.ending.hurry.is_cancelled()
            || unwanted.is_some_and(CancellationToken::is_cancelled)
    }

    /// Tries `attempt` until it succeeds, fails for good, or time is up.
    pub(super) async fn call<T, F>(
        &self,
        call: Call<'_>,
        attempt: impl FnMut() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let outcome = self.try_until_done(call, attempt).await;
        let gone = matches!(&outcome, Err(failure) if failure.kind == Kind::Transient);
        if !matches!(&outcome, Err(failure) if failure.kind == Kind::Interrupted) {
            self.gone.store(gone, Ordering::Relaxed);
        }
        outcome
    }

    async fn try_until_done<T, F>(
        &self,
        call: Call<'_>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let began = Instant::now();
        let longest = self.attempt + Duration::from_secs(call.bytes / SLOWEST);
        let mut pause = FIRST_PAUSE;
        let mut failures = 0u32;
        // Waiting for one's turn under a limit is no failure of the store.
        let mut waited = Duration::ZERO;
        // Nor is a slow line: where bytes are moved, what came before the first failure does not count.
        let mut before = Duration::ZERO;
        loop {
            if let Some(limit) = call.limit {
                let queued = Instant::now();
                tokio::select! {
                    biased;
                    () = self.ended() => return Err(interrupted(began)),
                    () = limit.pass(call.bytes) => waited += queued.elapsed(),
                }
            }
            let leave = async {
                match call.is_waited_for {
                    true => self.ending.hurry.cancelled().await,
                    false => self.ended().await,
                }
            };
            if self.has_ended() {
                return Err(interrupted(began));
            }
            let outcome = tokio::select! {
                biased;
                () = leave => return Err(interrupted(began)),
                outcome = tokio::time::timeout(longest, attempt()) => outcome,
            };
            let failure = match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(Kind::Transient, "no answer in time"),
            };
            failures += 1;
            let tried_for = began.elapsed().saturating_sub(waited);
            if failures == 1 && call.bytes > 0 {
                before = tried_for;
            }
            let failing_for = tried_for.saturating_sub(before);
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if failure.kind != Kind::Transient || failing_for + wait > self.retry_for {
                return Err(Failure {
                    tried_for,
                    ..failure
                });
            }
            if failures >= WORTH_TELLING {
                tracing::warn!(
                    failures,
                    "the store fails, trying again: {}",
                    failure.detail
                );
            } else {
                tracing::debug!(
                    failures,
                    "the store fails, trying again: {}",
                    failure.detail
                );
            }
            tokio::select! {
                biased;
                () = self.ended() => return Err(interrupted(began)),
                () = tokio::time::sleep(wait) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn interrupted(began: Instant) -> Failure {
    Failure {
        tried_for: began.elapsed(),
        ..Failure::new(Kind::Interrupted, "interrupted")
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        match &error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                let code = service.err().code().unwrap_or_default();
                let message = service.err().message().unwrap_or_default();
                let detail = match (code, message) {
                    ("", "") => format!("status {status}"),
                    (code, "") => format!("{code} (status {status})"),
                    (code, message) => format!("{code}: {message} (status {status})"),
                };
                Self::new(kind(status, code), detail)
            }
            SdkError::ConstructionFailure(_) => Self::new(Kind::Refused, chain(&error)),
            _ => {
                let detail = chain(&error);
                // The TLS library's words for every certificate it does not accept.
                let kind = match detail.contains("invalid peer certificate") {
                    true => Kind::Untrusted,
                    false => Kind::Transient,
                };
                Self::new(kind, detail)
            }
        }
    }
}

/// What a status and S3's error code mean.
fn kind(status: u16, code: &str) -> Kind {
    match (status, code) {
        (_, "NoSuchUpload") => Kind::NoSuchUpload,
        (_, "NoSuchKey" | "NotFound") => Kind::NotFound,
        (_, "PreconditionFailed") => Kind::Taken,
        (_, "InvalidRange") => Kind::OutOfRange,
        (_, "NotImplemented") | (501, _) => Kind::NotImplemented,
        (
            _,
            // What arrived is not what was sent, or not all of it.
            "BadDigest"
            | "IncompleteBody"
            | "RequestTimeout"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch"
            // Somebody else's conditional write to the same key is under way.
            | "ConditionalRequestConflict"
            | "OperationAborted"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "ServiceUnavailable"
            | "InternalError",
        ) => Kind::Transient,
        (404, "") => Kind::NotFound,
        (412, _) => Kind::Taken,
        (416, _) => Kind::OutOfRange,
        (408 | 429 | 500 | 502 | 503 | 504, _) => Kind::Transient,
        (401 | 403, _) => Kind::Denied,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests;
