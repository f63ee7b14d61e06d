//! What a run under hostile input must keep to: no panic on any thread, an end, and little memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// Counts what Rust code allocates. liblzma and zstd allocate by themselves and keep to limits that they are given.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn taken(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call is the system allocator's own, with the arguments that were given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        taken(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Far more than any input of the tests needs on a busy machine; an input that takes this long does not end.
const PATIENCE: Duration = Duration::from_secs(120);

/// One input on its way through one reader.
#[derive(Clone)]
pub struct Case {
    /// The target's name, and its corpus's.
    pub target: &'static str,
    /// How the input came to be, to be found again.
    pub origin: String,
    pub input: Vec<u8>,
}

impl Case {
    /// Puts the input where a person can take it into the corpus from.
    fn keep(&self) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hostile");
        std::fs::create_dir_all(&folder).unwrap();
        let hash = blake3::hash(&self.input).to_hex();
        let path = folder.join(format!("{}-{}", self.target, &hash[..16]));
        std::fs::write(&path, &self.input).unwrap();
        path
    }

    fn fail(&self, what: &str) -> ! {
        panic!(
            "{} ({}): {what}; the input is kept in {}",
            self.target,
            self.origin,
            self.keep().display()
        )
    }
}

static RUNNING: Mutex<Option<(Instant, Case)>> = Mutex::new(None);
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// Memory is counted for the whole process: one test at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static WATCH: Once = Once::new();
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    WATCH.call_once(|| {
        std::thread::spawn(watch);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Also on a thread whose end nobody looks at.
            if RUNNING
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some()
            {
                *PANICKED.lock().unwrap() = Some(info.to_string());
            } else {
                before(info);
            }
        }));
    });
    guard
}

fn watch() {
    loop {
        std::thread::park_timeout(Duration::from_secs(1));
        let running = RUNNING
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((began, case)) = running
            && began.elapsed() > PATIENCE
        {
            let kept = case.keep();
            eprintln!(
                "{} ({}) does not end; the input is kept in {}",
                case.target,
                case.origin,
                kept.display()
            );
            std::process::abort();
        }
    }
}

/// What `work` gives, and the most bytes that it took beside those that there were. To be called by who is [`alone`].
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let value = work();
    (value, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

/// Runs `work` on `case`; it must end, not panic, and take at most `memory` bytes more than there were. To be called by who
/// is [`alone`].
pub fn bounded<T>(case: &Case, memory: usize, work: impl FnOnce() -> T) -> T {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), case.clone()));
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let done = catch_unwind(AssertUnwindSafe(work));
    let peak = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let panicked = PANICKED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match (done, panicked) {
        (Ok(value), None) if peak <= memory => value,
        (Ok(_), None) => case.fail(&format!(
            "it took {peak} bytes of memory, more than {memory}"
        )),
        (_, said) => case.fail(&said.unwrap_or_else(|| "it panicked".into())),
    }
}

/// The seed of this run, told so that it can be repeated.
pub fn seed() -> u64 {
    let seed =
        from_environment("FREEZEFRAME_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("FREEZEFRAME_TEST_SEED={seed}");
    seed
}

/// `count` cases, times what is asked for: more by `FREEZEFRAME_TEST_ROUNDS=10`, a part of them by 0.25.
pub fn of_rounds(count: u64) -> u64 {
    let rounds: f64 = from_environment("FREEZEFRAME_TEST_ROUNDS").unwrap_or(1.0);
    ((count as f64 * rounds) as u64).max(1)
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no such number")),
    )
}

#[test]
fn what_goes_wrong_is_noticed() {
    let _alone = alone();
    let case = Case {
        target: "bounds",
        origin: "own test".into(),
        input: b"input".to_vec(),
    };
    let fails = |work: &dyn Fn()| {
        let failed = catch_unwind(AssertUnwindSafe(|| bounded(&case, 1 << 20, work)));
        let said = failed.unwrap_err().downcast::<String>().unwrap();
        let (_, kept) = said.rsplit_once("kept in ").unwrap();
        assert_eq!(std::fs::read(kept).unwrap(), b"input");
        *said
    };
    assert!(fails(&|| drop(std::hint::black_box(vec![1u8; 2 << 20]))).contains("bytes of memory"));
    assert!(fails(&|| panic!("on this thread")).contains("on this thread"));
    assert!(
        fails(&|| drop(std::thread::spawn(|| panic!("on another")).join())).contains("on another")
    );
    bounded(&case, 1 << 20, || {
        drop(std::hint::black_box(vec![1u8; 1000]))
    });
}
