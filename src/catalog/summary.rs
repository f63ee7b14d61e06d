//! One line about every set: what `list` shows.

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::hold::{Hold, read_hold};
use super::reader::{Reader, readers};
use super::verification::{Outcome, Verification, VerificationKind, read_verifications};
use super::{CLOCKS_DIFFER, CatalogError, Recorded, missing_objects, read_intent, read_recorded};
use crate::backup::journal::Owner;
use crate::error::{Exit, Explain};
use crate::ids::{BackupId, DeploymentId, MemberAddr, RunId, ShardName};
use crate::manifest::Intent;
use crate::store::{ObjectInfo, Store, StoreError};

/// Sets that are read at the same time.
const AT_ONCE: usize = 8;

/// What one set is. Its JSON form is what `list --json` prints, and stays stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetSummary {
    /// The set's name.
    pub id: BackupId,
    /// Whether it is a backup.
    pub state: SetState,
    /// Why it is damaged, or cannot be read.
    pub reason: Option<String>,
    /// When the run began, from the name.
    pub started: Timestamp,
    /// When the last archive was complete.
    pub finished: Option<Timestamp>,
    /// How long the run took until then, in microseconds.
    pub took_us: Option<u64>,
    /// The host that made it, or was to.
    pub host: Option<String>,
    /// The run that made it: two backups of one name are the same where this is.
    #[serde(skip)]
    pub run: Option<RunId>,
    /// Bytes of all objects in the set, finished or not.
    pub size: u64,
    /// Bytes of all files that were backed up, whatever became of them in archives.
    pub data_size: Option<u64>,
    /// Snapshots of volumes that are the backup; 0 in one of archives.
    #[serde(skip_serializing_if = "is_zero")]
    pub snapshots: u64,
    /// The region that holds copies of these snapshots, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied_to: Option<String>,
    /// Until when nobody may delete them, where they were to be locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<Timestamp>,
    /// What was backed up.
    pub deployment: Option<DeploymentId>,
    /// The members: from the manifest, or from the intent where there is none.
    pub members: Vec<MemberSummary>,
    /// Snapshot provider.
    pub provider: Option<String>,
    /// Length of the lock, in microseconds.
    pub held_us: Option<u64>,
    /// What verifications found.
    pub verification: VerificationState,
    /// Whether it is held, so that it is not pruned.
    pub hold: Option<Hold>,
    /// Who reads it, or did and left a mark that has not ended yet: it is not pruned then.
    pub readers: Vec<Reader>,
    /// The run of this host that is making it now, where one is. The store does not know; whoever lists may.
    pub at_work: Option<Owner>,
}

impl SetSummary {
    /// Whether it is of a moment that at `now` is yet to come.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.started.duration_since(now) > CLOCKS_DIFFER
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// One member of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberSummary {
    /// Its replica set.
    pub shard: ShardName,
    /// Its address.
    pub address: MemberAddr,
}

/// Whether a set is a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetState {
    /// It has a sound manifest, and everything the manifest names has its size.
    Complete,
    /// It has no manifest: it is being made, or failed.
    Unfinished,
    /// Something of it is missing or not as it was written, or its last verification says so.
    Damaged,
    /// A newer program made it.
    Future,
    /// Something of it cannot be read, by us or at all: nobody knows what it is.
    Unreadable,
}

/// What the verification records of a set say together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerificationState {
    /// The last word.
    pub verdict: Verdict,
    /// When the last verification of any kind ended.
    pub last: Option<Timestamp>,
    /// When it was last proven by restoring it.
    pub proven: Option<Timestamp>,
    /// Records that cannot be read.
    pub unreadable: u64,
}

/// The last word of a set's verifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nobody looked yet.
    Unverified,
    /// Every hash was right when it was last looked at.
    Verified,
    /// The same, and it was restored and validated at some time.
    Proven,
    /// The last verification found damage; or the last attempt to prove it did, which no comparison of hashes outweighs.
    Damaged,
}

