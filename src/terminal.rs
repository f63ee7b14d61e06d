//! Where the program meets a person: log lines, progress bars, the last error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::error::Explain;
use crate::human;
use crate::progress::{Meter, Progress};
use crate::shown::without_controls;

/// How often a line is logged where no bar can be drawn.
const LOG_EVERY: Duration = Duration::from_secs(30);

/// Draws bars on a terminal; elsewhere logs a line now and then.
#[derive(Clone)]
pub struct Terminal {
    bars: MultiProgress,
    drawn: bool,
    running: Arc<Mutex<BTreeMap<String, Watched>>>,
}

struct Watched {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    /// Sets up logging on standard error: `RUST_LOG` where set, else by `verbose` and `quiet`.
    pub fn start(verbose: u8, quiet: bool) -> Self {
        let drawn = std::io::stderr().is_terminal() && !quiet;
        let terminal = Self {
            bars: MultiProgress::new(),
            drawn,
            running: Arc::default(),
        };
        let level = match (quiet, verbose) {
            (true, _) => "error",
            // What the SDK tries in vain is told by our own error, where it matters.
            (false, 0) => "warn,aws_config=error,freezeframe=info",
            (false, 1) => "warn,aws_config=error,freezeframe=debug",
            // Not what libraries tell of themselves: theirs may hold what is secret. RUST_LOG gives it to who asks.
            (false, _) => "warn,aws_config=error,freezeframe=trace",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_target(false)
            .with_writer(terminal.clone());
        // The journal stamps its lines itself.
        let stamped = std::env::var_os("JOURNAL_STREAM").is_none();
        if stamped {
            lines.with_ansi(drawn).init();
        } else {
            lines.with_ansi(false).without_time().init();
        }
        terminal
    }

    /// Prints an error, its causes and what to do about it.
    pub fn report(&self, error: &dyn Explain) {
        let mut text = format!("error: {error}");
        let mut said = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let message = error.to_string();
            // A transparent layer, or a message that quotes its cause, would say it twice.
            if !said.contains(&message) {
                let _ = write!(text, "\n  because: {message}");
                said = message;
            }
            cause = error.source();
        }
        if let Some(hint) = error.hint() {
            let _ = write!(text, "\n  hint: {hint}");
        }
        self.print(&without_controls(&text));
    }

    fn print(&self, text: &str) {
        use std::io::Write;
        // A closed standard error is no reason to fail, and there is nobody to tell.
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }
}

impl Progress for Terminal {
    fn begin(&self, phase: &str, meter: &Meter) {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (phase_name, meter, stopped) = (phase.to_owned(), meter.clone(), stop.clone());
        let bars = self.drawn.then(|| self.bars.clone());
        let thread = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || match bars {
                Some(bars) => draw(&bars, &phase_name, &meter, &stopped),
                None => log(&phase_name, &meter, &stopped),
            })
            .ok();
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(phase.to_owned(), Watched { stop, thread });
    }

    fn end(&self, phase: &str) {
        let watched = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(phase);
        if let Some(watched) = watched {
            watched
                .stop
                .store(true, std::sync::atomic::Ordering::Relaxed);
            if let Some(thread) = watched.thread {
                thread.thread().unpark();
                let _ = thread.join();
            }
        }
    }

    fn say(&self, line: &str) {
        tracing::info!("{line}");
    }
}

fn draw(bars: &MultiProgress, phase: &str, meter: &Meter, stopped: &std::sync::atomic::AtomicBool) {
    let style = ProgressStyle::with_template(
        "{prefix:<28} {bar:30} {bytes:>10} of {total_bytes:<10} {bytes_per_sec:>12} {eta:>5} left",
    );
    let bar = bars.add(ProgressBar::new(meter.expected()).with_prefix(phase.to_owned()));
    if let Ok(style) = style {
        bar.set_style(style);
    }
    while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
        bar.set_length(meter.expected().max(meter.done()));
        bar.set_position(meter.done());
        std::thread::park_timeout(Duration::from_millis(200));
    }
    bar.finish_and_clear();
}

fn log(phase: &str, meter: &Meter, stopped: &std::sync::atomic::AtomicBool) {
    let began = Instant::now();
    let mut logged = began;
    while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
        std::thread::park_timeout(LOG_EVERY);
        if logged.elapsed() < LOG_EVERY {
            continue;
        }
        logged = Instant::now();
        let (done, expected) = (meter.done(), meter.expected());
        let rate = done as f64 / began.elapsed().as_secs_f64();
        // What is expected comes out of a manifest and may be any number.
        let left = expected.saturating_sub(done) as f64 / rate.max(1.0);
        tracing::info!(
            "{phase}: {} of {}, {}/s, {} left",
            human::size(done),
            human::size(expected),
            human::size(rate as u64),
            human::duration(Duration::from_secs(left as u64)),
        );
    }
}

/// Log lines go above the bars.
impl<'a> MakeWriter<'a> for Terminal {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine {
            bars: self.bars.clone(),
            line: Vec::new(),
        }
    }
}

/// One log line on its way to standard error.
pub struct LogLine {
    bars: MultiProgress,
    line: Vec<u8>,
}

impl std::io::Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.bars.suspend(|| {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), &line);
        });
    }
}
