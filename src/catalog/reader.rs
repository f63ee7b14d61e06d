//! Readers' marks: `<set>/reading-<run>-<YYYYmmdd_HHMMSS>.json` keeps a backup from being pruned while somebody reads it, until the time in
//! its name. A reader that goes on makes a new one before.

use jiff::Timestamp;
use serde::Serialize;

use super::key;
use crate::ids::{BackupId, RunId};
use crate::store::ObjectInfo;

const PREFIX: &str = "reading-";
const SUFFIX: &str = ".json";

/// A reader's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reader {
    /// The run that reads.
    pub run: RunId,
    /// When the mark counts no more; whole seconds.
    pub until: Timestamp,
}

impl Reader {
    /// A mark of `run` until `until`, cut to the second.
    pub fn new(run: RunId, until: Timestamp) -> Self {
        Self {
            run,
            until: BackupId::at(until).started(),
        }
    }

    /// The name of its object in the set.
    pub fn object(&self) -> String {
        let until = self.until.strftime("%Y%m%d_%H%M%S");
        format!("{PREFIX}{}-{until}{SUFFIX}", self.run)
    }

    /// The mark whose object has this name; none where it is another object's.
    pub fn of(object: &str) -> Option<Self> {
        let name = object.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (run, until) = name.split_once('-')?;
        let (run, until) = (run.parse().ok()?, until.parse::<BackupId>().ok()?);
        let mark = Self::new(run, until.started());
        (mark.object() == object).then_some(mark)
    }
}

/// The marks on `id` in the listing.
pub fn readers(id: BackupId, listed: &[ObjectInfo]) -> Vec<Reader> {
    let folder = key(id, "");
    let names = listed
        .iter()
        .filter_map(|object| object.key.strip_prefix(&folder));
    names.filter_map(Reader::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn marks_are_told_by_their_names(run: u32, until in 0i64..4_000_000_000, other in "[a-z0-9._-]{0,40}") {
            let run: RunId = format!("{run:08x}").parse().unwrap();
            let mark = Reader::new(run, Timestamp::from_second(until).unwrap());
            assert_eq!(Reader::of(&mark.object()), Some(mark));
            assert_eq!(Reader::of(&format!("{other}.tar.xz")), None);
            for name in [other.clone(), format!("reading-{other}.json")] {
                if let Some(mark) = Reader::of(&name) {
                    assert_eq!(mark.object(), name);
                }
            }
        }
    }
}
