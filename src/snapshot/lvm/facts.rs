//! What LVM says of its groups and volumes: `--reportformat json`, and the kernel's snapshot status.
//!
//! Values come as strings from LVM up to 2.03.16 and partly as numbers from later ones; both are read.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};
use thiserror::Error;

use super::array::Arrays;
use super::status::PoolStatus;
use crate::ids::RunId;
use crate::snapshot::LvmSnapshot;
use crate::volume::DevNumber;

/// Fields asked of `lvs`.
pub const LV_FIELDS: &str = "vg_name,lv_name,lv_size,lv_attr,lv_layout,lv_tags,origin,origin_size,snap_percent,pool_lv,\
                             lv_kernel_major,lv_kernel_minor";
/// Fields asked of `vgs`.
pub const VG_FIELDS: &str =
    "vg_name,vg_attr,vg_free,vg_extent_size,vg_missing_pv_count,vg_lock_type";

/// Why a report is of no use.
#[derive(Debug, Error)]
pub enum ReportError {
    /// No JSON of the expected shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A field is missing or has no sensible value.
    #[error("field {field} is {value:?}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds; none if missing.
        value: Option<String>,
    },
}

/// All groups and visible volumes at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct LvmFacts {
    /// The md arrays over volumes, as far as they were looked at: see [`super::array::survey`].
    pub arrays: Arrays,
    /// Volume groups.
    pub groups: Vec<VolumeGroup>,
    /// Logical volumes.
    pub volumes: Vec<LogicalVolume>,
    /// The thin pools that volumes lie in, as the kernel sees them.
    pub pools: Vec<ThinPool>,
}

/// One thin pool at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThinPool {
    /// Its group.
    pub vg: String,
    /// Its name.
    pub lv: String,
    /// Its size in bytes.
    pub size: u64,
    /// Per cent of data or metadata above which LVM makes no new volumes in it.
    pub threshold: u8,
    /// How full it is.
    pub status: PoolStatus,
}

/// One volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    /// Name.
    pub name: String,
    /// Six characters as in `vgs(8)`.
    pub attr: String,
    /// Unallocated bytes.
    pub free: u64,
    /// Bytes in one extent.
    pub extent: u64,
    /// Physical volumes that are missing.
    pub missing: u64,
    /// lvmlockd's lock type; empty for a group of this host alone.
    pub lock_type: String,
}

/// One logical volume.
#[derive(Debug, Clone, PartialEq)]
pub struct LogicalVolume {
    /// Its group.
    pub vg: String,
    /// Its name.
    pub lv: String,
    /// Bytes; of a snapshot: of its copy-on-write space.
    pub size: u64,
    /// Ten characters as in `lvs(8)`.
    pub attr: String,
    /// "linear", "striped", "thin", "raid", ...
    pub layout: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Of a snapshot: the LV it is a picture of.
    pub origin: Option<String>,
    /// Of a snapshot: bytes of its origin.
    pub origin_size: Option<u64>,
    /// Of an active snapshot: per cent of its space used.
    pub percent: Option<f64>,
    /// Of a thin volume: the pool it lies in.
    pub pool: Option<String>,
    /// Device number while active.
    pub device: Option<DevNumber>,
}

impl LvmFacts {
    /// The group `name`.
    pub fn group(&self, name: &str) -> Option<&VolumeGroup> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The volume `vg/lv`.
    pub fn volume(&self, vg: &str, lv: &str) -> Option<&LogicalVolume> {
        self.volumes
            .iter()
            .find(|volume| volume.vg == vg && volume.lv == lv)
    }

    /// The thin pool `vg/lv`.
    pub fn pool(&self, vg: &str, lv: &str) -> Option<&ThinPool> {
        self.pools
            .iter()
            .find(|pool| pool.vg == vg && pool.lv == lv)
    }

    /// The snapshots of `vg/lv`, whoever made them.
    pub fn snapshots_of<'a>(
        &'a self,
        vg: &'a str,
        lv: &'a str,
    ) -> impl Iterator<Item = &'a LogicalVolume> {
        self.volumes
            .iter()
            .filter(move |volume| volume.vg == vg && volume.origin.as_deref() == Some(lv))
    }

    /// What carries our tag.
    pub fn ours(&self) -> impl Iterator<Item = &LogicalVolume> {
        self.volumes
            .iter()
            .filter(|volume| volume.has_tag(LvmSnapshot::TAG))
    }
}

