//! Work that blocks, kept off the async threads.

/// Runs `work` on a thread that may block, and gives what it gives. A panic in it goes on here.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is being shut down cancels; it polls nobody any more.
            Err(_) => std::future::pending().await,
        },
    }
}
