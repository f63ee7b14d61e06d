//! How full a snapshot's space is, as the kernel counts it, and which devices there are: what `dmsetup status` and `dmsetup info` print.

use std::collections::BTreeMap;

/// Space of a classic snapshot, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CowStatus {
    /// The snapshot is good.
    Valid {
        /// Bytes used, its own tables included.
        used: u64,
        /// Bytes there are.
        total: u64,
    },
    /// It overflowed or failed; its content is worthless.
    Invalid,
}

impl CowStatus {
    /// Parses what `dmsetup status` prints of one snapshot: `0 2097152 snapshot 16/65536 16`, in sectors, or a
    /// word such as `Invalid` (drivers/md/dm-snap.c). None for anything that is no snapshot.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace().skip(2);
        if fields.next()? != "snapshot" {
            return None;
        }
        let state = fields.next()?;
        let Some((used, total)) = state.split_once('/') else {
            // "Invalid", "Overflow", "Merge failed", "Unknown": in none of them can it be relied on.
            return state
                .starts_with(|c: char| c.is_ascii_alphabetic())
                .then_some(Self::Invalid);
        };
        let bytes = |sectors: &str| sectors.parse::<u64>().ok()?.checked_mul(512);
        Some(Self::Valid {
            used: bytes(used)?,
            total: bytes(total)?,
        })
    }
}

/// Space of a thin pool, as the kernel counts it, in blocks of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// Of its data.
    pub data: Blocks,
    /// Of its metadata.
    pub metadata: Blocks,
    /// Whether it takes writes: neither out of space, nor read-only, nor failed, nor in want of a repair.
    pub healthy: bool,
}

/// Blocks used of those there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// Used.
    pub used: u64,
    /// There are.
    pub total: u64,
}

impl Blocks {
    /// Those not used.
    pub fn free(self) -> u64 {
        self.total.saturating_sub(self.used)
    }

    /// The share used, 0 to 1.
    pub fn share(self) -> f64 {
        self.used as f64 / self.total.max(1) as f64
    }
}

impl PoolStatus {
    /// Parses what `dmsetup status` prints of a thin pool, whose fields the kernel's
    /// `Documentation/admin-guide/device-mapper/thin-provisioning.rst` names:
    /// `0 2097152 thin-pool 1 133/1024 1600/16384 - rw no_discard_passdown queue_if_no_space - 1024`, or `... thin-pool Fail`.
    /// None for anything that is no thin pool.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace().skip(2);
        if fields.next()? != "thin-pool" {
            return None;
        }
        let nothing = Blocks { used: 0, total: 0 };
        let failed = Self {
            data: nothing,
            metadata: nothing,
            healthy: false,
        };
        if fields.next()?.parse::<u64>().is_err() {
            return Some(failed);
        }
        let blocks = |field: &str| {
            let (used, total) = field.split_once('/')?;
            Some(Blocks {
                used: used.parse().ok()?,
                total: total.parse().ok()?,
            })
        };
        let metadata = blocks(fields.next()?)?;
        let data = blocks(fields.next()?)?;
        let rest: Vec<_> = fields.collect();
        Some(Self {
            data,
            metadata,
            healthy: rest.contains(&"rw") && !rest.contains(&"needs_check"),
        })
    }

    /// The share used of what is used most, 0 to 1.
    pub fn fill(self) -> f64 {
        self.data.share().max(self.metadata.share())
    }
}

/// The per cent that `lvmconfig` prints for `thin_pool_autoextend_threshold`. None for anything else.
pub fn threshold(text: &str) -> Option<u8> {
    let (name, value) = text.trim().split_once('=')?;
    (name == "thin_pool_autoextend_threshold")
        .then(|| value.parse().ok())
        .flatten()
}

/// The device-mapper devices, and how each of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceStates(BTreeMap<String, DeviceState>);

/// What LVM adds to a volume's name to name what it is built of; nobody else may use such names (lvm(8), "RESERVED NAMES").
const PARTS: [&str; 14] = [
    "_rimage_", "_rmeta_", "_mimage_", "_mlog", "_tdata", "_tmeta", "_cdata", "_cmeta", "_corig",
    "_cvol", "_wcorig", "_vdata", "_iorig", "_imeta",
];

/// How a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DeviceState {
    /// It stands still.
    suspended: bool,
    /// Nobody has it open: no process, no file system, and no table of another device, be it in force or waiting.
    unused: bool,
    tables: Tables,
}

/// Which tables a device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tables {
    /// None, or what is in force alone.
    Settled,
    /// One that was loaded and is not in force; none is.
    Waiting,
    /// One in force, and one that would replace it at the next resume.
    Both,
}

