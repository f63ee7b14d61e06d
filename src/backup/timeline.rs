//! When each step of the window began and how long it took.

use std::sync::{Arc, Mutex, PoisonError};

use crate::backup::boundary::{Boundary, Step};
use crate::clock::monotonic_us;
use crate::manifest::StepRecord;

/// Collects steps from whatever thread does them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Timeline(Arc<Mutex<Vec<Noted>>>);

#[derive(Debug, Clone)]
struct Noted {
    step: Step,
    subject: String,
    start_us: i64,
    end_us: i64,
}

impl Timeline {
    /// Notes a step that was timed elsewhere, in microseconds of the monotonic clock.
    pub fn note(&self, step: Step, subject: impl Into<String>, start_us: i64, end_us: i64) {
        let noted = Noted {
            step,
            subject: subject.into(),
            start_us,
            end_us,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(noted);
    }

    /// Begins a step, which is over when what this returns is told so.
    pub fn begin(&self, step: Step, subject: impl Into<String>) -> Running {
        Boundary::Begun(step).reach();
        Running {
            timeline: self.clone(),
            step,
            subject: subject.into(),
            start_us: monotonic_us(),
        }
    }

    /// Times `work` as one step.
    pub async fn time<T>(
        &self,
        step: Step,
        subject: impl Into<String>,
        work: impl Future<Output = T>,
    ) -> T {
        let running = self.begin(step, subject);
        let value = work.await;
        running.end();
        value
    }

    /// The steps by beginning, their starts counted from `origin_us`.
    pub fn records(&self, origin_us: i64) -> Vec<StepRecord> {
        let mut steps = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        steps.sort_by_key(|step| (step.start_us, step.end_us));
        let record = |step: Noted| StepRecord {
            step: step.step.name().to_owned(),
            subject: step.subject,
            start_us: step.start_us.saturating_sub(origin_us),
            length_us: step
                .end_us
                .saturating_sub(step.start_us)
                .max(0)
                .unsigned_abs(),
        };
        steps.into_iter().map(record).collect()
    }
}

/// A step that is not over yet.
#[derive(Debug)]
pub struct Running {
    timeline: Timeline,
    step: Step,
    subject: String,
    /// When it began, in microseconds of the monotonic clock.
    pub start_us: i64,
}

impl Running {
    /// Notes that it is over now.
    pub fn end(self) {
        let end_us = monotonic_us();
        self.timeline
            .note(self.step, self.subject, self.start_us, end_us);
        Boundary::Ended(self.step).reach();
    }
}

/// How much of the window of `held_us` no step accounts for: our own overhead, in microseconds.
///
/// Steps are the outstanding calls to servers and providers; where they overlap they count once.
pub fn overhead_us(steps: &[StepRecord], held_us: u64) -> u64 {
    let end = i64::try_from(held_us).unwrap_or(i64::MAX);
    let mut spans: Vec<(i64, i64)> = steps
        .iter()
        .map(|step| {
            let length = i64::try_from(step.length_us).unwrap_or(i64::MAX);
            (
                step.start_us.max(0),
                step.start_us.saturating_add(length).min(end),
            )
        })
        .filter(|(from, to)| from < to)
        .collect();
    spans.sort_unstable();
    let (mut covered, mut reached) = (0i64, 0i64);
    for (from, to) in spans {
        covered += (to - from.max(reached)).max(0);
        reached = reached.max(to);
    }
    held_us.saturating_sub(covered.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(start_us: i64, length_us: u64) -> StepRecord {
        StepRecord {
            step: "s".into(),
            subject: String::new(),
            start_us,
            length_us,
        }
    }

    #[test]
    fn overhead_is_what_no_call_covers() {
        assert_eq!(overhead_us(&[], 100), 100);
        assert_eq!(overhead_us(&[step(0, 100)], 100), 0);
        assert_eq!(
            overhead_us(&[step(0, 40), step(20, 40), step(70, 20)], 100),
            20
        );
        // Steps before the window and beyond its end count only inside it.
        assert_eq!(overhead_us(&[step(-50, 60), step(90, 50)], 100), 80);
        assert_eq!(
            overhead_us(&[step(10, 30), step(12, 5), step(20, 10)], 50),
            20
        );
    }
}
