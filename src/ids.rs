//! Newtypes for the names and moments the rest of the crate talks about.
//!
//! Each parses and prints as exact inverses (see the property tests below), so a
//! value read back from a journal, a manifest or an object key is the value written.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A name or number that does not have the form its type demands.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{value:?} is not {expected}")]
pub struct InvalidId {
    value: String,
    expected: &'static str,
}

impl InvalidId {
    pub(crate) fn new(value: &str, expected: &'static str) -> Self {
        Self {
            value: value.to_owned(),
            expected,
        }
    }
}

/// Implements serde through `Display` and `FromStr`, so that each type has one written form.
macro_rules! serde_as_string {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The name of a backup set: `mongo_backup-YYYYmmdd_HHMMSS`, UTC, one second of resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId(DateTime);

impl BackupId {
    /// What every backup set's folder begins with.
    pub const PREFIX: &'static str = "mongo_backup-";
    const FORMAT: &'static str = "%Y%m%d_%H%M%S";

    /// The id of a backup begun at `at`, cut to the second.
    pub fn at(at: Timestamp) -> Self {
        let civil = at.to_zoned(TimeZone::UTC).datetime();
        Self(civil.with().subsec_nanosecond(0).build().unwrap_or(civil))
    }

    /// When the backup began.
    pub fn started(&self) -> Timestamp {
        // UTC has no gaps, so this fails only at the calendar's very ends.
        self.0
            .to_zoned(TimeZone::UTC)
            .map_or(Timestamp::UNIX_EPOCH, |zoned| zoned.timestamp())
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, self.0.strftime(Self::FORMAT))
    }
}

impl FromStr for BackupId {
    type Err = InvalidId;

    /// Accepts the full name, or only its date and time.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let stamp = text.strip_prefix(Self::PREFIX).unwrap_or(text);
        let well_formed = stamp.len() == 15
            && stamp.bytes().enumerate().all(|(i, b)| {
                if i == 8 {
                    b == b'_'
                } else {
                    b.is_ascii_digit()
                }
            });
        if !well_formed {
            return Err(InvalidId::new(
                text,
                "a backup id such as mongo_backup-20260131_020000",
            ));
        }
        DateTime::strptime(Self::FORMAT, stamp)
            .map(Self)
            .map_err(|_| InvalidId::new(text, "a backup id such as mongo_backup-20260131_020000"))
    }
}
serde_as_string!(BackupId);

/// One run of the program that may acquire something: eight hexadecimal digits, chosen at random.
///
/// Short, because it becomes part of LV names, systemd unit names and mount points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u32);

impl RunId {
    /// A new random id.
    pub fn random() -> Self {
        let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self((high >> 32) as u32)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let well_formed =
            text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u32::from_str_radix(text, 16) {
            Ok(value) if well_formed => Ok(Self(value)),
            _ => Err(InvalidId::new(text, "a run id (eight hexadecimal digits)")),
        }
    }
}
serde_as_string!(RunId);

/// What a kept snapshot was taken for, as the operator says it: "before-upgrade".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// The label of one that was not given any: the moment.
    pub fn at(moment: Timestamp) -> Self {
        Self(moment.strftime("%Y%m%d_%H%M%S").to_string())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let well_formed = (1..=40).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with(['.', '-']);
        // What names a kept snapshot otherwise cannot be its label.
        if !well_formed || text == "latest" || text.parse::<RunId>().is_ok() {
            return Err(InvalidId::new(
                text,
                "a label (1 to 40 letters, digits, `.`, `_` and `-`; not \"latest\" and no run id)",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}
serde_as_string!(Label);

/// A replica set's name. Each member of a backup is named by its replica set, and so is its archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShardName(String);

impl ShardName {
    /// The name as MongoDB knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a file name: letters, digits, `_`, `-` and inner `.` stay, every other byte becomes `%XX`.
    pub fn file_stem(&self) -> String {
        let mut stem = String::with_capacity(self.0.len());
        for (i, byte) in self.0.bytes().enumerate() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => stem.push(byte as char),
                b'.' if i > 0 => stem.push('.'),
                other => stem.push_str(&format!("%{other:02X}")),
            }
        }
        stem
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShardName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() || text.len() > 64 || text.chars().any(char::is_control) {
            return Err(InvalidId::new(
                text,
                "a replica set name (1 to 64 bytes, no control characters)",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ShardName {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ShardName> for String {
    fn from(name: ShardName) -> Self {
        name.0
    }
}

/// Where a mongod listens: `host:port`, IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberAddr {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl MemberAddr {
    /// Whether both lead to one server of this host, or are written alike: `localhost` is whatever the loopback addresses are.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let same_host = self.host.eq_ignore_ascii_case(&other.host);
        self.port == other.port && (same_host || (self.is_loopback() && other.is_loopback()))
    }

    fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        address.is_ok_and(|address| address.is_loopback())
            || self.host.eq_ignore_ascii_case("localhost")
    }
}

impl fmt::Display for MemberAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for MemberAddr {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bad = || InvalidId::new(text, "host:port, such as db3.example.net:27017");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port: u16 = port.parse().map_err(|_| bad())?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bare {
            Some(v6) if v6.contains(':') => v6,
            Some(_) => return Err(bad()),
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        if host.is_empty()
            || host.contains(|c: char| c.is_whitespace() || "/@?,[]".contains(c))
            || port == 0
        {
            return Err(bad());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}
serde_as_string!(MemberAddr);

/// A place in a replica set's oplog: timestamp (seconds, increment) and election term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpTime {
    /// Seconds since the epoch.
    pub seconds: u32,
    /// Ordinal within the second.
    pub increment: u32,
    /// Election term; -1 before protocol version 1.
    pub term: i64,
}

impl fmt::Display for OpTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {}) t={}", self.seconds, self.increment, self.term)
    }
}

/// Which deployment a backup belongs to: a replica set's `settings.replicaSetId`, or for a
/// sharded cluster its `clusterId`; 24 hexadecimal digits. Two deployments under one store
/// prefix never mix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(String);

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeploymentId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() == 24 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::new(
                text,
                "a deployment id (24 hexadecimal digits)",
            ))
        }
    }
}
serde_as_string!(DeploymentId);

