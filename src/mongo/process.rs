//! mongod as a process of this host: its identity, and which ports it listens on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identity of one server process, from `hello.topologyVersion.processId`: chosen anew at every
/// start, so a lock known to be ours is ours only in the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerProcess([u8; 12]);

impl ServerProcess {
    /// From the twelve bytes of the server's ObjectId.
    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for ServerProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ServerProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a server process id (24 hexadecimal digits)");
        let lower = text.bytes().all(|b| !b.is_ascii_uppercase());
        match mongodb::bson::oid::ObjectId::parse_str(text) {
            Ok(id) if lower => Ok(Self(id.bytes())),
            _ => Err(bad()),
        }
    }
}

impl Serialize for ServerProcess {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerProcess {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