impl DeviceStates {
    /// Parses lines of `name:Active:1:Live`: whether it stands still, how often it is open, its tables.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (rest, tables) = line.trim().rsplit_once(':')?;
            let (rest, open) = rest.rsplit_once(':')?;
            let (name, state) = rest.rsplit_once(':')?;
            let state = DeviceState {
                suspended: state == "Suspended",
                unused: open == "0",
                tables: match tables {
                    "Inactive" => Tables::Waiting,
                    "Both" => Tables::Both,
                    _ => Tables::Settled,
                },
            };
            Some((name.to_owned(), state))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Whether there is a device of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether it stands still.
    pub fn is_suspended(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|state| state.suspended)
    }

    /// Whether it has never had a table in force, but one waits.
    pub fn is_unborn(&self, name: &str) -> bool {
        self.has_tables(name, Tables::Waiting)
    }

    /// Whether a table waits to replace the one in force.
    pub fn is_changing(&self, name: &str) -> bool {
        self.has_tables(name, Tables::Both)
    }

    fn has_tables(&self, name: &str, tables: Tables) -> bool {
        self.0.get(name).is_some_and(|state| state.tables == tables)
    }

    /// The devices of which LVM builds the volume or pool whose device has that name, and those of which it builds them (mirrors of raid volumes, their
    /// metadata, what a pool lies on), from the bottom up. Not a cache, whose devices bear its own name: cached volumes are refused.
    pub fn parts_of(&self, name: &str) -> Vec<&str> {
        let is_part = |device: &&str| {
            let rest = device.strip_prefix(name);
            rest.is_some_and(|rest| PARTS.iter().any(|part| rest.starts_with(part)))
        };
        let mut parts: Vec<_> = self.0.keys().map(String::as_str).filter(is_part).collect();
        // The name of what a part is built of begins with that part's.
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts
    }

    /// Whether it is there and nobody has it open.
    pub fn is_unused(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|state| state.unused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_kernels_status() {
        let valid = |used, total| Some(CowStatus::Valid { used, total });
        let cases = [
            (
                "0 2097152 snapshot 312536/2113536 1232\n",
                valid(312_536 * 512, 2_113_536 * 512),
            ),
            ("0 2097152 snapshot Invalid\n", Some(CowStatus::Invalid)),
            (
                "0 2097152 snapshot Merge failed\n",
                Some(CowStatus::Invalid),
            ),
            ("0 2097152 snapshot Overflow\n", Some(CowStatus::Invalid)),
            ("0 2097152 snapshot-origin 254:2\n", None),
            ("0 65536 linear \n", None),
            ("0 2097152 snapshot 1/\n", None),
            ("0 2097152 snapshot /\n", None),
            ("0 1 snapshot 1/99999999999999999999 1\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(CowStatus::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_threshold_is_read_as_lvm_prints_it() {
        assert_eq!(threshold("thin_pool_autoextend_threshold=80\n"), Some(80));
        for other in [
            "",
            "80",
            "snapshot_autoextend_threshold=80",
            "thin_pool_autoextend_threshold=x",
        ] {
            assert_eq!(threshold(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_pool_is_seen_as_the_kernel_prints_it() {
        let pool = |text: &str| PoolStatus::parse(text).map(|pool| (pool.fill(), pool.healthy));
        let rest = "no_discard_passdown queue_if_no_space - 1024";
        let good = format!("0 2097152 thin-pool 1 128/1024 4096/16384 - rw {rest}\n");
        assert_eq!(pool(&good), Some((0.25, true)));
        let by_metadata = format!("0 2097152 thin-pool 1 512/1024 4096/16384 - rw {rest}\n");
        assert_eq!(pool(&by_metadata), Some((0.5, true)));
        let full =
            format!("0 2097152 thin-pool 1 128/1024 16384/16384 - out_of_data_space {rest}\n");
        assert_eq!(pool(&full), Some((1.0, false)));
        let check = "0 2097152 thin-pool 1 1/1024 0/16384 - ro no_discard_passdown queue_if_no_space needs_check 1024";
        assert_eq!(pool(check), Some((1.0 / 1024.0, false)));
        assert_eq!(pool("0 2097152 thin-pool Fail"), Some((0.0, false)));
        assert_eq!(pool("0 2097152 thin 1600 2097151"), None);
        assert_eq!(pool(""), None);
    }

    proptest! {
        #[test]
        fn nothing_is_too_odd(text in "0 [0-9]{1,3} (thin-pool|snapshot) [ 0-9/a-zA-Z_-]{0,40}", other in ".{0,40}") {
            for text in [text, other] {
                let _ = (PoolStatus::parse(&text), CowStatus::parse(&text));
            }
        }
    }
}