/// Every set in the store, oldest first. One bad set, or one that cannot be read, never hides the others; a store that
/// fails does.
pub async fn list(store: &dyn Store) -> Result<Vec<SetSummary>, StoreError> {
    let mut sets: Vec<(BackupId, Vec<ObjectInfo>)> = Vec::new();
    let (objects, closed) = store.list_what_opens(BackupId::PREFIX).await?;
    for info in objects {
        let Some((folder, _)) = info.key.split_once('/') else {
            continue;
        };
        // Other folders may lie beside ours; only names that we write are ours.
        let Ok(id) = folder.parse::<BackupId>() else {
            continue;
        };
        match sets.last_mut() {
            Some((last, objects)) if *last == id => objects.push(info),
            _ => sets.push((id, vec![info])),
        }
    }
    let summaries: Vec<_> = stream::iter(sets)
        .map(|(id, objects)| summarise(store, id, objects))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut summaries = summaries.into_iter().collect::<Result<Vec<_>, _>>()?;
    for (folder, error) in closed {
        let Ok(id) = folder.parse() else { continue };
        // It may hold folders of which only some do not open.
        match summaries.iter_mut().find(|set| set.id == id) {
            Some(set) => unreadable(set, &error),
            None => {
                let mut set = blank(id, &[], &[]);
                unreadable(&mut set, &error);
                summaries.push(set);
            }
        }
    }
    summaries.sort_by_key(|set| set.id);
    Ok(summaries)
}

/// The sets of one deployment. Sets that cannot tell whose they are stay in: they may be.
pub fn of_deployment(sets: Vec<SetSummary>, deployment: &DeploymentId) -> Vec<SetSummary> {
    sets.into_iter()
        .filter(|set| set.deployment.as_ref().is_none_or(|of| of == deployment))
        .collect()
}

async fn summarise(
    store: &dyn Store,
    id: BackupId,
    objects: Vec<ObjectInfo>,
) -> Result<SetSummary, StoreError> {
    let records = match read_verifications(store, id, &objects).await {
        // What we may not read says nothing of what else the store holds.
        Err(error) if error.is_denial() => return Ok(closed(id, &objects, &error)),
        read => read?,
    };
    let base = SetSummary {
        hold: read_hold(store, id, &objects).await?,
        ..blank(id, &objects, &records)
    };
    match read_recorded(store, id).await {
        Ok(recorded) => Ok(with_manifest(base, &recorded, &objects)),
        Err(CatalogError::Store(error)) if error.is_denial() => Ok(closed(id, &objects, &error)),
        Err(CatalogError::Store(error)) => Err(error),
        Err(error) => {
            let intent = match read_intent(store, id).await {
                Err(CatalogError::Store(StoreError::NotFound { .. })) => None,
                Err(CatalogError::Store(error)) if error.is_denial() => {
                    return Ok(closed(id, &objects, &error));
                }
                Err(CatalogError::Store(error)) => return Err(error),
                read => Some(read),
            };
            Ok(without_manifest(base, &error, intent))
        }
    }
}

fn closed(id: BackupId, objects: &[ObjectInfo], error: &StoreError) -> SetSummary {
    let mut set = blank(id, objects, &[]);
    unreadable(&mut set, error);
    set
}

fn unreadable(set: &mut SetSummary, error: &StoreError) {
    set.state = SetState::Unreadable;
    set.reason = Some(error.to_string());
}

