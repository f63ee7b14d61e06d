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

/// How far what can wait steps back behind what cannot: 0 to 19, and 10 is a tenth of a processor where another wants all of it.
const NICE: nix::libc::c_int = 10;

/// Runs `work` on a thread of its own that makes way for others, such as the mongod of this host, as does every thread that it starts.
pub fn making_way<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            // SAFETY: a system call without memory; with 0 it is about the calling thread alone (setpriority(2), BUGS). Where it fails the work is done as it would be.
            unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICE) };
            work()
        });
        working
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nice value of the calling thread (proc(5), stat, field 19).
    fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        after_name.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn what_makes_way_has_its_threads_make_way_and_nobody_else() {
        let before = nice();
        let (itself, started) = making_way(|| {
            let started = std::thread::spawn(nice).join().unwrap();
            (nice(), started)
        });
        assert_eq!((itself, started), (before.max(NICE), before.max(NICE)));
        assert_eq!(nice(), before);
    }
}
