//! Hours, days, weeks, months and years of UTC.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use strum::IntoEnumIterator;

use super::{KeepReason, Rules};

/// A span of the calendar, of each of which the newest backup can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
pub enum Span {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday on, as ISO 8601 counts them.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Span {
    /// All of them, the shortest first.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// Which one `at` is in: two moments are in the same one if these are the same.
    pub fn of(self, at: Timestamp) -> (i16, i16, i8) {
        let at = at.to_zoned(TimeZone::UTC).datetime();
        match self {
            Self::Hour => (at.year(), at.date().day_of_year(), at.hour()),
            Self::Day => (at.year(), at.date().day_of_year(), 0),
            Self::Week => {
                // The last days of December may be in the first week of the next year.
                let week = at.date().iso_week_date();
                (week.year(), week.week().into(), 0)
            }
            Self::Month => (at.year(), at.month().into(), 0),
            Self::Year => (at.year(), 0, 0),
        }
    }

    /// How many of them `rules` keep the newest backup of.
    pub fn wanted(self, rules: &Rules) -> u32 {
        match self {
            Self::Hour => rules.hourly,
            Self::Day => rules.daily,
            Self::Week => rules.weekly,
            Self::Month => rules.monthly,
            Self::Year => rules.yearly,
        }
    }

    /// Why the newest backup of one is kept.
    pub fn reason(self) -> KeepReason {
        match self {
            Self::Hour => KeepReason::Hourly,
            Self::Day => KeepReason::Daily,
            Self::Week => KeepReason::Weekly,
            Self::Month => KeepReason::Monthly,
            Self::Year => KeepReason::Yearly,
        }
    }
}
