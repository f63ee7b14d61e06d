//! EC2 by its SDK. Every call is one attempt, ended by `[ebs] timeout`.

mod copies;
mod read;
mod volumes;

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::config::{Region, SharedHttpClient};
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::create_snapshots::builders::CreateSnapshotsFluentBuilder;
use aws_sdk_ec2::types::{Filter, InstanceSpecification, ResourceType, Tag, TagSpecification};

use super::copied::CopyOrder;
use super::ids::{AccountId, InstanceId, SnapshotId, VolumeId};
use super::made::{MadeVolume, VolumeOrder};
use super::order::Order;
use super::{
    Call, CallFailed, EbsError, Ec2, Instance, Kind, Place, RUN_TAG, Rehearsal, SharedEc2,
    Snapshot, State, TAG, Volume,
};
use crate::aws::chain;
use crate::config::ebs::EbsConfig;
use crate::ids::RunId;
use crate::retention_lock::RetentionLock;
use read::{bytes, failed, filter, parse, percent, read_snapshot, state, tag_key, tags};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// What EC2 answers to a rehearsal that would have been allowed.
const WOULD_HAVE_SUCCEEDED: &str = "DryRunOperation";
/// Values that one filter takes (EC2 API reference, `DescribeSnapshots`).
const FILTER_VALUES: usize = 200;

/// A client by the settings and the standard credential chain.
///
/// # Errors
/// [`EbsError::NoClient`] says what is missing.
pub(super) async fn connect(
    settings: &EbsConfig,
    place: Place,
    http: SharedHttpClient,
) -> Result<SharedEc2, EbsError> {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .timeout_config(timeouts)
        .region(Region::new(place.region.clone()))
        .retry_config(RetryConfig::disabled());
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.load().await;
    let credentials = shared
        .credentials_provider()
        .ok_or_else(|| EbsError::NoClient {
            reason: "no AWS credentials were found".into(),
            passing: false,
        })?;
    // Here, and not under the lock; what is found is kept until shortly before it ends.
    credentials
        .provide_credentials()
        .await
        .map_err(|error| EbsError::NoClient {
            passing: matches!(
                error,
                CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_)
            ),
            reason: format!("no AWS credentials: {}", chain(&error)),
        })?;
    let mut config = aws_sdk_ec2::config::Builder::from(&shared);
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint.as_str());
    }
    Ok(std::sync::Arc::new(Api {
        client: Client::from_conf(config.build()),
        credentials,
        place,
        timeout: settings.timeout.0,
    }))
}

#[derive(Debug)]
struct Api {
    client: Client,
    /// With which a request is signed that another region is to send.
    credentials: SharedCredentialsProvider,
    place: Place,
    timeout: Duration,
}

impl Api {
    async fn attempt<T, E>(
        &self,
        call: Call,
        sending: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, CallFailed>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(sent) => sent.map_err(|error| failed(call, &error)),
            Err(_) => Err(CallFailed::new(
                call,
                Kind::Unanswered,
                format!("no answer in {} s", self.timeout.as_secs()),
            )),
        }
    }

    /// What came of a `DryRun`, which never succeeds: where it is allowed EC2 says so by an error.
    async fn rehearsed<T, E>(
        &self,
        call: Call,
        sending: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<(), CallFailed>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(Err(SdkError::ServiceError(error)))
                if error.err().code() == Some(WOULD_HAVE_SUCCEEDED) =>
            {
                Ok(())
            }
            Ok(Err(error)) => Err(failed(call, &error)),
            Ok(Ok(_)) => Err(CallFailed::new(
                call,
                Kind::Refused,
                "the server does not know DryRun, and may have done it",
            )),
            Err(_) => Err(CallFailed::new(call, Kind::Unanswered, "no answer in time")),
        }
    }

    fn order(&self, order: &Order) -> CreateSnapshotsFluentBuilder {
        let instance = InstanceSpecification::builder()
            .instance_id(order.instance.as_str())
            .exclude_boot_volume(order.exclude_boot);
        let instance = order.exclude.iter().fold(instance, |instance, volume| {
            instance.exclude_data_volume_ids(volume.as_str())
        });
        let tags = order
            .tags
            .iter()
            .fold(TagSpecification::builder(), |tags, (key, value)| {
                tags.tags(Tag::builder().key(key).value(value).build())
            });
        self.client
            .create_snapshots()
            .instance_specification(instance.build())
            .tag_specifications(tags.resource_type(ResourceType::Snapshot).build())
    }

    async fn described(&self, filters: Vec<Filter>) -> Result<Vec<Snapshot>, CallFailed> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let asking = self
                .client
                .describe_snapshots()
                .owner_ids("self")
                .set_filters(Some(filters.clone()))
                .set_next_token(token.clone())
                .send();
            let page = self.attempt(Call::DescribeSnapshots, asking).await?;
            for snapshot in page.snapshots() {
                found.push(read_snapshot(snapshot)?);
            }
            token = page
                .next_token()
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}

