//! `[retention]`: which backups `prune` leaves in the store.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Period;
use crate::retention::Rules;

/// A day, in seconds.
const DAY: u64 = 24 * 3600;

/// `[retention]`. A backup stays as long as any of these keeps it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// The newest backups that stay, however old they are.
    pub keep_last: u32,
    /// What is older than the newest backup by no more than this stays; absent: 7 days in a folder, 30 days in S3.
    pub keep_within: Option<Period>,
    /// The newest backup of each of the last so many hours that have one.
    pub hourly: u32,
    /// The same of days.
    pub daily: u32,
    /// The same of weeks, which begin on Monday.
    pub weekly: u32,
    /// The same of months.
    pub monthly: u32,
    /// The same of years.
    pub yearly: u32,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            // One that turns out damaged, and one more, must not have been the last.
            keep_last: 3,
            keep_within: None,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
        }
    }
}

impl RetentionConfig {
    /// The rules for a store that is in S3, or is a folder.
    pub fn rules(&self, in_s3: bool) -> Rules {
        let days = if in_s3 { 30 } else { 7 };
        let default = Period(Duration::from_secs(days * DAY));
        Rules {
            keep_last: self.keep_last,
            keep_within: self.keep_within.unwrap_or(default),
            hourly: self.hourly,
            daily: self.daily,
            weekly: self.weekly,
            monthly: self.monthly,
            yearly: self.yearly,
        }
    }

    /// The first setting that cannot be meant, as [`super::Config::parse`] tells it.
    pub(super) fn contradiction(&self) -> Option<(&'static str, &'static str, &'static str)> {
        (self.keep_last == 0).then_some((
            "keep_last",
            "keep_last is 0, and the newest backup always stays",
            "write keep_last = 1 or more to [retention]",
        ))
    }
}
