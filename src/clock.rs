//! The clock that the window is measured with.

use nix::time::{ClockId, clock_gettime};

/// Microseconds of `CLOCK_MONOTONIC`: the same in every process of this host, untouched by clock jumps.
pub fn monotonic_us() -> i64 {
    // Linux always has this clock; zero would only spoil a measurement.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec()
            .saturating_mul(1_000_000)
            .saturating_add(time.tv_nsec() / 1_000)
    })
}
