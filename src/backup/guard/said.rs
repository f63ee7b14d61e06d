//! The last words of a guard: what it, or systemd-run, wrote to standard error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;

/// Bytes kept: the end of the last message.
const KEPT: usize = 4096;
/// How long the end of the stream is waited for once the guard seems gone: short, because members may be locked.
const PATIENCE: Duration = Duration::from_millis(100);

/// Listens until the guard closes its standard error, so that the guard never waits for a reader.
#[derive(Debug)]
pub(super) struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
}

impl Said {
    pub(super) fn listen(stderr: Option<ChildStderr>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = text.clone();
        let listening = tokio::spawn(async move {
            let Some(mut stderr) = stderr else { return };
            let mut chunk = [0; 512];
            while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
                let surplus = kept.len().saturating_sub(KEPT);
                kept.drain(..surplus);
            }
        });
        Self { text, listening }
    }

    /// What was said up to the end, or up to now where the end does not come.
    pub(super) async fn last(&self) -> String {
        let ended = async {
            while !self.listening.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, ended).await;
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}