impl LogicalVolume {
    /// `vg/lv`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.vg, self.lv)
    }

    /// Whether it carries `tag`.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|one| one == tag)
    }

    /// The run that its tags name.
    pub fn run(&self) -> Option<RunId> {
        self.tags
            .iter()
            .find_map(|tag| tag.strip_prefix(LvmSnapshot::RUN_TAG_PREFIX)?.parse().ok())
    }

    /// First attribute: `-` plain, `o` origin, `s` snapshot, `V` thin, `r` raid, `C` cached, ...
    pub fn volume_type(&self) -> char {
        self.attr.chars().next().unwrap_or('?')
    }

    /// Fifth attribute: `a` active, `s` suspended, `I` invalid snapshot, `S` invalid and suspended, ...
    pub fn state(&self) -> char {
        self.attr.chars().nth(4).unwrap_or('?')
    }

    /// Ninth attribute: `p` partial, `r` in need of a refresh, `m` with parts that differ, `-` none of it.
    pub fn health(&self) -> char {
        self.attr.chars().nth(8).unwrap_or('?')
    }

    /// Sixth attribute: whether something has it open.
    pub fn is_open(&self) -> bool {
        self.attr.chars().nth(5) == Some('o')
    }
}

/// Parses what `lvs` with [`LV_FIELDS`] prints.
///
/// # Errors
/// [`ReportError`].
pub fn parse_volumes(json: &str) -> Result<Vec<LogicalVolume>, ReportError> {
    let report: Report = serde_json::from_str(json)?;
    report
        .report
        .into_iter()
        .flat_map(|section| section.lv)
        .map(|row| volume(&row))
        .collect()
}

/// Parses what `vgs` with [`VG_FIELDS`] prints.
///
/// # Errors
/// [`ReportError`].
pub fn parse_groups(json: &str) -> Result<Vec<VolumeGroup>, ReportError> {
    let report: Report = serde_json::from_str(json)?;
    report
        .report
        .into_iter()
        .flat_map(|section| section.vg)
        .map(|row| group(&row))
        .collect()
}

fn volume(row: &Row) -> Result<LogicalVolume, ReportError> {
    let major: Option<i64> = row.optional("lv_kernel_major")?;
    let minor: Option<i64> = row.optional("lv_kernel_minor")?;
    let device = match (major.map(u32::try_from), minor.map(u32::try_from)) {
        (Some(Ok(major)), Some(Ok(minor))) => Some(DevNumber { major, minor }),
        // -1 while inactive.
        _ => None,
    };
    Ok(LogicalVolume {
        vg: row.text("vg_name")?.to_owned(),
        lv: row.text("lv_name")?.trim_matches(['[', ']']).to_owned(),
        size: row.value("lv_size")?,
        attr: row.text("lv_attr")?.to_owned(),
        layout: row.list("lv_layout")?,
        tags: row.list("lv_tags")?,
        origin: Some(row.text("origin")?.trim_matches(['[', ']']).to_owned())
            .filter(|name| !name.is_empty()),
        origin_size: row.optional("origin_size")?,
        percent: row.optional("snap_percent")?,
        pool: Some(row.text("pool_lv")?.trim_matches(['[', ']']).to_owned())
            .filter(|name| !name.is_empty()),
        device,
    })
}

fn group(row: &Row) -> Result<VolumeGroup, ReportError> {
    Ok(VolumeGroup {
        name: row.text("vg_name")?.to_owned(),
        attr: row.text("vg_attr")?.to_owned(),
        free: row.value("vg_free")?,
        extent: row.value("vg_extent_size")?,
        missing: row.value("vg_missing_pv_count")?,
        lock_type: row.text("vg_lock_type")?.to_owned(),
    })
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Section>,
}

#[derive(Deserialize)]
struct Section {
    #[serde(default)]
    lv: Vec<Row>,
    #[serde(default)]
    vg: Vec<Row>,
}

#[derive(Deserialize)]
struct Row(BTreeMap<String, Scalar>);

impl Row {
    fn text(&self, field: &'static str) -> Result<&str, ReportError> {
        self.0
            .get(field)
            .map(|scalar| scalar.0.as_str())
            .ok_or(ReportError::Field { field, value: None })
    }

    fn value<T: FromStr>(&self, field: &'static str) -> Result<T, ReportError> {
        let text = self.text(field)?;
        text.parse().map_err(|_| ReportError::Field {
            field,
            value: Some(text.to_owned()),
        })
    }

    fn optional<T: FromStr>(&self, field: &'static str) -> Result<Option<T>, ReportError> {
        if self.text(field)?.is_empty() {
            Ok(None)
        } else {
            self.value(field).map(Some)
        }
    }

    fn list(&self, field: &'static str) -> Result<Vec<String>, ReportError> {
        let text = self.text(field)?;
        Ok(text
            .split(',')
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

/// A string, a number, a list of strings (later LVM gives tags so) or nothing, as text.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;
        impl<'de> Visitor<'de> for AsText {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of a report field")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.trim().to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(String::new()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Scalar, A::Error> {
                let mut items = Vec::new();
                while let Some(Scalar(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Scalar(items.join(",")))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Scalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Err(serde::de::Error::custom(
                    "an object where a value is expected",
                ))
            }
        }
        deserializer.deserialize_any(AsText)
    }
}

#[cfg(test)]
mod tests;
