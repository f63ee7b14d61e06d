//! The second hand on the rope: a process of its own that unlocks whatever happens to us.
//!
//! `fsyncLock` outlives the client that took it. So before the first lock a child process is
//! connected to every member; from then on it does every unlock: when told, when its pipe to us
//! closes, when it is asked to end, or at the deadline. This file is our end of the pipe;
//! [`serve`] is the child.

pub mod give_back;
mod said;
pub mod serve;

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::backup::release::Tools;
use crate::error::{Exit, Explain};
use crate::ids::{MemberAddr, RunId};
use crate::mongo::{HostProcess, ServerProcess};
use crate::snapshot::LvmSnapshot;
pub use give_back::GivenBack;
use said::Said;

/// How long the guard may take to start and connect, or to answer where no database is involved.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the guard must know before the window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuardPlan {
    /// The run it guards.
    pub run: RunId,
    /// The members that will be locked, and the server processes they are; none where no lock is taken.
    pub members: Vec<(MemberAddr, ServerProcess)>,
    /// The processes of this host that they are, where that is known.
    #[serde(default)]
    pub hosts: Vec<(MemberAddr, HostProcess)>,
    /// What is taken in the window: its origins must not stand still after it.
    #[serde(default)]
    pub snapshots: Vec<LvmSnapshot>,
    /// The comment on the lock commands.
    pub comment: String,
    /// Longest time between arming and release.
    pub limit: Duration,
}

/// What we know of one member's lock when we ask for its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// The lock command was answered: exactly one lock of ours is there.
    Held,
    /// The lock command was sent and not answered: the lock is there, may land yet, or never will.
    Unsure,
}

/// From us to the guard, one JSON value a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum ToGuard {
    Plan(GuardPlan),
    Arm,
    Release {
        members: Vec<(MemberAddr, Expectation)>,
    },
}

/// From the guard to us, one JSON value a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(crate) enum FromGuard {
    Ready,
    Armed,
    CannotGuard {
        reason: String,
    },
    Released {
        members: Vec<Unlocked>,
    },
    Fired {
        cause: Cause,
        members: Vec<Unlocked>,
    },
}

/// Why the guard acted without being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The window lasted too long.
    Deadline,
    /// The run ended without a word.
    RunEnded,
    /// The guard was asked to end (SIGTERM).
    Terminated,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Deadline => "the window lasted longer than allowed",
            Self::RunEnded => "the run ended without a word",
            Self::Terminated => "the guard was asked to end",
        })
    }
}

/// How the guard gave one member back, and when (microseconds of the monotonic clock).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlocked {
    /// The member.
    pub member: MemberAddr,
    /// Unlock command sent.
    pub sent_us: i64,
    /// Its reply received.
    pub done_us: i64,
    /// What came of it.
    pub outcome: GivenBack,
}

/// Why the guard is of no use, or the window no longer valid.
#[derive(Debug, Error)]
pub enum GuardError {
    /// It could not be started.
    #[error("cannot start the guard: {0}")]
    Start(std::io::Error),
    /// It cannot do its work.
    #[error("the guard cannot guard: {reason}")]
    CannotGuard {
        /// What it said.
        reason: String,
    },
    /// It acted without being told; the database is unlocked and the window void.
    #[error("the guard unlocked the database: {cause}")]
    Fired {
        /// Why.
        cause: Cause,
        /// What it gave back.
        members: Vec<Unlocked>,
    },
    /// It ended or does not answer.
    #[error("the guard is gone{}", last_words(said))]
    Gone {
        /// What it, or whoever started it, last wrote to standard error.
        said: String,
    },
}

fn last_words(said: &str) -> String {
    match said.trim().lines().last() {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

impl Explain for GuardError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Fired { cause: Cause::Deadline, .. } => Some(
                "the snapshots, or with provider \"hold\" the archive, took too long: look at the storage's load, or raise \
                 [window] max_lock (with \"hold\": max_hold) if writes may wait that long on this member"
                    .into(),
            ),
            Self::Start(_) | Self::Gone { .. } => Some(
                "the guard is this same program, in a scope that systemd-run makes: see that both can be started, and \
                 the system's log for whoever ended it"
                    .into(),
            ),
            Self::CannotGuard { .. } | Self::Fired { .. } => None,
        }
    }

    fn exit(&self) -> Exit {
        Exit::BackupFailed
    }
}

