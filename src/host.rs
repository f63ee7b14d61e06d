//! What this host offers: systemd or not, its name.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command as Process;

use crate::exec::{Command, Exec, ExecError};
use crate::ids::RunId;

/// This host's name, for the manifest.
pub fn name() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "unknown".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// Bytes that we may still write to the file system of `path`, or of the nearest folder above it that is there.
///
/// # Errors
/// What the system says.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let there = path.ancestors().find(|path| path.exists());
    Ok(space(there.unwrap_or(path))?.free)
}

/// The space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystemSpace {
    /// What everybody may use.
    pub free: u64,
    /// What there is.
    pub total: u64,
}

/// The space of the file system that holds `path`.
///
/// # Errors
/// What `statvfs` brings.
pub fn space(path: &Path) -> io::Result<FileSystemSpace> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    Ok(FileSystemSpace {
        free: bytes(stat.blocks_available()),
        total: bytes(stat.blocks()),
    })
}

/// A running system manager that we may ask for scopes and timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Systemd(());

impl Systemd {
    /// The system manager, where one runs and we are root. As `sd_booted(3)` decides.
    pub fn detect() -> Option<Self> {
        let booted = Path::new("/run/systemd/system").is_dir();
        (booted && nix::unistd::geteuid().is_root()).then_some(Self(()))
    }

    /// A process that is going to run `program` in a scope named `unit`; arguments for `program` are to be added.
    pub fn scope(self, unit: &str, program: &Path) -> Process {
        let mut process = Process::new("systemd-run");
        process
            .args([
                "--scope",
                "--quiet",
                "--collect",
                &format!("--unit={unit}"),
                "--",
            ])
            .arg(program);
        process
    }

    /// Arms a transient timer that runs `program` with `args` once, `after` from now.
    ///
    /// # Errors
    /// [`ExecError`] from systemd-run.
    pub fn arm(
        self,
        exec: &dyn Exec,
        unit: &str,
        after: Duration,
        program: &Path,
        args: &[OsString],
    ) -> Result<(), ExecError> {
        let mut command = Command::new(
            "systemd-run",
            [
                "--quiet".to_owned(),
                "--collect".to_owned(),
                format!("--unit={unit}"),
                format!("--on-active={}ms", after.as_millis()),
                "--timer-property=AccuracySec=100ms".to_owned(),
                // Where it fails (mongod does not answer yet) it is tried again, for five minutes at the least.
                "--property=Restart=on-failure".to_owned(),
                "--property=RestartSec=5".to_owned(),
                "--property=StartLimitIntervalSec=1h".to_owned(),
                "--property=StartLimitBurst=60".to_owned(),
                "--".to_owned(),
            ],
        );
        command.args.push(program.into());
        command.args.extend_from_slice(args);
        exec.run(&command).map(drop)
    }

    /// Takes the timer `unit` away; well done also where there is none.
    ///
    /// # Errors
    /// [`ExecError`] from systemctl.
    pub fn disarm(self, exec: &dyn Exec, unit: &str) -> Result<(), ExecError> {
        let timer = format!("{unit}.timer");
        let state = exec.run(&Command::new(
            "systemctl",
            ["show", "--property=LoadState", "--value", &timer],
        ))?;
        if state.trim() == "not-found" {
            return Ok(());
        }
        exec.run(&Command::new("systemctl", ["stop", &timer]))
            .map(drop)
    }
}

/// The name of a run's recovery timer.
pub fn recovery_unit(run: RunId) -> String {
    format!("freezeframe-recover-{run}")
}
