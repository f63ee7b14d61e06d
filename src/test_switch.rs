//! Switches for the laboratory's tests: a fault at a boundary, and the ropes cut. Only in a build with debug assertions; a
//! release build does not look at them.
//!
//! - `FREEZEFRAME_SWITCH_FAULT="BOUNDARY N COMMAND"`: the Nth time the run comes to the boundary, the shell runs the command, and
//!   the run waits for it. The command finds the run's process id in `FREEZEFRAME_RUN_PID`. Several are a line each.
//! - `FREEZEFRAME_SWITCH_TRACE=FILE`: every boundary that is reached, a line each.
//! - `FREEZEFRAME_SWITCH_OFF="guard,timer"`: the guard does nothing unless told, the timer is not armed. With these the tests
//!   show that they would notice a database that stays locked.
//! - `FREEZEFRAME_SWITCH_OFF="lock"`: the members are not locked, though the run believes so. With this the tests show that they
//!   would notice a torn picture.
//! - `FREEZEFRAME_SWITCH_OFF="together"`: origins that were to stand still together do so one after the other. With this the tests show that they would
//!   notice a torn array.

use crate::backup::boundary::Boundary;

/// What keeps a database from staying locked when a run dies, or a picture from being torn, and can be switched off to see what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Rope {
    /// The guard's own unlocking: at the deadline, and when the run ends without a word.
    Guard,
    /// The recovery timer.
    Timer,
    /// The lock itself.
    Lock,
    /// That prepared origins stand still together.
    Together,
}

/// Whether a test has switched `rope` off.
pub fn is_off(rope: Rope) -> bool {
    cfg!(debug_assertions) && debug::listed("FREEZEFRAME_SWITCH_OFF", rope.into())
}

/// Does what a test has ordered for `boundary`.
pub fn boundary(boundary: Boundary) {
    if cfg!(debug_assertions) {
        debug::trace(boundary);
        debug::fault(boundary);
    }
}

mod debug {
    use std::collections::BTreeMap;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::sync::{Mutex, PoisonError};

    use super::Boundary;

    const FAULT: &str = "FREEZEFRAME_SWITCH_FAULT";
    const TRACE: &str = "FREEZEFRAME_SWITCH_TRACE";

    /// How often the boundary of each fault was reached.
    static REACHED: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

    pub fn listed(variable: &str, name: &str) -> bool {
        std::env::var(variable).is_ok_and(|value| value.split(',').any(|one| one == name))
    }

    pub fn trace(boundary: Boundary) {
        let Some(path) = std::env::var_os(TRACE) else {
            return;
        };
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        if let Err(error) = opened.and_then(|mut file| writeln!(file, "{boundary}")) {
            tracing::warn!(%error, "cannot write the trace");
        }
    }

    pub fn fault(boundary: Boundary) {
        let Ok(orders) = std::env::var(FAULT) else {
            return;
        };
        for order in orders.lines() {
            one(boundary, order);
        }
    }

    fn one(boundary: Boundary, order: &str) {
        let mut words = order.splitn(3, ' ');
        let (Some(wanted), Some(nth), Some(command)) = (words.next(), words.next(), words.next())
        else {
            tracing::error!("{FAULT} is not \"BOUNDARY N COMMAND\"");
            return;
        };
        if wanted != boundary.to_string() {
            return;
        }
        let reached = {
            let mut all = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
            let count = all.entry(order.to_owned()).or_default();
            *count = count.saturating_add(1);
            *count
        };
        if nth.parse() != Ok(reached) {
            return;
        }
        let done = Command::new("sh")
            .args(["-c", command])
            .env_remove(FAULT)
            .env_remove(TRACE)
            .env("FREEZEFRAME_RUN_PID", std::process::id().to_string())
            .stdin(Stdio::null())
            .status();
        if let Err(error) = done {
            tracing::error!(%error, "the ordered fault did not happen");
        }
    }
}
