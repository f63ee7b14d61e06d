//! External commands: argument vectors (never a shell), a timeout, captured output.
//!
//! Storage is driven through its own command lines; everything that starts one goes
//! through [`Exec`], so that a test can put a script of replies in its place.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getsid};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::human;
use crate::secret::without_secrets;

/// Bytes of a command's standard error that are told where it fails.
const LONGEST_TOLD: usize = 4096;

/// How soon a command is ended that may be.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// How long a killed command is waited for that has to be dead: it ends when the system call does that it is in.
const DIES_WITHIN: Duration = Duration::from_secs(10);

/// One command to run: program, arguments and how long it may take.
#[derive(Debug, Clone)]
pub struct Command {
    /// Program name, looked up in `PATH`, then in /usr/sbin and /sbin.
    pub program: Cow<'static, str>,
    /// Arguments, passed on as they are.
    pub args: Vec<OsString>,
    /// What it reads from its standard input.
    pub stdin: Vec<u8>,
    /// After this the command is killed, with all that it has started, and [`ExecError::TimedOut`] returned.
    pub timeout: Duration,
    /// Whether it goes before everything else that wants a processor: somebody stands still until it has ended.
    pub urgent: bool,
    /// Whether it must not outlive us: nothing else keeps what it does from being done after somebody looked for it.
    pub bound: bool,
    /// When this is cancelled the command is killed, with all that it has started, and [`ExecError::Interrupted`] returned.
    pub until: Option<CancellationToken>,
    /// Whether it has to be dead when we have done with it: something undoes what it does.
    pub buried: bool,
}

impl Command {
    /// How long a command may take unless said otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    /// A command with the default timeout.
    pub fn new<A: Into<OsString>>(
        program: impl Into<Cow<'static, str>>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            stdin: Vec::new(),
            timeout: Self::DEFAULT_TIMEOUT,
            urgent: false,
            bound: false,
            until: None,
            buried: false,
        }
    }

    /// The same command with another timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same command, with something to read.
    pub fn reads(mut self, stdin: Vec<u8>) -> Self {
        self.stdin = stdin;
        self
    }

    /// The same command, before everything else that wants a processor.
    pub fn urgent(mut self) -> Self {
        self.urgent = true;
        self
    }

    /// The same command, killed when the thread that runs it ends, whatever ends it.
    pub fn bound(mut self) -> Self {
        self.bound = true;
        self
    }

    fn is_unwanted(&self) -> bool {
        self.until
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled)
    }

    /// The same command, not begun or killed when that is cancelled.
    pub fn until(mut self, cancel: Option<&CancellationToken>) -> Self {
        self.until = cancel.cloned();
        self
    }

    /// The same command, waited for when it was killed.
    pub fn buried(mut self) -> Self {
        self.buried = true;
        self
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        for arg in &self.args {
            write!(f, " {}", arg.to_string_lossy())?;
        }
        Ok(())
    }
}

/// Why a command gave no usable answer.
#[derive(Debug, Error)]
pub enum ExecError {
    /// The program could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended with a non-zero status.
    #[error("`{command}` failed ({status}){}", after_colon(stderr))]
    Failed {
        /// The command line.
        command: String,
        /// Exit status or signal.
        status: String,
        /// What it wrote to standard error, trimmed.
        stderr: String,
    },
    /// It did not end in time and was killed.
    #[error("`{command}` did not end within {}", human::duration(*.timeout))]
    TimedOut {
        /// The command line.
        command: String,
        /// The limit that passed.
        timeout: Duration,
    },
    /// We were to end before it had.
    #[error("`{command}` was {}, since the run was interrupted", if *.begun { "killed" } else { "not begun" })]
    Interrupted {
        /// The command line.
        command: String,
        /// Whether anything of it was done.
        begun: bool,
    },
}

fn after_colon(said: &str) -> String {
    match said.is_empty() {
        true => String::new(),
        false => format!(": {said}"),
    }
}

/// Runs commands and gives their standard output.
pub trait Exec: Send + Sync + fmt::Debug {
    /// Runs `command` to its end; blocks the calling thread.
    ///
    /// # Errors
    /// [`ExecError`] when it cannot be started, fails or takes too long.
    fn run(&self, command: &Command) -> Result<String, ExecError>;
}

/// A shared handle on whatever runs commands.
pub type SharedExec = Arc<dyn Exec>;

/// Runs real processes, by way of duct.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemExec;

