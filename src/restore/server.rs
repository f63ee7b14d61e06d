//! A mongod of our own: on loopback, on a free port, for as long as we need it and no longer.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::doc;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::binary::MongodBinary;
use super::{RestoreError, log};
use crate::ids::{MemberAddr, ShardName};
use crate::manifest::StorageLayout;
use crate::mongo::facts::integer;
use crate::mongo::{self, Access, MongoError, Mongod};
use crate::secret::without_secrets;

/// How long mongod may recover its data before it answers. Long: the oplog between the last
/// stable checkpoint and the top is replayed on a disk that may be slow.
const READY_LIMIT: Duration = Duration::from_secs(3600);
/// How long it may take to stop: its last checkpoint writes what is dirty in the cache.
const STOP_LIMIT: Duration = Duration::from_secs(600);
/// After that it is asked to stop once more, by a signal, which is well where it is at it.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long one short command may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How often a free port is chosen anew when somebody else takes it first.
const PORT_TRIES: u32 = 5;
/// Pause between two looks at whether it listens.
const LOOK: Duration = Duration::from_millis(25);
/// WiredTiger cache. Bounded, because a restore runs beside whatever the host does.
const CACHE_GB: &str = "0.5";

/// What a private mongod is started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// To change local collections of a copied member: user data is seen as of the last stable
    /// checkpoint, and the oplog after it stays to be replayed by a later start as a replica set.
    Maintain,
    /// To read the state at the top of the oplog, replayed now; user writes are refused. Only for
    /// a copy that is thrown away: its next recovery as a replica set would start elsewhere.
    Inspect,
    /// To recover, under this name of a replica set: the end of the oplog is cut off at its first hole, the rest replayed.
    Recover(&'a ShardName),
}

/// A running mongod that ends with us at the latest.
#[derive(Debug)]
pub struct PrivateMongod {
    db_path: PathBuf,
    connection: Mongod,
    child: Child,
}

impl PrivateMongod {
    /// Starts `binary` on `db_path` and waits until it answers.
    ///
    /// It listens on a free port of 127.0.0.1 only, without authentication, sessions refresh,
    /// TTL deletion or diagnostic data. It logs to a directory made in `logs`, which goes when this does: `logs` is a place that
    /// somebody clears up should we be killed.
    ///
    /// # Errors
    /// [`RestoreError::DiedAtStart`] with the telling line of its log, [`RestoreError::NotReady`],
    /// [`RestoreError::Cancelled`], [`RestoreError::Io`].
    pub async fn start(
        binary: &MongodBinary,
        db_path: &Path,
        layout: &StorageLayout,
        purpose: Purpose<'_>,
        logs: &Path,
        cancel: &CancellationToken,
    ) -> Result<Self, RestoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let port = free_port()?;
            let args = arguments(db_path, layout, purpose, port);
            let mut child = Child::spawn(binary.path(), args, logs)?;
            let ready = child.ready(db_path, port);
            let outcome = tokio::select! {
                outcome = tokio::time::timeout(READY_LIMIT, ready) => outcome,
                () = cancel.cancelled() => return Err(RestoreError::Cancelled),
            };
            match outcome {
                Ok(Ok(connection)) => {
                    tracing::debug!(pid = child.pid, port, db_path = %db_path.display(), ?purpose, "private mongod is ready");
                    return Ok(Self {
                        db_path: db_path.to_owned(),
                        connection,
                        child,
                    });
                }
                Ok(Err(error)) if tries < PORT_TRIES && log::port_was_taken(&child.log()) => {
                    tracing::debug!(port, %error, "somebody else took the port; choosing another");
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Err(RestoreError::NotReady {
                        db_path: db_path.to_owned(),
                        limit: READY_LIMIT,
                        telling: child.telling(),
                    });
                }
            }
        }
    }

    /// The connection to it.
    pub fn connection(&self) -> &Mongod {
        &self.connection
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid
    }

    /// Why a command got no answer: the end of the process tells more than a broken connection.
    pub async fn explain(&mut self, error: MongoError) -> RestoreError {
        let unreachable = matches!(error, MongoError::Unreachable { .. });
        // The connection breaks before the process is gone.
        let grace = Duration::from_secs(10);
        match tokio::time::timeout(grace, self.child.ended()).await {
            Ok(status) if unreachable => RestoreError::Died {
                db_path: self.db_path.clone(),
                status,
                telling: self.child.telling(),
            },
            _ => error.into(),
        }
    }

    /// Stops it cleanly, so that everything is in a checkpoint and its files are closed.
    ///
    /// # Errors
    /// [`RestoreError::NotStopped`] when it had to be killed, [`RestoreError::Died`] when it ended otherwise than well.
    pub async fn stop(mut self) -> Result<(), RestoreError> {
        let shutdown = doc! { "shutdown": 1, "force": true };
        // The reply is mostly a closed connection; what counts is how the process ends.
        if let Err(error) = self.connection.run_on("admin", "shutdown", shutdown).await {
            tracing::debug!(%error, "shutdown was answered by the end of the connection");
            // Which may have ended before mongod was asked: see `connect`. Not by its port, which may be another's by now.
            if tokio::time::timeout(ASK_AGAIN, self.child.ended())
                .await
                .is_err()
            {
                self.child.ask_to_end();
            }
        }
        match tokio::time::timeout(STOP_LIMIT, self.child.ended()).await {
            Ok(_) if self.child.ended_well() => Ok(()),
            Ok(status) => Err(RestoreError::Died {
                telling: self.child.telling(),
                db_path: self.db_path,
                status,
            }),
            Err(_) => Err(RestoreError::NotStopped {
                db_path: self.db_path,
                limit: STOP_LIMIT,
            }),
        }
    }
}