/// What is known of a set before any of its documents is read.
fn blank(
    id: BackupId,
    objects: &[ObjectInfo],
    records: &[Result<Verification, CatalogError>],
) -> SetSummary {
    SetSummary {
        id,
        state: SetState::Complete,
        reason: None,
        started: id.started(),
        finished: None,
        took_us: None,
        host: None,
        run: None,
        size: sum(objects.iter().map(|info| info.size)),
        data_size: None,
        snapshots: 0,
        copied_to: None,
        locked_until: None,
        deployment: None,
        members: Vec::new(),
        provider: None,
        held_us: None,
        verification: verification_state(records),
        hold: None,
        readers: readers(id, objects),
        at_work: None,
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

/// In microseconds; none where the clock was set back meanwhile.
fn took(started: Timestamp, finished: Timestamp) -> u64 {
    let took = finished.duration_since(started).as_micros();
    took.try_into().unwrap_or_default()
}

fn with_manifest(base: SetSummary, recorded: &Recorded, objects: &[ObjectInfo]) -> SetSummary {
    let problems = match recorded {
        Recorded::Archives(manifest) => missing_objects(manifest, objects),
        // Whether the snapshots are there only EC2 knows, and a store is listed without it.
        Recorded::Snapshots(_) => Vec::new(),
    };
    let verified = (base.verification.verdict == Verdict::Damaged)
        .then(|| format!("backup {}: its last verification found damage", base.id));
    let reason = problems.first().map(ToString::to_string).or(verified);
    let base = SetSummary {
        state: match reason {
            None => SetState::Complete,
            Some(_) => SetState::Damaged,
        },
        reason,
        ..base
    };
    let summary = |shard: &ShardName, address: &MemberAddr| MemberSummary {
        shard: shard.clone(),
        address: address.clone(),
    };
    match recorded {
        Recorded::Archives(manifest) => SetSummary {
            finished: Some(manifest.finished),
            took_us: Some(took(manifest.started, manifest.finished)),
            host: Some(manifest.host.clone()),
            run: Some(manifest.run),
            data_size: Some(sum(manifest
                .members
                .iter()
                .map(|member| member.archive.data_size))),
            deployment: Some(manifest.deployment.id.clone()),
            members: manifest
                .members
                .iter()
                .map(|member| summary(&member.shard, &member.address))
                .collect(),
            provider: Some(manifest.window.provider.clone()),
            held_us: Some(manifest.window.held_us),
            ..base
        },
        Recorded::Snapshots(manifest) => SetSummary {
            finished: Some(manifest.finished),
            took_us: Some(took(manifest.started, manifest.finished)),
            host: Some(manifest.host.clone()),
            run: Some(manifest.run),
            data_size: Some(sum(manifest.members.iter().map(|member| member.data_size))),
            snapshots: manifest.snapshots.volumes.len() as u64,
            copied_to: manifest.snapshots.copied().map(|one| one.place.region),
            locked_until: manifest.locked_until(),
            deployment: Some(manifest.deployment.id.clone()),
            members: manifest
                .members
                .iter()
                .map(|member| summary(&member.shard, &member.address))
                .collect(),
            provider: Some(manifest.window.provider.clone()),
            held_us: Some(manifest.window.held_us),
            ..base
        },
    }
}

fn without_manifest(
    base: SetSummary,
    error: &CatalogError,
    intent: Option<Result<Intent, CatalogError>>,
) -> SetSummary {
    let unfinished = matches!(error, CatalogError::Unfinished { .. });
    let (state, reason) = match (&intent, error.exit()) {
        (_, Exit::Refused) => (SetState::Future, Some(error.to_string())),
        (Some(Ok(_)), _) if unfinished => (SetState::Unfinished, None),
        // An unfinished run of a newer program.
        (Some(Err(intent)), _) if unfinished && intent.exit() == Exit::Refused => {
            (SetState::Future, Some(intent.to_string()))
        }
        (Some(Err(intent)), _) if unfinished => (SetState::Damaged, Some(intent.to_string())),
        (None, _) if unfinished => (
            SetState::Damaged,
            Some(format!(
                "backup {} has neither manifest nor intent",
                base.id
            )),
        ),
        _ => (SetState::Damaged, Some(error.to_string())),
    };
    let intent = intent.and_then(Result::ok);
    SetSummary {
        state,
        reason,
        host: intent.as_ref().map(|intent| intent.host.clone()),
        run: intent.as_ref().map(|intent| intent.run),
        deployment: intent.as_ref().map(|intent| intent.deployment.id.clone()),
        members: intent.map_or_else(Vec::new, |intent| {
            intent
                .members
                .into_iter()
                .map(|member| MemberSummary {
                    shard: member.shard,
                    address: member.address,
                })
                .collect()
        }),
        ..base
    }
}

/// Records come oldest first; their own time decides nothing, their name's order does.
fn verification_state(records: &[Result<Verification, CatalogError>]) -> VerificationState {
    let readable = || records.iter().filter_map(|record| record.as_ref().ok());
    let proofs = || readable().filter(|record| record.kind == VerificationKind::Proven);
    let passed = |record: &&Verification| record.outcome == Outcome::Passed;
    let proven = proofs().filter(passed).map(|record| record.at).next_back();
    let last_proof = proofs().next_back().map(|record| record.outcome);
    let last = readable().next_back();
    // That nothing was missing takes back what was missed before, and says nothing of the bytes.
    let shown = |record: &Verification| {
        record.kind == VerificationKind::Shown && record.outcome == Outcome::Passed
    };
    VerificationState {
        verdict: match (last.map(|record| record.outcome), last_proof) {
            (None, _) => Verdict::Unverified,
            // Bytes that are as they were written may have been written wrong: only a proof takes a failed proof back.
            (Some(Outcome::Damaged), _) | (_, Some(Outcome::Damaged)) => Verdict::Damaged,
            _ if last.is_some_and(shown) => Verdict::Unverified,
            (Some(Outcome::Passed), Some(Outcome::Passed)) => Verdict::Proven,
            (Some(Outcome::Passed), None) => Verdict::Verified,
        },
        last: last.map(|record| record.at),
        proven,
        unreadable: records.iter().filter(|record| record.is_err()).count() as u64,
    }
}
