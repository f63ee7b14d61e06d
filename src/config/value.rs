//! The configuration's value types: each parses from what an operator writes, and says what it expected.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Serde by way of the written form, so that TOML errors carry the line and our own words.
macro_rules! written_as_string {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}
pub(super) use written_as_string;

/// A length of time: `"10s"`, `"1h 30m"`. Never zero, a year at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// A year. Any moment that much later is one that clocks can tell.
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(length) if length > Self::LONGEST => Err(format!(
                "{text:?} is longer than a year; write a duration such as \"10s\" or \"2m\""
            )),
            Ok(length) if !length.is_zero() => Ok(Self(length)),
            Ok(_) => Err(format!(
                "{text:?} is no time at all; write a duration such as \"10s\" or \"2m\""
            )),
            Err(error) => Err(format!(
                "{text:?} is no duration ({error}); write one such as \"10s\" or \"2m\""
            )),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}
written_as_string!(Period);

/// A number of bytes: `"4GiB"`, `"500MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| format!("{text:?} is no size; write one such as \"4GiB\" or \"500MiB\""))
    }
}

impl fmt::Display for Size {
    /// The largest binary unit that divides it exactly, so that parsing gives the same number back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}
written_as_string!(Size);

/// Copy-on-write space of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotSize {
    /// From the write rate seen and the expected duration, never below the floor.
    Auto,
    /// As given.
    Bytes(Size),
    /// A share of the origin's size, 1 to 100.
    Percent(u8),
}

impl FromStr for SnapshotSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        if let Some(number) = text.strip_suffix('%') {
            return match number.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(format!(
                    "{text:?} is no share of the origin; write \"1%\" to \"100%\""
                )),
            };
        }
        match text.parse::<Size>() {
            Ok(size) if size.0 > 0 => Ok(Self::Bytes(size)),
            _ => Err(format!(
                "{text:?} is no snapshot size; write \"auto\", a size such as \"4GiB\" or a share such as \"20%\""
            )),
        }
    }
}

impl fmt::Display for SnapshotSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(size) => size.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}
written_as_string!(SnapshotSize);

/// A store's address; checked for form here, opened elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// The address of no store; it cannot be opened.
    pub(super) fn nowhere() -> Self {
        Self("none://".to_owned())
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        self.0.strip_prefix("file://").map(Path::new)
    }

    /// Whether it names a bucket.
    pub fn is_s3(&self) -> bool {
        self.0.starts_with("s3://")
    }
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(place) = text.strip_prefix("s3://") {
            let bucket = place.split('/').next().unwrap_or_default();
            if !bucket.is_empty() && !place.contains(['@', '?', '#', ' ']) {
                return Ok(Self(text.trim_end_matches('/').to_owned()));
            }
            // Not quoted: it may hold a key.
            return Err("a store in S3 is written \"s3://bucket/prefix\", without keys".into());
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.starts_with('/') && path.len() > 1 {
            return Ok(Self(format!("file://{}", path.trim_end_matches('/'))));
        }
        Err(format!(
            "{text:?} is no store; write \"file:///absolute/folder\" or \"s3://bucket/prefix\""
        ))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
written_as_string!(StoreUrl);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_print_as_they_parse(n: u64, percent in 1u8..=100, seconds in 1u64..10_000_000) {
            let size = Size(n);
            prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
            let share = SnapshotSize::Percent(percent);
            prop_assert_eq!(share.to_string().parse::<SnapshotSize>().unwrap(), share);
            let period = Period(Duration::from_secs(seconds));
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }

        #[test]
        fn no_period_is_beyond_what_clocks_can_tell(seconds: u64) {
            if let Ok(period) = format!("{seconds}s").parse::<Period>() {
                prop_assert!(period.0 <= Period::LONGEST);
            }
        }

        #[test]
        fn parsers_never_panic(text in ".{0,40}") {
            let _ = text.parse::<Size>();
            let _ = text.parse::<SnapshotSize>();
            let _ = text.parse::<Period>();
            let _ = text.parse::<StoreUrl>();
        }
    }
}
