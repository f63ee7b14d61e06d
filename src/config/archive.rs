//! `[archive]`: how archives are made.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::archive::{Level, Method, Profile};

/// More threads gain nothing, and each takes memory.
pub const MOST_THREADS: usize = 256;

/// `[archive]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Archive profile.
    pub profile: Profile,
    /// xz level of `portable`, 0 to 9; absent: its default.
    pub level: Option<u32>,
    /// Compression threads; absent: one for each core.
    pub threads: Option<NonZeroUsize>,
    /// Archive `diagnostic.data` too.
    pub diagnostic_data: bool,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            profile: Profile::Portable,
            level: None,
            threads: None,
            diagnostic_data: false,
        }
    }
}

impl ArchiveConfig {
    /// Profile and level.
    pub fn method(&self) -> Method {
        let level = self.level.and_then(Level::new);
        // A level that the profile does not know was refused when the configuration was read.
        Method::new(self.profile, level).unwrap_or_default()
    }

    /// The threads to use on this host.
    pub fn thread_count(&self) -> NonZeroUsize {
        self.threads
            .or_else(|| std::thread::available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN)
    }

    /// The first pair of settings that cannot both be meant, as [`super::Config::parse`] tells it.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        let rules = [
            (
                self.level.is_some_and(|level| level > 9),
                "level",
                "archive level is above 9",
                "choose a level from 0 (fastest) to 9; 1 is the default",
            ),
            (
                self.level.is_some() && self.profile != Profile::Portable,
                "level",
                "level is set but only the profile \"portable\" has levels",
                "remove level, or set profile = \"portable\"",
            ),
            (
                self.threads
                    .is_some_and(|threads| threads.get() > MOST_THREADS),
                "threads",
                "more than 256 compression threads",
                "remove threads (one for each core is the default), or choose fewer",
            ),
        ];
        rules
            .into_iter()
            .find(|(broken, ..)| *broken)
            .map(|(_, key, message, fix)| (key, message, fix))
    }
}
