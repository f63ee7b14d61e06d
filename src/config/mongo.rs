//! How mongod is found and reached, and what makes a member fit.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Period;
use crate::ids::MemberAddr;

/// `[mongodb]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MongoConfig {
    /// Members to back up; empty: every hidden secondary found on this host.
    pub members: Vec<MemberAddr>,
    /// Members on this host that are none of our business and not to be warned of.
    pub exclude: Vec<MemberAddr>,
    /// User with the minimum role; none: no authentication (or x.509).
    pub username: Option<String>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// Database the user is defined in.
    pub auth_source: String,
    /// Chosen by the driver unless given.
    pub auth_mechanism: Option<AuthMechanism>,
    /// Connect with TLS.
    pub tls: bool,
    /// Certificate authority of the servers.
    pub tls_ca_file: Option<PathBuf>,
    /// Client certificate and key, PEM, in one file.
    pub tls_certificate_key_file: Option<PathBuf>,
    /// File that holds the key's passphrase.
    pub tls_certificate_key_password_file: Option<PathBuf>,
    /// Back up a secondary that is not hidden.
    pub allow_visible_secondary: bool,
    /// Largest replication lag of a fit member.
    pub max_lag: Period,
    /// Smallest oplog window of a fit member.
    pub min_oplog_window: Period,
    /// How long a connection or a command outside the window may take.
    pub timeout: Period,
}

impl Default for MongoConfig {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            exclude: Vec::new(),
            username: None,
            password_file: None,
            auth_source: "admin".into(),
            auth_mechanism: None,
            tls: false,
            tls_ca_file: None,
            tls_certificate_key_file: None,
            tls_certificate_key_password_file: None,
            allow_visible_secondary: false,
            max_lag: Period(Duration::from_secs(10)),
            min_oplog_window: Period(Duration::from_secs(3600)),
            timeout: Period(Duration::from_secs(10)),
        }
    }
}

/// How a user proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum AuthMechanism {
    /// Password, SHA-1.
    #[serde(rename = "SCRAM-SHA-1")]
    ScramSha1,
    /// Password, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Client certificate.
    #[serde(rename = "MONGODB-X509")]
    X509,
}
