//! `[[copy]]`: further stores, to which every backup of the first is copied.

use serde::{Deserialize, Serialize};

use super::s3::S3Config;
use super::{Config, RetentionConfig, StoreConfig, StoreUrl};
use crate::retention::Rules;

/// One `[[copy]]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CopyConfig {
    /// As `[store] url`.
    pub url: StoreUrl,
    /// As `[store] read_back`.
    #[serde(default = "StoreConfig::reads_back")]
    pub read_back: bool,
    /// Which backups stay there, and so which are copied at all.
    #[serde(default)]
    pub retention: RetentionConfig,
    /// What this store needs in place of `[s3]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Config>,
}

impl CopyConfig {
    /// A store that the configuration says nothing of.
    pub fn unconfigured(url: StoreUrl) -> Self {
        Self {
            url,
            read_back: StoreConfig::reads_back(),
            retention: RetentionConfig::default(),
            s3: None,
        }
    }

    /// Which backups stay in it.
    pub fn rules(&self) -> Rules {
        self.retention.rules(self.url.is_s3())
    }
}

/// Where `[[copy]]` is pointed at.
const KEY: &str = "[[copy]]";

impl Config {
    /// The store to which backups are copied at `url`.
    pub fn copy_at(&self, url: &StoreUrl) -> Option<&CopyConfig> {
        self.copy.iter().find(|copy| copy.url == *url)
    }

    /// The first `[[copy]]` that cannot be meant, as [`Config::parse`] tells it.
    pub(super) fn copy_contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let mut known = vec![&self.store.url];
        for copy in &self.copy {
            if known.contains(&&copy.url) {
                return Some((
                    KEY,
                    "two of the stores have the same address",
                    "write each store once: the first in [store], where backups are made, the others in [[copy]]",
                ));
            }
            known.push(&copy.url);
        }
        let of_folder = |copy: &&CopyConfig| copy.s3.is_some() && !copy.url.is_s3();
        if self.copy.iter().any(|copy| of_folder(&copy)) {
            return Some((
                "[copy.s3]",
                "a store in a folder has no settings of S3",
                "remove [copy.s3], or write the address of a bucket",
            ));
        }
        self.copy.iter().find_map(|copy| {
            let retention = copy.retention.contradiction();
            let s3 = || copy.s3.as_ref().and_then(S3Config::contradiction);
            // A key stands in several tables: the table is pointed at.
            let in_copy = |at| move |(_, message, fix)| (at, message, fix);
            retention
                .map(in_copy("[copy.retention]"))
                .or_else(|| s3().map(in_copy("[copy.s3]")))
        })
    }
}
