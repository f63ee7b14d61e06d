//! What is told to whoever asks often: the host as it is now, and the store as it was a few minutes ago, because asking it costs.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::look::{HostSeen, StoreSeen, Told, Unreached};

/// How long anybody waits for the store. Prometheus gives up after 10 s.
const PATIENCE: Duration = Duration::from_secs(7);
/// A store that takes longer does not answer.
const SILENT: Duration = Duration::from_secs(60);

/// An answer that is on its way.
type Answer = Pin<Box<dyn Future<Output = Result<Told, Unreached>> + Send>>;

/// Asks the store now and then.
pub struct Watcher {
    url: String,
    state_dir: PathBuf,
    refresh: Duration,
    ask: Box<dyn Fn() -> Answer + Send + Sync>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    told: Option<Arc<Told>>,
    failed: Option<Unreached>,
    /// When the last answer came.
    last: Option<Instant>,
    asking: Option<(Instant, JoinHandle<Result<Told, Unreached>>)>,
}

impl Watcher {
    /// One that asks the store at `url` by `ask`, not more often than every `refresh`.
    pub fn new(
        url: &str,
        state_dir: PathBuf,
        refresh: Duration,
        ask: impl Fn() -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self {
            url: url.to_owned(),
            state_dir,
            refresh,
            ask: Box::new(ask),
            heard: Mutex::default(),
        }
    }

    /// What is known now. Asks the store where that is due, and waits for it for a moment; where it takes longer, what it told before is told. One that does not
    /// answer at all is not asked a second time meanwhile.
    pub async fn look(&self) -> (StoreSeen, HostSeen) {
        let state_dir = self.state_dir.clone();
        let host = crate::blocking::off_thread(move || HostSeen::look(&state_dir)).await;
        // Who waits for another who waits has waited for the store as well.
        let began = Instant::now();
        let mut heard = self.heard.lock().await;
        if heard.asking.is_none() && self.is_due(&heard, &host) {
            heard.asking = Some((Instant::now(), tokio::spawn((self.ask)())));
        }
        if let Some((since, mut answer)) = heard.asking.take() {
            match tokio::time::timeout(PATIENCE.saturating_sub(began.elapsed()), &mut answer).await
            {
                Ok(answer) => heard.take(answer.unwrap_or_else(|error| {
                    Err(Unreached {
                        error: error.to_string(),
                        hint: None,
                    })
                })),
                Err(_) => {
                    if heard.told.is_none() || since.elapsed() > SILENT {
                        heard.failed = Some(Unreached::silent(&self.url, since.elapsed()));
                    }
                    heard.asking = Some((since, answer));
                }
            }
        }
        let store = StoreSeen {
            url: self.url.clone(),
            told: heard.told.as_deref().cloned(),
            failed: heard.failed.clone(),
        };
        (store, host)
    }

    /// Whether what was heard is too old: by the clock, or because a backup has ended since.
    fn is_due(&self, heard: &Heard, host: &HostSeen) -> bool {
        let asked = heard.told.as_ref().map(|told| told.asked);
        let ended = host.last_run.as_ref().map(|run| run.ended);
        // A run that ended in the future, by a clock that was set since, would have the store asked every time.
        let news = asked.zip(ended).is_some_and(|(asked, ended)| {
            heard.failed.is_none() && ended > asked && ended <= Timestamp::now()
        });
        news || heard.last.is_none_or(|last| last.elapsed() >= self.refresh)
    }
}

impl Heard {
    fn take(&mut self, answer: Result<Told, Unreached>) {
        self.last = Some(Instant::now());
        match answer {
            Ok(told) => {
                self.told = Some(Arc::new(told));
                self.failed = None;
            }
            // What it told before is as true as it was.
            Err(failed) => self.failed = Some(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A watcher whose store answers as `answer` says, and how often it was asked.
    fn watcher(
        answer: impl Fn(u32) -> Answer + Send + Sync + 'static,
    ) -> (Watcher, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let ask = move || answer(counted.fetch_add(1, Ordering::SeqCst));
        let refresh = Duration::from_secs(300);
        let watcher = Watcher::new("file:///b", "/nonexistent".into(), refresh, ask);
        (watcher, count)
    }

    fn told() -> Result<Told, Unreached> {
        Ok(Told {
            asked: Timestamp::now(),
            sets: Vec::new(),
            free: None,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_no_more_often_than_it_may_be() {
        let (watcher, count) = watcher(|_| Box::pin(async { told() }));
        for _ in 0..3 {
            assert!(watcher.look().await.0.told.is_some());
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
        tokio::time::advance(Duration::from_secs(301)).await;
        watcher.look().await;
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_asked_once_and_told_of_and_what_it_told_before_stays() {
        let (watcher, count) = watcher(|asked| {
            Box::pin(async move {
                match asked {
                    0 => told(),
                    _ => std::future::pending().await,
                }
            })
        });
        assert!(watcher.look().await.0.failed.is_none());
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(watcher.look().await.0.failed.is_none());
        tokio::time::advance(Duration::from_secs(1_000)).await;
        let store = watcher.look().await.0;
        assert!(
            store
                .failed
                .unwrap()
                .error
                .contains("has not answered for 1")
        );
        assert!(store.told.is_some());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_answers_again_is_up_again() {
        let (watcher, _) = watcher(|asked| {
            Box::pin(async move {
                match asked {
                    0 => Err(Unreached {
                        error: "gone".into(),
                        hint: None,
                    }),
                    _ => told(),
                }
            })
        });
        assert_eq!(watcher.look().await.0.failed.unwrap().error, "gone");
        tokio::time::advance(Duration::from_secs(301)).await;
        assert!(watcher.look().await.0.failed.is_none());
    }
}
