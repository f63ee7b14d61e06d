//! How fast a device is written to, from the kernel's counters.
//! Format: the kernel's `Documentation/admin-guide/iostats.rst`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::SnapshotError;
use crate::volume::DevNumber;

/// A snapshot copies chunks of this size, whatever the size of the write.
const CHUNK: u64 = 4096;
const SECTOR: u64 = 512;

/// A device's write counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Writes completed.
    pub writes: u64,
    /// Sectors of 512 bytes written.
    pub sectors: u64,
}

impl Counters {
    /// Parses the content of a device's `stat` file.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace().skip(4);
        let writes = fields.next()?.parse().ok()?;
        let _merged = fields.next()?;
        let sectors = fields.next()?.parse().ok()?;
        Some(Self { writes, sectors })
    }

    fn read(sys: &Path, device: DevNumber) -> io::Result<Self> {
        let text = std::fs::read_to_string(sys.join(format!("dev/block/{device}/stat")))?;
        Self::parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("not understood: {text:?}"),
            )
        })
    }
}

/// Bytes of copy-on-write space that writes between two readings can have cost in one second: every
/// write counts as at least one chunk. None when the counters went backwards: it is another device.
pub fn bytes_per_second(before: Counters, after: Counters, between: Duration) -> Option<u64> {
    let sectors = after.sectors.checked_sub(before.sectors)?;
    let writes = after.writes.checked_sub(before.writes)?;
    let bytes = sectors
        .saturating_mul(SECTOR)
        .max(writes.saturating_mul(CHUNK));
    let micros = between.as_micros().max(1);
    let rate = u128::from(bytes).saturating_mul(1_000_000) / micros;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}

/// Watches `devices` for `interval` (blocking) and gives each one's write rate in bytes a second.
///
/// # Errors
/// [`SnapshotError::Rate`] when a counter cannot be read or a device was replaced meanwhile.
pub fn measure(
    sys: &Path,
    devices: &[DevNumber],
    interval: Duration,
) -> Result<BTreeMap<DevNumber, u64>, SnapshotError> {
    let read = |&device: &DevNumber| {
        let counters =
            Counters::read(sys, device).map_err(|source| SnapshotError::Rate { device, source })?;
        Ok((device, counters, Instant::now()))
    };
    let before: Vec<_> = devices
        .iter()
        .map(read)
        .collect::<Result<_, SnapshotError>>()?;
    std::thread::sleep(interval);
    before
        .into_iter()
        .map(|(device, before, then)| {
            let (_, after, now) = read(&device)?;
            let rate =
                bytes_per_second(before, after, now.duration_since(then)).ok_or_else(|| {
                    SnapshotError::Rate {
                        device,
                        source: io::Error::other("its counters went backwards"),
                    }
                })?;
            Ok((device, rate))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From an LV on a 6.1 kernel.
    const RECORDED: &str = "     561        0    13238      910     3047        0   240539   116310        0     1910   130890    32768        0  2097152    13670        0        0\n";

    #[test]
    fn reads_a_recorded_stat() {
        assert_eq!(
            Counters::parse(RECORDED),
            Some(Counters {
                writes: 3047,
                sectors: 240_539
            })
        );
        assert_eq!(Counters::parse("1 2 3 4 5 6\n"), None);
        assert_eq!(Counters::parse(""), None);
    }

    #[test]
    fn rates() {
        let counters = |writes, sectors| Counters { writes, sectors };
        let second = Duration::from_secs(1);
        let cases = [
            (counters(0, 0), counters(0, 0), second, Some(0)),
            (
                counters(10, 1000),
                counters(20, 205_800),
                second,
                Some(204_800 * 512),
            ),
            (
                counters(0, 0),
                counters(100, 204_800),
                second * 10,
                Some(204_800 * 512 / 10),
            ),
            // A hundred writes of one sector each copy a hundred chunks.
            (counters(0, 0), counters(100, 100), second, Some(100 * 4096)),
            (counters(0, 1), counters(0, 0), second, None),
            (counters(1, 0), counters(0, 0), second, None),
            (
                counters(0, 0),
                counters(0, u64::MAX),
                Duration::ZERO,
                Some(u64::MAX),
            ),
        ];
        for (before, after, between, expected) in cases {
            assert_eq!(
                bytes_per_second(before, after, between),
                expected,
                "{before:?} {after:?} {between:?}"
            );
        }
    }

    #[test]
    fn measures_a_device_and_names_one_that_is_missing() {
        let sys = tempfile::tempdir().unwrap();
        let device = DevNumber {
            major: 254,
            minor: 0,
        };
        let dir = sys.path().join("dev/block/254:0");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("stat"), RECORDED).unwrap();
        let rates = measure(sys.path(), &[device], Duration::ZERO).unwrap();
        assert_eq!(rates.get(&device), Some(&0));
        let missing = DevNumber {
            major: 254,
            minor: 1,
        };
        let error = measure(sys.path(), &[missing], Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("254:1"), "{error}");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ 0-9a-z]{0,80}", a: (u64, u64), b: (u64, u64), nanos: u64) {
            let _ = Counters::parse(&text);
            let counters = |(writes, sectors)| Counters { writes, sectors };
            let _ = bytes_per_second(counters(a), counters(b), Duration::from_nanos(nanos));
        }
    }
}