fn arguments(
    db_path: &Path,
    layout: &StorageLayout,
    purpose: Purpose<'_>,
    port: u16,
) -> Vec<OsString> {
    let port = port.to_string();
    let mut args: Vec<OsString> = vec!["--dbpath".into(), db_path.into()];
    let mut push = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    push(&["--port", &port, "--bind_ip", "127.0.0.1", "--nounixsocket"]);
    push(&["--wiredTigerCacheSizeGB", CACHE_GB]);
    for parameter in [
        "disableLogicalSessionCacheRefresh=true",
        "ttlMonitorEnabled=false",
        "diagnosticDataCollectionEnabled=false",
    ] {
        push(&["--setParameter", parameter]);
    }
    match purpose {
        Purpose::Maintain => {}
        Purpose::Inspect => push(&["--setParameter", "recoverFromOplogAsStandalone=true"]),
        Purpose::Recover(replset) => push(&["--replSet", replset.as_str()]),
    }
    args.extend(layout_arguments(layout).map(OsString::from));
    args
}

/// What mongod must be told of how its files are laid out.
pub fn layout_arguments(layout: &StorageLayout) -> impl Iterator<Item = String> {
    let options = [
        (layout.directory_per_db, "--directoryperdb"),
        (
            layout.directory_for_indexes,
            "--wiredTigerDirectoryForIndexes",
        ),
    ];
    let wanted = options.into_iter().filter(|(wanted, _)| *wanted);
    wanted.map(|(_, option)| option.to_owned())
}

/// A port nobody listens on now; somebody may before mongod does.
fn free_port() -> Result<u16, RestoreError> {
    let find = || TcpListener::bind(("127.0.0.1", 0))?.local_addr();
    find()
        .map(|address| address.port())
        .map_err(RestoreError::io("find a free port on", "127.0.0.1"))
}

/// The process: killed when this is dropped, or when we die.
#[derive(Debug)]
struct Child {
    pid: u32,
    handle: Arc<duct::Handle>,
    end: watch::Receiver<Option<Result<std::process::ExitStatus, String>>>,
    scratch: TempDir,
}