/// A BLAKE3 hash, 64 hexadecimal digits in writing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
        match blake3::Hash::from_hex(text) {
            Ok(hash) if lower => Ok(hash.into()),
            _ => Err(InvalidId::new(
                text,
                "a BLAKE3 hash (64 hexadecimal digits)",
            )),
        }
    }
}
serde_as_string!(Hash);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn backup_id_round_trips(seconds in 0i64..4_000_000_000) {
            let id = BackupId::at(Timestamp::from_second(seconds).unwrap());
            prop_assert_eq!(id.to_string().parse::<BackupId>().unwrap(), id);
            prop_assert_eq!(id.started().as_second(), seconds);
        }

        #[test]
        fn run_id_round_trips(value: u32) {
            let id = RunId(value);
            prop_assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        }

        #[test]
        fn member_addr_round_trips(host in "[a-z0-9.-]{1,20}|[0-9a-f]{1,4}:[0-9a-f:]{1,20}", port in 1u16..) {
            let addr = MemberAddr { host, port };
            prop_assert_eq!(addr.to_string().parse::<MemberAddr>().unwrap(), addr);
        }

        #[test]
        fn hash_round_trips(bytes: [u8; 32]) {
            prop_assert_eq!(Hash(bytes).to_string().parse::<Hash>().unwrap(), Hash(bytes));
        }

        #[test]
        fn parsers_never_panic(text in ".{0,80}") {
            let _ = text.parse::<BackupId>();
            let _ = text.parse::<RunId>();
            let _ = text.parse::<MemberAddr>();
            let _ = text.parse::<ShardName>();
            let _ = text.parse::<Hash>();
        }

        #[test]
        fn file_stem_is_one_safe_component(name in "[^\\p{Cc}]{1,16}") {
            if let Ok(shard) = name.parse::<ShardName>() {
                let stem = shard.file_stem();
                let leads_with_dot = stem.starts_with('.');
                prop_assert!(!stem.contains('/') && !leads_with_dot && stem.is_ascii());
            }
        }
    }

    #[test]
    fn backup_id_takes_the_short_form() {
        let id: BackupId = "20260131_020000".parse().unwrap();
        assert_eq!(id.to_string(), "mongo_backup-20260131_020000");
        for bad in [
            "",
            "mongo_backup-",
            "20260131-020000",
            "20261331_020000",
            "../20260131_020000",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn localhost_and_the_loopback_addresses_are_one_place() {
        let same = |one: &str, other: &str| {
            let parse = |text: &str| text.parse::<MemberAddr>().unwrap();
            parse(one).is_same_place(&parse(other))
        };
        assert!(same("localhost:27018", "127.0.0.1:27018"));
        assert!(same("LOCALHOST:27018", "[::1]:27018"));
        assert!(same("db3.example.net:1", "DB3.example.net:1"));
        assert!(!same("localhost:27018", "127.0.0.1:27019"));
        assert!(!same("localhost:1", "10.0.0.1:1"));
        assert!(!same("10.0.0.2:1", "10.0.0.1:1"));
    }

    #[test]
    fn member_addr_refuses_what_is_no_host_and_port() {
        for bad in [
            "", "h", "h:", ":1", "h:0", "h:70000", "a:b:1", "[h]:1", "u@h:1", "h/x:1",
        ] {
            assert!(bad.parse::<MemberAddr>().is_err(), "{bad}");
        }
    }
}
