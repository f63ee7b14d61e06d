//! `[s3]`: what a store in S3 needs besides its address.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Config;
use super::value::{Period, Size, written_as_string};
use crate::archive::Method;
use crate::manifest::MadeWith;
use crate::retention_lock::RetentionLock;

/// `[s3]`. Credentials are not here: they come from the standard chain (environment, profile, web identity,
/// instance role).
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// The server's address where it is not AWS: `http(s)://host:port`.
    pub endpoint: Option<Endpoint>,
    /// Region; absent: the standard chain's, and `us-east-1` where an endpoint is given and the chain has none.
    pub region: Option<String>,
    /// Put the bucket into the path and not into the host name, as most servers other than AWS need.
    pub path_style: bool,
    /// Profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A credentials file in place of `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// Storage class of new objects, such as `STANDARD_IA`.
    pub storage_class: Option<String>,
    /// Encryption by the server; absent: as the bucket says.
    pub encryption: Option<Encryption>,
    /// Key for `aws:kms`; absent: the account's default key.
    pub kms_key: Option<String>,
    /// Tags on every object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The object lock that each object of a backup gets; absent: as the bucket says.
    pub lock: Option<RetentionLock>,
    /// How what is sent is protected on its way.
    pub checksums: Checksums,
    /// Most parts an object may have; AWS allows 10,000, some others fewer.
    pub max_parts: u32,
    /// Memory for parts on their way, in bytes. Larger parts wait in a file instead.
    pub memory: Size,
    /// How long a call is tried again before the store counts as failed; of one that moves bytes, from its first failure on.
    pub retry_for: Period,
    /// How long one try may take, besides the time that its bytes need at 64 KiB a second.
    pub timeout: Period,
    /// Bytes a second that are sent at most.
    pub upload_limit: Option<Size>,
    /// Bytes a second that are received at most.
    pub download_limit: Option<Size>,
    /// HTTP proxy; absent: `HTTPS_PROXY` and its like in the environment.
    pub proxy: Option<ProxyUrl>,
    /// PEM file of the authorities to trust, besides the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: false,
            profile: None,
            credentials_file: None,
            storage_class: None,
            encryption: None,
            kms_key: None,
            tags: BTreeMap::new(),
            lock: None,
            checksums: Checksums::Md5,
            max_parts: 10_000,
            memory: Size(128 << 20),
            retry_for: Period(Duration::from_secs(15 * 60)),
            timeout: Period(Duration::from_secs(60)),
            upload_limit: None,
            download_limit: None,
            proxy: None,
            ca_file: None,
        }
    }
}

impl S3Config {
    /// The first pair of settings that cannot both be meant: the key to point at, what is wrong, what to write.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let rules = [
            (
                self.kms_key.is_some() && self.encryption != Some(Encryption::Kms),
                "kms_key",
                "kms_key is set, but encryption is not \"aws:kms\"",
                "add encryption = \"aws:kms\" to [s3], or remove kms_key",
            ),
            (
                !(2..=10_000).contains(&self.max_parts),
                "max_parts",
                "max_parts is below 2 or above 10,000, the most that S3 knows",
                "remove max_parts, or write the number that your provider documents",
            ),
            (
                self.memory.0 < 2 * MIN_PART,
                "memory",
                "memory holds less than two parts of the least size, 8 MiB",
                "write at least memory = \"16MiB\" in [s3]",
            ),
            (
                self.upload_limit.is_some_and(|limit| limit.0 == 0)
                    || self.download_limit.is_some_and(|limit| limit.0 == 0),
                "_limit",
                "a limit of nothing lets nothing through",
                "write bytes a second, such as upload_limit = \"50MiB\", or remove it",
            ),
        ];
        rules
            .into_iter()
            .find(|(broken, ..)| *broken)
            .map(|(_, key, message, fix)| (key, message, fix))
    }
}

impl Config {
    /// The settings that decide how long archives take.
    pub fn made_with(&self) -> MadeWith {
        let line = self.s3.upload_limit.filter(|_| self.store.url.is_s3());
        let level = match self.archive.method() {
            Method::Portable(level) => Some(level.preset()),
            Method::Fast | Method::Small => None,
        };
        MadeWith {
            level,
            threads: self.archive.thread_count().get() as u64,
            upload_limit: line.map(|limit| limit.0),
        }
    }
}

/// The least size of a part; S3 allows 5 MiB, and 8 MiB keeps the number of requests bearable.
pub const MIN_PART: u64 = 8 << 20;

/// Encryption at the server's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Encryption {
    /// Keys that S3 manages.
    #[serde(rename = "AES256")]
    Aes256,
    /// Keys in KMS.
    #[serde(rename = "aws:kms")]
    Kms,
}

/// How what is sent is protected on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksums {
    /// `Content-MD5`, which every server checks.
    Md5,
    /// The checksums the AWS SDK sends by default, which some servers refuse.
    Sdk,
}

/// An address without user information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text
            .strip_prefix("https://")
            .or_else(|| text.strip_prefix("http://"));
        match host {
            Some(host)
                if !host.is_empty() && !host.contains(['@', '?', '#', ' ']) && has_a_port(host) =>
            {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            // Not quoted: it may hold a password.
            _ => Err(
                "an endpoint is written \"https://host:port\", without user or password".to_owned(),
            ),
        }
    }
}

/// Whether the port of `host:port/path`, where one is written, is one.
fn has_a_port(host: &str) -> bool {
    let authority = host.split('/').next().unwrap_or_default();
    // An address of IPv6 has colons between its brackets.
    let port = match authority.rsplit_once(']') {
        Some((_, after)) => after.strip_prefix(':'),
        None => authority.split_once(':').map(|(_, port)| port),
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
written_as_string!(Endpoint);

/// A proxy's address; what it shows of itself holds no password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// The address with user and password, for the connection only.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it holds a password.
    pub fn is_secret(&self) -> bool {
        self.0.contains('@')
    }
}

impl FromStr for ProxyUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = text.starts_with("http://") || text.starts_with("https://");
        if known && !text.contains([' ', '?', '#']) {
            return Ok(Self(text.to_owned()));
        }
        Err("a proxy is written \"http://host:port\" or \"http://user:password@host:port\"".into())
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.split_once("://"), self.0.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => write!(f, "{scheme}://<redacted>@{host}"),
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
written_as_string!(ProxyUrl);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let proxy: ProxyUrl = "http://me:hunter2@proxy:3128".parse().unwrap();
        assert!(proxy.is_secret());
        assert_eq!(proxy.to_string(), "http://<redacted>@proxy:3128");
        assert!(!format!("{proxy:?}").contains("hunter2"));
        assert!(proxy.reveal().contains("hunter2"));
        let error = "https://me:hunter2@s3".parse::<Endpoint>().unwrap_err();
        assert!(!error.contains("hunter2"));
        for (text, right) in [
            ("http://127.0.0.1:9000", true),
            ("https://s3.example.net/x:y", true),
            ("http://[::1]:9000/", true),
            ("http://[::1]", true),
            ("http://127.0.0.1:99999", false),
            ("http://127.0.0.1:", false),
            ("http://127.0.0.1:0", false),
        ] {
            assert_eq!(text.parse::<Endpoint>().is_ok(), right, "{text}");
        }
    }
}