impl Child {
    fn spawn(program: &Path, mut args: Vec<OsString>, logs: &Path) -> Result<Self, RestoreError> {
        let start = |source| RestoreError::Io {
            action: "start",
            path: program.to_owned(),
            source,
        };
        let scratch = tempfile::Builder::new()
            .prefix("freezeframe-mongod-")
            .tempdir_in(logs)
            .map_err(RestoreError::io("create a directory in", logs))?;
        args.extend(["--logpath".into(), scratch.path().join("log").into()]);
        let ours = nix::unistd::getpid();
        let command = duct::cmd(program, args)
            .stdin_null()
            .stdout_path(scratch.path().join("console"))
            .stderr_to_stdout()
            .unchecked()
            .before_spawn(move |command| {
                // A group of its own: Ctrl-C at the terminal is for us, we stop mongod ourselves.
                command.process_group(0);
                without_secrets(command);
                // SAFETY: between fork and exec only prctl and getppid run, which are async-signal-safe.
                unsafe {
                    command.pre_exec(move || {
                        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                        if nix::unistd::getppid() == ours {
                            Ok(())
                        } else {
                            // We died before the line above could arrange for it.
                            Err(nix::errno::Errno::ESRCH.into())
                        }
                    });
                }
                Ok(())
            });
        // The kernel sends the death signal when the *thread* that forked ends, and a runtime's threads
        // come and go. So the thread that starts mongod is the one that waits for it.
        let (started, start_outcome) = std::sync::mpsc::channel();
        let (ended, end) = watch::channel(None);
        std::thread::Builder::new()
            .name("private-mongod".into())
            .spawn(move || match command.start() {
                Ok(handle) => {
                    let handle = Arc::new(handle);
                    let _ = started.send(Ok(handle.clone()));
                    let status = handle.wait().map(|output| output.status);
                    ended.send_replace(Some(status.map_err(|error| error.to_string())));
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })
            .map_err(start)?;
        let handle = start_outcome
            .recv()
            .unwrap_or_else(|gone| Err(std::io::Error::other(gone)))
            .map_err(start)?;
        Ok(Self {
            pid: handle.pids().first().copied().unwrap_or_default(),
            handle,
            end,
            scratch,
        })
    }

    /// As by the command `shutdown`.
    fn ask_to_end(&self) {
        use duct::unix::HandleExt;
        if let Err(error) = self.handle.send_signal(nix::libc::SIGTERM) {
            tracing::debug!(pid = self.pid, %error, "it has ended, or cannot be asked to");
        }
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn telling(&self) -> String {
        log::telling(&self.log(), &self.scratch.path().join("console"))
    }

    /// Waits for its end and tells it.
    async fn ended(&mut self) -> String {
        match self.end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(status))) => status.to_string(),
            Ok(Some(Err(error))) => format!("cannot wait for it: {error}"),
            Ok(None) | Err(_) => "its end was not seen".into(),
        }
    }

    fn ended_well(&self) -> bool {
        matches!(&*self.end.borrow(), Some(Ok(status)) if status.success())
    }

    /// Waits until it listens and answers, or ends.
    async fn ready(&mut self, db_path: &Path, port: u16) -> Result<Mongod, RestoreError> {
        let pid = self.pid;
        let status = tokio::select! {
            connection = connect(pid, port) => return Ok(connection?),
            status = self.ended() => status,
        };
        Err(RestoreError::DiedAtStart {
            db_path: db_path.to_owned(),
            status,
            telling: self.telling(),
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.end.borrow().is_some() {
            return;
        }
        // Waited for, so that whoever removes its files next does not race with it.
        if let Err(error) = self
            .handle
            .kill()
            .and_then(|()| self.handle.wait().map(drop))
        {
            tracing::warn!(pid = self.pid, %error, "cannot kill the private mongod");
        }
    }
}

/// Connects to the mongod of process `pid` on `port` as soon as it listens; never to another that has the port.
async fn connect(pid: u32, port: u16) -> Result<Mongod, MongoError> {
    let address = MemberAddr {
        host: "127.0.0.1".into(),
        port,
    };
    let access = Access::default();
    loop {
        if let Ok(connection) =
            mongo::connect(&address, &access, "freezeframe restore", CALL_LIMIT).await
        {
            let status = doc! { "serverStatus": 1 };
            match connection.run_on("admin", "serverStatus", status).await {
                Ok(status) if integer(&status, "pid") == Some(i64::from(pid)) => {
                    return Ok(connection);
                }
                Ok(_) => {}
                // A member that is not in its set's configuration closes all connections when it has read that (`closeConnections` in
                // `repl/replication_coordinator_impl.cpp`; seen on 6.0). Its end is waited for elsewhere.
                Err(error @ MongoError::Unreachable { .. }) => {
                    tracing::debug!(%error, "asking again");
                }
                Err(error) => return Err(error),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_with_the_layout_of_the_data_and_in_private() {
        let layout = StorageLayout {
            db_path: "/srv/db".into(),
            directory_per_db: true,
            directory_for_indexes: false,
            grafts: Vec::new(),
        };
        let line = |layout: &StorageLayout, purpose| {
            let args = arguments(Path::new("/restored"), layout, purpose, 7);
            args.iter()
                .map(|arg| arg.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let maintain = line(&layout, Purpose::Maintain);
        assert!(
            maintain.starts_with("--dbpath /restored --port 7 --bind_ip 127.0.0.1 --nounixsocket"),
            "{maintain}"
        );
        assert!(maintain.ends_with("--directoryperdb"), "{maintain}");
        assert!(
            !maintain.contains("recoverFromOplogAsStandalone") && !maintain.contains("replSet"),
            "{maintain}"
        );
        let indexes = StorageLayout {
            directory_per_db: false,
            directory_for_indexes: true,
            ..layout
        };
        let inspect = line(&indexes, Purpose::Inspect);
        assert!(
            inspect.ends_with("recoverFromOplogAsStandalone=true --wiredTigerDirectoryForIndexes"),
            "{inspect}"
        );
    }
}