impl Exec for SystemExec {
    fn run(&self, command: &Command) -> Result<String, ExecError> {
        if command.is_unwanted() {
            return Err(interrupted(command, false));
        }
        let started = Instant::now();
        let start_error = |source| ExecError::Start {
            command: command.to_string(),
            source,
        };
        let path = search_path(std::env::var_os("PATH"));
        // LVM warns about descriptors and locales it does not know; a C locale keeps messages parseable.
        let handle = duct::cmd(command.program.as_ref(), &command.args)
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("LVM_SUPPRESS_FD_WARNINGS", "1")
            // Ctrl-C is for us: an lvremove that is cleaning up must not be hit by it.
            .before_spawn({
                let (urgent, bound) = (command.urgent, command.bound);
                move |process| {
                    process.process_group(0);
                    without_secrets(process);
                    if urgent {
                        go_first(process);
                    }
                    if bound {
                        end_with_us(process);
                    }
                    Ok(())
                }
            })
            .stdin_bytes(command.stdin.clone())
            .stdout_capture()
            .stderr_capture()
            .unchecked()
            .start()
            .map_err(start_error)?;
        let output = match ended_in_time(&handle, command, started).map_err(start_error)? {
            Ok(output) => output,
            Err(unended) => {
                end(&handle, command);
                return Err(unended);
            }
        };
        let took = human::duration(started.elapsed());
        tracing::trace!("ran `{command}` in {took}: {}", output.status);
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(ExecError::Failed {
                command: command.to_string(),
                status: output.status.to_string(),
                stderr: end_of(&output.stderr),
            })
        }
    }
}

/// What `command` ended with, or why it has to be killed.
fn ended_in_time(
    handle: &duct::Handle,
    command: &Command,
    started: Instant,
) -> std::io::Result<Result<Output, ExecError>> {
    let Some(cancel) = &command.until else {
        let ended = handle.wait_timeout(command.timeout)?.cloned();
        return Ok(ended.ok_or_else(|| timed_out(command)));
    };
    loop {
        let left = command.timeout.saturating_sub(started.elapsed());
        if let Some(output) = handle.wait_timeout(left.min(LOOKS_EVERY))? {
            return Ok(Ok(output.clone()));
        }
        if cancel.is_cancelled() {
            return Ok(Err(interrupted(command, true)));
        }
        if left.is_zero() {
            return Ok(Err(timed_out(command)));
        }
    }
}

/// Kills it with what it has started.
fn end(handle: &duct::Handle, command: &Command) {
    // Each is the leader of a group.
    for pid in handle.pids() {
        kill_group(Pid::from_raw(pid.cast_signed()));
    }
    // A process in uninterruptible sleep cannot be reaped now; the error matters more than the zombie.
    if let Err(error) = handle.kill() {
        tracing::warn!(%command, %error, "cannot kill a command that is to end");
    }
    if command.buried && matches!(handle.wait_timeout(DIES_WITHIN), Ok(None)) {
        tracing::warn!(%command, "was killed and has not ended yet: what it does may still come");
    }
}

fn interrupted(command: &Command, begun: bool) -> ExecError {
    ExecError::Interrupted {
        command: command.to_string(),
        begun,
    }
}

fn timed_out(command: &Command) -> ExecError {
    ExecError::TimedOut {
        command: command.to_string(),
        timeout: command.timeout,
    }
}

/// Where programs are looked for: where we were told to, then where a host's administrative ones lie. cron tells its jobs nothing of those, which LVM's are among.
fn search_path(told: Option<OsString>) -> OsString {
    let told = told.unwrap_or_else(|| "/usr/bin:/bin".into());
    let mut folders: Vec<PathBuf> = std::env::split_paths(&told).collect();
    for folder in ["/usr/sbin", "/sbin"] {
        if !folders.iter().any(|told| told == Path::new(folder)) {
            folders.push(folder.into());
        }
    }
    // What was split at colons has none.
    std::env::join_paths(folders).unwrap_or(told)
}

/// The end of what a command wrote, where it is long: the last lines say why.
fn end_of(written: &[u8]) -> String {
    let from = written.len().saturating_sub(LONGEST_TOLD);
    let (cut, end) = match from {
        0 => ("", written),
        _ => ("[...] ", written.get(from..).unwrap_or_default()),
    };
    format!("{cut}{}", String::from_utf8_lossy(end).trim())
}

/// Kills the group of a command that we have started. Where nobody has waited for its leader its number is ours; else it may be another's by now, but hardly
/// of our session.
fn kill_group(leader: Pid) {
    let ours = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    if waitid(Id::Pid(leader), ours).is_ok() || is_of_our_session(leader) {
        let _ = killpg(leader, Signal::SIGKILL);
    }
}