/// A running guard.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    said: Said,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Guard {
    /// Starts a guard and waits until it is connected to every member.
    ///
    /// # Errors
    /// [`GuardError::Start`], [`GuardError::CannotGuard`], [`GuardError::Gone`]; nothing is locked yet.
    pub async fn start(plan: GuardPlan, tools: &Tools) -> Result<Self, GuardError> {
        let mut command = match tools.systemd {
            // A scope of its own: `systemctl stop` of our service must not take the guard along.
            Some(systemd) => {
                systemd.scope(&format!("freezeframe-guard-{}", plan.run), &tools.program)
            }
            None => Command::new(&tools.program),
        };
        // It talks to mongod alone. Its own password, where the environment holds it, it must have.
        let mut child = command
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("AWS_SESSION_TOKEN")
            .arg("--config")
            .arg(&tools.config)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Not in our process group: Ctrl-C on the terminal is for us alone.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(GuardError::Start)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GuardError::Gone {
                said: String::new(),
            });
        };
        let said = Said::listen(child.stderr.take());
        let mut guard = Self {
            child,
            said,
            to,
            from: BufReader::new(from).lines(),
        };
        guard.say(&ToGuard::Plan(plan)).await?;
        guard
            .expect_within(PATIENCE, |said| matches!(said, FromGuard::Ready))
            .await?;
        Ok(guard)
    }

    /// Starts the guard's deadline. Nothing may be locked before this returns.
    ///
    /// # Errors
    /// [`GuardError::Gone`] and whatever the guard says instead.
    pub async fn arm(&mut self) -> Result<(), GuardError> {
        self.say(&ToGuard::Arm).await?;
        self.expect_within(PATIENCE, |said| matches!(said, FromGuard::Armed))
            .await
    }

    /// Resolves only when the guard has acted on its own or is gone: then the window is void.
    pub async fn broken(&mut self) -> GuardError {
        match self.hear().await {
            Ok(FromGuard::Fired { cause, members }) => GuardError::Fired { cause, members },
            Ok(FromGuard::CannotGuard { reason }) => GuardError::CannotGuard { reason },
            Ok(_) => self.gone().await,
            Err(gone) => gone,
        }
    }

    /// Has the guard unlock `members` and waits at most `patience` for its report.
    ///
    /// # Errors
    /// [`GuardError::Fired`] when it had acted before, [`GuardError::Gone`] when the caller must unlock by itself.
    pub async fn release(
        &mut self,
        members: Vec<(MemberAddr, Expectation)>,
        patience: Duration,
    ) -> Result<Vec<Unlocked>, GuardError> {
        self.say(&ToGuard::Release { members }).await?;
        match tokio::time::timeout(patience, self.hear()).await {
            Ok(Ok(FromGuard::Released { members })) => Ok(members),
            Ok(Ok(FromGuard::Fired { cause, members })) => {
                Err(GuardError::Fired { cause, members })
            }
            Ok(Err(gone)) => Err(gone),
            Ok(Ok(_)) | Err(_) => Err(self.gone().await),
        }
    }

    /// Closes the pipe and waits for the guard's end, so that no process is left behind.
    pub async fn dismiss(self) {
        let Self {
            mut child,
            said: _said,
            to,
            from,
        } = self;
        drop((to, from));
        if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
            tracing::warn!(
                "the guard has not ended yet; it ends when every member has answered it"
            );
        }
    }

    async fn say(&mut self, message: &ToGuard) -> Result<(), GuardError> {
        match write_line(&mut self.to, message).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gone().await),
        }
    }

    async fn hear(&mut self) -> Result<FromGuard, GuardError> {
        let line = self.from.next_line().await.ok().flatten();
        match line.and_then(|line| serde_json::from_str(&line).ok()) {
            Some(said) => Ok(said),
            None => Err(self.gone().await),
        }
    }

    async fn gone(&self) -> GuardError {
        GuardError::Gone {
            said: self.said.last().await,
        }
    }

    async fn expect_within(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&FromGuard) -> bool,
    ) -> Result<(), GuardError> {
        match tokio::time::timeout(patience, self.hear()).await {
            Ok(Ok(said)) if wanted(&said) => Ok(()),
            Ok(Ok(FromGuard::CannotGuard { reason })) => Err(GuardError::CannotGuard { reason }),
            Ok(Ok(FromGuard::Fired { cause, members })) => {
                Err(GuardError::Fired { cause, members })
            }
            Ok(Err(gone)) => Err(gone),
            Ok(Ok(_)) | Err(_) => Err(self.gone().await),
        }
    }
}

async fn write_line<T: Serialize>(
    to: &mut (impl AsyncWriteExt + Unpin),
    message: &T,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}
