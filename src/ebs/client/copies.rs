//! Copies, shares and locks of snapshots, as the SDK asks for them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_ec2::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use aws_sdk_ec2::operation::copy_snapshot::builders::CopySnapshotFluentBuilder;
use aws_sdk_ec2::operation::lock_snapshot::builders::LockSnapshotFluentBuilder;
use aws_sdk_ec2::operation::modify_snapshot_attribute::builders::ModifySnapshotAttributeFluentBuilder;
use aws_sdk_ec2::types::{
    LockMode as AskedMode, LockState, OperationType, ResourceType, SnapshotAttributeName, Tag,
    TagSpecification,
};
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;

use super::read::parse;
use super::{Api, FILTER_VALUES};
use crate::aws::{chain, percent};
use crate::ebs::copied::CopyOrder;
use crate::ebs::ids::{AccountId, SnapshotId};
use crate::ebs::{Call, CallFailed, Kind};
use crate::retention_lock::{LockMode, RetentionLock};

/// The version of EC2's API, which a request that is signed by hand has to name.
const API_VERSION: &str = "2016-11-15";
/// How long the other region may take to send what was signed for it; more than any try of ours.
const SIGNED_FOR: Duration = Duration::from_secs(3600);

impl Api {
    pub(super) async fn copy_order(
        &self,
        order: &CopyOrder,
    ) -> Result<CopySnapshotFluentBuilder, CallFailed> {
        let tags = order
            .tags
            .iter()
            .fold(TagSpecification::builder(), |tags, (key, value)| {
                tags.tags(Tag::builder().key(key).value(value).build())
            });
        Ok(self
            .client
            .copy_snapshot()
            .source_region(&order.from)
            .source_snapshot_id(order.snapshot.as_str())
            .set_kms_key_id(order.kms_key.clone())
            .set_encrypted(order.kms_key.is_some().then_some(true))
            .presigned_url(self.presigned(order).await?)
            .tag_specifications(tags.resource_type(ResourceType::Snapshot).build()))
    }

    /// The request by which the region that copies asks the one with the snapshot, signed by us: without it EC2 copies nothing that is encrypted
    /// (EC2 API reference, `CopySnapshot`). Other SDKs make it by themselves, this one does not.
    async fn presigned(&self, order: &CopyOrder) -> Result<String, CallFailed> {
        let failed = |kind, reason: String| CallFailed::new(Call::CopySnapshot, kind, reason);
        let credentials = self.credentials.provide_credentials().await;
        let credentials = credentials.map_err(|error| failed(Kind::Unanswered, chain(&error)))?;
        let refused = |reason: String| failed(Kind::Refused, reason);
        let params = Params::builder().region(&order.from).build();
        let params = params.map_err(|error| refused(chain(&error)))?;
        let resolving = DefaultResolver::new().resolve_endpoint(&params).await;
        let endpoint = resolving.map_err(|error| refused(error.to_string()))?;
        let url = format!(
            "{}/?Action=CopySnapshot&DestinationRegion={}&SourceRegion={}&SourceSnapshotId={}&Version={API_VERSION}",
            endpoint.url().trim_end_matches('/'),
            percent(&self.place.region),
            percent(&order.from),
            order.snapshot,
        );
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(SIGNED_FOR);
        let identity = credentials.into();
        let signing = v4::SigningParams::builder()
            .identity(&identity)
            .region(&order.from)
            .name("ec2")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| refused(chain(&error)))?
            .into();
        let request =
            SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
                .map_err(|error| refused(chain(&error)))?;
        let signed = sign(request, &signing).map_err(|error| refused(chain(&error)))?;
        let (instructions, _) = signed.into_parts();
        let mut url = url;
        for (name, value) in instructions.params() {
            // Writing to a String cannot fail.
            let _ = write!(url, "&{name}={}", percent(value));
        }
        Ok(url)
    }

    pub(super) fn share_order(
        &self,
        snapshot: &SnapshotId,
        with: &[AccountId],
    ) -> ModifySnapshotAttributeFluentBuilder {
        let accounts = with.iter().map(ToString::to_string).collect();
        self.client
            .modify_snapshot_attribute()
            .snapshot_id(snapshot.as_str())
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .operation_type(OperationType::Add)
            .set_user_ids(Some(accounts))
    }

    pub(super) fn lock_order(
        &self,
        snapshot: &SnapshotId,
        lock: RetentionLock,
    ) -> LockSnapshotFluentBuilder {
        let mode = match lock.mode {
            LockMode::Governance => AskedMode::Governance,
            LockMode::Compliance => AskedMode::Compliance,
        };
        // It fits: there are 36500 at most.
        let days = i32::try_from(u32::from(lock.days)).unwrap_or(i32::MAX);
        self.client
            .lock_snapshot()
            .snapshot_id(snapshot.as_str())
            .lock_mode(mode)
            .lock_duration(days)
    }

    pub(super) async fn described_locks(
        &self,
        ids: &[SnapshotId],
    ) -> Result<BTreeSet<SnapshotId>, CallFailed> {
        let call = Call::DescribeLockedSnapshots;
        let mut found = BTreeSet::new();
        for some in ids.chunks(FILTER_VALUES) {
            let some: Vec<_> = some.iter().map(ToString::to_string).collect();
            let mut token: Option<String> = None;
            loop {
                let asking = self
                    .client
                    .describe_locked_snapshots()
                    .set_snapshot_ids(Some(some.clone()))
                    .set_next_token(token.clone())
                    .send();
                let page = self.attempt(call, asking).await?;
                for one in page.snapshots() {
                    // What is not known yet is no lock to rely on.
                    let holds = matches!(
                        one.lock_state(),
                        Some(
                            LockState::Governance
                                | LockState::Compliance
                                | LockState::ComplianceCooloff
                        )
                    );
                    if holds {
                        found.insert(parse(call, one.snapshot_id())?);
                    }
                }
                token = page
                    .next_token()
                    .filter(|token| !token.is_empty())
                    .map(str::to_owned);
                if token.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }
}
