//! What is going on, for whoever watches: the library counts, the terminal draws.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes done of bytes expected, counted by the threads that move them.
///
/// Cheap to clone and to advance; a reader polls it.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    expected: AtomicU64,
}

impl Meter {
    /// A meter at zero that expects `expected` bytes (0: unknown).
    pub fn expecting(expected: u64) -> Self {
        let meter = Self::default();
        meter.0.expected.store(expected, Ordering::Relaxed);
        meter
    }

    /// Counts `bytes` as done.
    pub fn advance(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes done so far.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Bytes expected in all; 0 when unknown.
    pub fn expected(&self) -> u64 {
        self.0.expected.load(Ordering::Relaxed)
    }
}

/// Told about each phase of a long operation; implemented by the command line and by tests.
pub trait Progress: Send + Sync {
    /// A phase such as "archive rs0" begins; `meter` counts its bytes until [`Progress::end`] is called with the same name.
    fn begin(&self, phase: &str, meter: &Meter);
    /// The phase ended, well or not.
    fn end(&self, phase: &str);
    /// A line worth telling the operator between phases.
    fn say(&self, line: &str);
}

/// Tells nobody.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _phase: &str, _meter: &Meter) {}
    fn end(&self, _phase: &str) {}
    fn say(&self, _line: &str) {}
}
