//! `[watch]` and `[metrics]`: from when on an operator is to hear of something, and how.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Period;

/// `[watch]`: the thresholds of `status`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Whose backups are watched.
    pub scope: WatchScope,
    /// How old the newest good backup may be.
    pub max_age: Period,
    /// By how many per cent the data may differ from those of the backup before.
    pub max_size_change: u32,
    /// How long ago the last verification may be; absent: nobody has to verify.
    pub max_verify_age: Option<Period>,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            scope: WatchScope::Host,
            // A day, and an hour for a timer that is late and a preflight that waits. While a backup is being made its predecessor may be older.
            max_age: Period(Duration::from_secs(25 * 3600)),
            max_size_change: 50,
            max_verify_age: None,
        }
    }
}

/// Whose backups are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchScope {
    /// Those of the replica sets that this host backed up last.
    Host,
    /// Every series of backups in the store.
    Store,
}

/// `[metrics]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where `metrics --listen` listens.
    pub listen: SocketAddr,
    /// How often it asks the store, at most.
    pub refresh: Period,
    /// File that every backup writes at its end, for node_exporter's textfile collector.
    pub textfile: Option<PathBuf>,
}

impl MetricsConfig {
    /// The port that is listened on unless another is named.
    const PORT: u16 = 9979;

    /// The first setting that cannot be meant, as [`super::Config::parse`] tells it.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let file = self.textfile.as_ref()?;
        // node_exporter reads no other, and would never tell.
        let read = file.is_absolute() && file.extension().is_some_and(|end| end == "prom");
        (!read).then_some((
            "textfile",
            "textfile is not an absolute path that ends in .prom, and node_exporter reads no other file",
            "write textfile = \"/var/lib/prometheus/node-exporter/freezeframe.prom\", or remove it from [metrics]",
        ))
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, Self::PORT)),
            refresh: Period(Duration::from_secs(5 * 60)),
            textfile: None,
        }
    }
}
