//! What an answer of the server means, and trying again where it may mean something else the next time.
//!
//! The SDK's own retries are off: they know nothing of how long an operator wants to wait, nor of being asked to end.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The first pause; each further one is twice as long, up to [`LONGEST_PAUSE`], and a random share of that.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The slowest transfer that is not given up as hung, in bytes a second.
const SLOWEST: u64 = 64 << 10;
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

/// How long and how eagerly calls are tried again.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    pub retry_for: Duration,
    /// How long one attempt may take besides moving its bytes.
    pub attempt: Duration,
    pub cancel: CancellationToken,
}

impl Patience {
    /// Tries `attempt`, which moves `bytes`, until it succeeds, fails for good, or time is up.
    pub(super) async fn call<T, F>(
        &self,
        bytes: u64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let began = Instant::now();
        let limit = self.attempt + Duration::from_secs(bytes / SLOWEST);
        let mut pause = FIRST_PAUSE;
        let mut failures = 0u32;
        loop {
            let outcome = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(interrupted(began)),
                outcome = tokio::time::timeout(limit, attempt()) => outcome,
            };
            let failure = match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::new(Kind::Transient, "no answer in time"),
            };
            failures += 1;
            let spent = began.elapsed();
            let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
            if failure.kind != Kind::Transient || spent + wait > self.retry_for {
                return Err(Failure {
                    tried_for: spent,
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
                () = self.cancel.cancelled() => return Err(interrupted(began)),
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

/// The error and its causes, each said once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(retry_for: u64) -> Patience {
        Patience {
            retry_for: Duration::from_secs(retry_for),
            attempt: Duration::from_secs(60),
            cancel: CancellationToken::new(),
        }
    }

    async fn fail_times(
        patience: &Patience,
        times: u32,
        kind: Kind,
    ) -> (Result<u32, Failure>, u32) {
        let mut calls = 0;
        let outcome = patience
            .call(0, || {
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
            .call(0, std::future::pending::<Result<(), Failure>>)
            .await;
        assert_eq!(hung.unwrap_err().kind, Kind::Transient);
        waiting.cancel.cancel();
        let ended = waiting
            .call(0, std::future::pending::<Result<(), Failure>>)
            .await;
        assert_eq!(ended.unwrap_err().kind, Kind::Interrupted);
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
}