/// Whether any process of our session is of that group.
fn is_of_our_session(group: Pid) -> bool {
    let Ok(session) = getsid(None) else {
        return false;
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut stats =
        processes.filter_map(|one| std::fs::read_to_string(one.path().join("stat")).ok());
    stats.any(|stat| {
        // Name in parentheses, state, parent, group, session: proc_pid_stat(5).
        let after_name = stat.rsplit_once(") ").map(|(_, rest)| rest);
        let mut numbers = after_name
            .into_iter()
            .flat_map(str::split_whitespace)
            .skip(2);
        let mut is =
            |pid: Pid| numbers.next().and_then(|one| one.parse().ok()) == Some(pid.as_raw());
        is(group) && is(session)
    })
}

/// Has a command run at the highest priority there is (nice -20). Where that is not allowed it runs as it would.
fn go_first(process: &mut std::process::Command) {
    // SAFETY: between fork and exec only this one system call is made, which takes no memory and no lock.
    unsafe {
        process.pre_exec(|| {
            nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, -20);
            Ok(())
        });
    }
}

/// Has the kernel kill a command when our thread is no more.
fn end_with_us(process: &mut std::process::Command) {
    // SAFETY: as above.
    unsafe {
        process.pre_exec(|| {
            nix::libc::prctl(nix::libc::PR_SET_PDEATHSIG, nix::libc::SIGKILL);
            Ok(())
        });
    }
}

/// Commands answered from a script, for tests of what cannot be provoked for real.
#[cfg(test)]
pub mod scripted {
    use super::*;
    use std::sync::Mutex;

    type Reply = Box<dyn Fn(&Command) -> Option<Result<String, ExecError>> + Send + Sync>;

    /// Answers each command with the first rule that knows it, and records what was asked.
    #[derive(Default)]
    pub struct ScriptedExec {
        rules: Vec<Reply>,
        /// Every command line run, in order.
        pub seen: Mutex<Vec<String>>,
    }

    impl fmt::Debug for ScriptedExec {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "ScriptedExec({} rules)", self.rules.len())
        }
    }

    impl ScriptedExec {
        /// Adds a rule: command lines that begin with `prefix` print `stdout`.
        pub fn on(mut self, prefix: &'static str, stdout: impl Into<String>) -> Self {
            let stdout = stdout.into();
            self.rules.push(Box::new(move |c| {
                c.to_string()
                    .starts_with(prefix)
                    .then(|| Ok(stdout.clone()))
            }));
            self
        }

        /// Adds a rule: command lines that begin with `prefix` fail with `stderr`.
        pub fn fail(mut self, prefix: &'static str, stderr: &'static str) -> Self {
            self.rules.push(Box::new(move |c| {
                c.to_string().starts_with(prefix).then(|| {
                    Err(ExecError::Failed {
                        command: c.to_string(),
                        status: "exit status: 5".into(),
                        stderr: stderr.into(),
                    })
                })
            }));
            self
        }
    }

    impl Exec for ScriptedExec {
        fn run(&self, command: &Command) -> Result<String, ExecError> {
            self.seen.lock().unwrap().push(command.to_string());
            self.rules
                .iter()
                .find_map(|rule| rule(command))
                .unwrap_or_else(|| panic!("no rule for `{command}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrative_programs_are_found_where_path_lacks_them() {
        let path = |told: Option<&str>| search_path(told.map(Into::into)).into_string().unwrap();
        assert_eq!(path(Some("/usr/bin:/bin")), "/usr/bin:/bin:/usr/sbin:/sbin");
        assert_eq!(
            path(Some("/x:/usr/sbin:/sbin:/bin")),
            "/x:/usr/sbin:/sbin:/bin"
        );
        assert_eq!(path(None), "/usr/bin:/bin:/usr/sbin:/sbin");
    }

    #[test]
    fn gives_output_errors_and_timeouts() {
        assert_eq!(
            SystemExec.run(&Command::new("echo", ["a b", "c"])).unwrap(),
            "a b c\n"
        );
        let failed = SystemExec
            .run(&Command::new("ls", ["/does/not/exist"]))
            .unwrap_err();
        assert!(failed.to_string().contains("/does/not/exist"), "{failed}");
        let slow = Command::new("sleep", ["60"]).timeout(Duration::from_millis(50));
        assert!(matches!(
            SystemExec.run(&slow),
            Err(ExecError::TimedOut { .. })
        ));
        assert!(matches!(
            SystemExec.run(&Command::new("no-such-program", [""; 0])),
            Err(ExecError::Start { .. })
        ));
    }
}
