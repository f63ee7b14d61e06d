//! What EC2 answers, out of the SDK's types.

use std::collections::BTreeMap;
use std::error::Error;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::{Filter, SnapshotState, Tag};

use crate::aws::chain;
use crate::ebs::{Call, CallFailed, Kind, Snapshot, State};

/// EC2 counts sizes of volumes in these.
pub(super) const GIB: u64 = 1 << 30;

pub(super) fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    let values = values.into_iter().collect();
    Filter::builder()
        .name(name)
        .set_values(Some(values))
        .build()
}

pub(super) fn tag_key(key: &str) -> Filter {
    filter("tag-key", [key.to_owned()])
}

pub(super) fn read_snapshot(
    snapshot: &aws_sdk_ec2::types::Snapshot,
) -> Result<Snapshot, CallFailed> {
    let call = Call::DescribeSnapshots;
    Ok(Snapshot {
        id: parse(call, snapshot.snapshot_id())?,
        volume: parse(call, snapshot.volume_id())?,
        bytes: bytes(snapshot.volume_size()),
        state: snapshot.state().map_or(State::Other, state),
        reason: snapshot
            .state_message()
            .filter(|message| !message.is_empty())
            .map(str::to_owned),
        percent: percent(snapshot.progress()),
        tags: tags(snapshot.tags()),
    })
}

pub(super) fn state(state: &SnapshotState) -> State {
    match state {
        SnapshotState::Completed => State::Completed,
        SnapshotState::Error => State::Error,
        SnapshotState::Pending => State::Pending,
        _ => State::Other,
    }
}

pub(super) fn tags(tags: &[Tag]) -> BTreeMap<String, String> {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned()));
    tags.iter().filter_map(pair).collect()
}

pub(super) fn bytes(gib: Option<i32>) -> u64 {
    let gib = gib.and_then(|gib| u64::try_from(gib).ok());
    gib.unwrap_or(0).saturating_mul(GIB)
}

/// "42%", and "" where nothing is known.
pub(super) fn percent(text: Option<&str>) -> u8 {
    let text = text.unwrap_or_default().trim_end_matches('%');
    text.parse().map_or(0, |percent: u8| percent.min(100))
}

pub(super) fn parse<T: std::str::FromStr<Err = crate::ids::InvalidId>>(
    call: Call,
    text: Option<&str>,
) -> Result<T, CallFailed> {
    // Nothing is known of what it did: the answer is no answer.
    text.unwrap_or_default()
        .parse()
        .map_err(|error: crate::ids::InvalidId| {
            CallFailed::new(
                call,
                Kind::Unanswered,
                format!("its answer is not understood: {error}"),
            )
        })
}

pub(super) fn failed<E>(call: Call, error: &SdkError<E, HttpResponse>) -> CallFailed
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            let code = service.err().code().unwrap_or_default();
            let message = service.err().message().unwrap_or_default();
            let detail = match (code, message) {
                ("", _) => format!("status {status}"),
                (code, "") => format!("{code} (status {status})"),
                (code, message) => format!("{code}: {message}"),
            };
            CallFailed::new(call, Kind::of(status, code), detail)
        }
        SdkError::ConstructionFailure(_) => CallFailed::new(call, Kind::Refused, chain(error)),
        _ => {
            let detail = chain(error);
            // The TLS library's words for every certificate it does not accept.
            let kind = match detail.contains("invalid peer certificate") {
                true => Kind::Untrusted,
                false => Kind::Unanswered,
            };
            CallFailed::new(call, kind, detail)
        }
    }
}
