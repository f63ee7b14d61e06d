//! What the service manager is told, where one has started us: that the run has begun, and that it still turns.

use sd_notify::NotifyState;
use tokio::task::JoinHandle;

/// Tells the service manager that the run has begun, and from then on, as often as the unit's watchdog wants it, that it still turns: a run whose
/// tasks do not get their turn any more is ended by the service manager, and its guard unlocks.
#[derive(Debug)]
pub struct Heartbeat(Option<JoinHandle<()>>);

impl Heartbeat {
    /// Begins; nothing happens where no service manager listens. For the main process of a unit, within a runtime.
    pub fn begin() -> Self {
        tell(&[NotifyState::Ready]);
        let beating = sd_notify::watchdog_enabled().map(|limit| {
            tokio::spawn(async move {
                // Three times before the limit: one may come late on a busy host.
                let mut turns = tokio::time::interval(limit / 3);
                loop {
                    turns.tick().await;
                    tell(&[NotifyState::Watchdog]);
                }
            })
        });
        Self(beating)
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        if let Some(beating) = &self.0 {
            beating.abort();
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told that the run goes on");
    }
}
