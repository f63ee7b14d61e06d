//! Volumes made of snapshots, as the SDK tells of them.

use aws_sdk_ec2::operation::create_volume::builders::CreateVolumeFluentBuilder;
use aws_sdk_ec2::types::{
    Filter, ResourceType, Tag, TagSpecification, Volume, VolumeAttachmentState,
    VolumeState as Told, VolumeType,
};

use super::Api;
use super::read::{GIB, bytes, parse, tags};
use crate::ebs::made::{Attachment, MadeVolume, VolumeOrder, VolumeState};
use crate::ebs::{Call, CallFailed, Kind};

impl Api {
    pub(super) async fn make_volume(&self, order: &VolumeOrder) -> Result<MadeVolume, CallFailed> {
        let call = Call::CreateVolume;
        let asking = self.volume_order(order)?.send();
        let made = self.attempt(call, asking).await?;
        Ok(MadeVolume {
            id: parse(call, made.volume_id())?,
            bytes: bytes(made.size()),
            state: made.state().map_or(VolumeState::Creating, state),
            attachments: Vec::new(),
            tags: tags(made.tags()),
        })
    }

    pub(super) fn volume_order(
        &self,
        order: &VolumeOrder,
    ) -> Result<CreateVolumeFluentBuilder, CallFailed> {
        let call = Call::CreateVolume;
        let number = |value: u32| i32::try_from(value).ok();
        let size = i32::try_from(order.shape.bytes.div_ceil(GIB))
            .map_err(|_| CallFailed::new(call, Kind::Refused, "no volume is as large as that"))?;
        let specified = order
            .tags
            .iter()
            .fold(TagSpecification::builder(), |tags, (key, value)| {
                tags.tags(Tag::builder().key(key).value(value).build())
            });
        let shape = &order.shape;
        Ok(self
            .client
            .create_volume()
            .snapshot_id(order.snapshot.as_str())
            .availability_zone(&order.zone)
            .size(size)
            .set_volume_type(shape.volume_type.as_deref().map(VolumeType::from))
            .set_iops(shape.iops.and_then(number))
            .set_throughput(shape.throughput.and_then(number))
            .client_token(&order.token)
            .tag_specifications(specified.resource_type(ResourceType::Volume).build()))
    }

    pub(super) async fn described_volumes(
        &self,
        filters: Vec<Filter>,
    ) -> Result<Vec<MadeVolume>, CallFailed> {
        let call = Call::DescribeVolumes;
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let asking = self
                .client
                .describe_volumes()
                .set_filters(Some(filters.clone()))
                .set_next_token(token.clone())
                .send();
            let page = self.attempt(call, asking).await?;
            for volume in page.volumes() {
                found.push(read(call, volume)?);
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

fn read(call: Call, volume: &Volume) -> Result<MadeVolume, CallFailed> {
    let attachment = |one: &aws_sdk_ec2::types::VolumeAttachment| {
        // What was detached is shown for a while.
        let gone = one.state() == Some(&VolumeAttachmentState::Detached);
        (!gone).then(|| {
            Ok(Attachment {
                instance: parse(call, one.instance_id())?,
                name: one.device().unwrap_or_default().to_owned(),
                complete: one.state() == Some(&VolumeAttachmentState::Attached),
            })
        })
    };
    let attachments = volume.attachments().iter().filter_map(attachment);
    Ok(MadeVolume {
        id: parse(call, volume.volume_id())?,
        bytes: bytes(volume.size()),
        state: volume.state().map_or(VolumeState::Creating, state),
        attachments: attachments.collect::<Result<_, CallFailed>>()?,
        tags: tags(volume.tags()),
    })
}

fn state(state: &Told) -> VolumeState {
    match state {
        Told::Available => VolumeState::Available,
        Told::InUse => VolumeState::InUse,
        Told::Deleting | Told::Deleted => VolumeState::Deleted,
        Told::Error => VolumeState::Error,
        // Also what is not known yet.
        _ => VolumeState::Creating,
    }
}