#[async_trait]
impl Ec2 for Api {
    fn place(&self) -> Place {
        self.place.clone()
    }

    async fn instance(&self, id: &InstanceId) -> Result<Instance, CallFailed> {
        let call = Call::DescribeInstances;
        let asking = self
            .client
            .describe_instances()
            .instance_ids(id.as_str())
            .send();
        let found = self.attempt(call, asking).await?;
        let mut instances = found
            .reservations()
            .iter()
            .flat_map(|reservation| reservation.instances());
        let instance = instances
            .find(|one| one.instance_id() == Some(id.as_str()))
            .ok_or_else(|| CallFailed::new(call, Kind::NotFound, format!("no instance {id}")))?;
        Ok(Instance {
            id: id.clone(),
            root_device: instance.root_device_name().map(str::to_owned),
            zone: instance
                .placement()
                .and_then(|placement| placement.availability_zone())
                .map(str::to_owned),
        })
    }

    async fn attached(&self, id: &InstanceId) -> Result<Vec<Volume>, CallFailed> {
        let call = Call::DescribeVolumes;
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let asking = self
                .client
                .describe_volumes()
                .filters(filter("attachment.instance-id", [id.to_string()]))
                .set_next_token(token.clone())
                .send();
            let page = self.attempt(call, asking).await?;
            for volume in page.volumes() {
                // One of several instances' has an attachment for each.
                let attached = volume
                    .attachments()
                    .iter()
                    .find(|one| one.instance_id() == Some(id.as_str()));
                let Some(attached) = attached else {
                    continue;
                };
                found.push(Volume {
                    id: parse(call, volume.volume_id())?,
                    attached_as: attached.device().unwrap_or_default().to_owned(),
                    bytes: bytes(volume.size()),
                    volume_type: volume.volume_type().map(|kind| kind.as_str().to_owned()),
                    iops: volume.iops().and_then(|iops| iops.try_into().ok()),
                    throughput: volume.throughput().and_then(|rate| rate.try_into().ok()),
                    encrypted: volume.encrypted().unwrap_or(false),
                });
            }
            token = page
                .next_token()
                .filter(|token| !token.is_empty())
                .map(str::to_owned);
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    async fn may(&self, rehearsal: &Rehearsal<'_>) -> Result<(), CallFailed> {
        let call = rehearsal.call();
        match rehearsal {
            Rehearsal::Create(order) => {
                let asking = self.order(order).dry_run(true).send();
                self.rehearsed(call, asking).await
            }
            Rehearsal::Volume(order) => {
                let asking = self.volume_order(order)?.dry_run(true).send();
                self.rehearsed(call, asking).await
            }
            Rehearsal::Copy(order) => {
                let asking = self.copy_order(order).await?.dry_run(true).send();
                self.rehearsed(call, asking).await
            }
            Rehearsal::Share(snapshot, with) => {
                let asking = self.share_order(snapshot, with).dry_run(true).send();
                self.rehearsed(call, asking).await
            }
            Rehearsal::Lock(snapshot, lock) => {
                let asking = self.lock_order(snapshot, *lock).dry_run(true).send();
                self.rehearsed(call, asking).await
            }
        }
    }

    async fn create(&self, order: &Order) -> Result<Vec<Snapshot>, CallFailed> {
        let call = Call::CreateSnapshots;
        let made = self.attempt(call, self.order(order).send()).await?;
        // What is answered here was made: an answer that is not understood must not look like a refusal.
        let read = |made: &aws_sdk_ec2::types::SnapshotInfo| {
            Ok(Snapshot {
                id: parse(call, made.snapshot_id())?,
                volume: parse(call, made.volume_id())?,
                bytes: bytes(made.volume_size()),
                state: made.state().map_or(State::Pending, state),
                reason: None,
                percent: percent(made.progress()),
                tags: tags(made.tags()),
            })
        };
        made.snapshots().iter().map(read).collect()
    }

    async fn snapshots(&self, ids: &[SnapshotId]) -> Result<Vec<Snapshot>, CallFailed> {
        let mut found = Vec::new();
        // By filter: asked for by id, one that is not shown yet would make an error of all.
        for some in ids.chunks(FILTER_VALUES) {
            let ids = filter("snapshot-id", some.iter().map(ToString::to_string));
            found.extend(self.described(vec![ids]).await?);
        }
        Ok(found)
    }

    async fn made_by(&self, run: RunId) -> Result<Vec<Snapshot>, CallFailed> {
        let filters = vec![
            filter(&format!("tag:{RUN_TAG}"), [run.to_string()]),
            tag_key(TAG),
        ];
        let found = self.described(filters).await?;
        // A server that passes over filters must not make us delete what is not ours.
        Ok(found.into_iter().filter(|one| one.is_of(run)).collect())
    }

    async fn tag(&self, snapshot: &SnapshotId, key: &str, value: &str) -> Result<(), CallFailed> {
        let asking = self
            .client
            .create_tags()
            .resources(snapshot.as_str())
            .tags(Tag::builder().key(key).value(value).build())
            .send();
        self.attempt(Call::CreateTags, asking).await.map(drop)
    }

    async fn delete(&self, snapshot: &SnapshotId) -> Result<bool, CallFailed> {
        let asking = self
            .client
            .delete_snapshot()
            .snapshot_id(snapshot.as_str())
            .send();
        match self.attempt(Call::DeleteSnapshot, asking).await {
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            deleted => deleted.map(|_| true),
        }
    }

    async fn tagged(&self) -> Result<Vec<Snapshot>, CallFailed> {
        let found = self.described(vec![tag_key(RUN_TAG)]).await?;
        let ours = |one: &Snapshot| one.tags.contains_key(RUN_TAG);
        Ok(found.into_iter().filter(ours).collect())
    }

    async fn copy(&self, order: &CopyOrder) -> Result<SnapshotId, CallFailed> {
        let asking = self.copy_order(order).await?.send();
        let made = self.attempt(Call::CopySnapshot, asking).await?;
        parse(Call::CopySnapshot, made.snapshot_id())
    }

    async fn share(&self, snapshot: &SnapshotId, with: &[AccountId]) -> Result<(), CallFailed> {
        let asking = self.share_order(snapshot, with).send();
        let shared = self.attempt(Call::ModifySnapshotAttribute, asking).await;
        shared.map(drop)
    }

    async fn lock(&self, snapshot: &SnapshotId, lock: RetentionLock) -> Result<(), CallFailed> {
        let asking = self.lock_order(snapshot, lock).send();
        self.attempt(Call::LockSnapshot, asking).await.map(drop)
    }

    async fn locked(&self, ids: &[SnapshotId]) -> Result<BTreeSet<SnapshotId>, CallFailed> {
        self.described_locks(ids).await
    }

    async fn create_volume(&self, order: &VolumeOrder) -> Result<MadeVolume, CallFailed> {
        self.make_volume(order).await
    }

    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<MadeVolume>, CallFailed> {
        let mut found = Vec::new();
        // By filter, as snapshots are.
        for some in ids.chunks(FILTER_VALUES) {
            let ids = filter("volume-id", some.iter().map(ToString::to_string));
            found.extend(self.described_volumes(vec![ids]).await?);
        }
        Ok(found)
    }

    async fn volumes_of(&self, run: RunId) -> Result<Vec<MadeVolume>, CallFailed> {
        let filters = vec![
            filter(&format!("tag:{RUN_TAG}"), [run.to_string()]),
            tag_key(TAG),
        ];
        let found = self.described_volumes(filters).await?;
        // As with snapshots: what is not ours must not be deleted.
        Ok(found.into_iter().filter(|one| one.is_of(run)).collect())
    }

    async fn tagged_volumes(&self) -> Result<Vec<MadeVolume>, CallFailed> {
        let found = self.described_volumes(vec![tag_key(RUN_TAG)]).await?;
        let ours = |one: &MadeVolume| one.tags.contains_key(RUN_TAG);
        Ok(found.into_iter().filter(ours).collect())
    }

    async fn attach(
        &self,
        volume: &VolumeId,
        instance: &InstanceId,
        name: &str,
    ) -> Result<(), CallFailed> {
        let asking = self
            .client
            .attach_volume()
            .volume_id(volume.as_str())
            .instance_id(instance.as_str())
            .device(name)
            .send();
        self.attempt(Call::AttachVolume, asking).await.map(drop)
    }

    async fn detach(&self, volume: &VolumeId, instance: &InstanceId) -> Result<bool, CallFailed> {
        let asking = self
            .client
            .detach_volume()
            .volume_id(volume.as_str())
            .instance_id(instance.as_str())
            .send();
        match self.attempt(Call::DetachVolume, asking).await {
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            detached => detached.map(|_| true),
        }
    }

    async fn delete_volume(&self, volume: &VolumeId) -> Result<bool, CallFailed> {
        let asking = self
            .client
            .delete_volume()
            .volume_id(volume.as_str())
            .send();
        match self.attempt(Call::DeleteVolume, asking).await {
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            deleted => deleted.map(|_| true),
        }
    }
}
