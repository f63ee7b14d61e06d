//! The command line: one definition feeds the parser, the help, the man pages and the completions.

mod metrics;
mod packing;
mod restore;
mod setup;

use std::io::Write;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{DEFAULT_PATH, Period, StoreUrl};
use crate::error::Exit;
use crate::ids::{DeploymentId, Label, MemberAddr, RunId, ShardName};
pub use metrics::{ListenAddr, MetricsArgs};
pub use packing::{PackArgs, UnpackArgs};
pub use restore::{RestoreArgs, VolumeArgs};
pub use setup::SetupArgs;

/// What the program can end with, one line each below a headline.
pub const EXIT_CODES: &str = "\
EXIT CODES:
  0    everything asked for was done
  1    failed in a way that fits no other code
  2    the command line or the configuration is wrong; nothing was touched
  3    refused by a check, or a plan that wants --yes; nothing was touched
  4    the backup failed; no backup was recorded, nothing is held
  5    the store did not do what was asked, or does not hold what was named
  6    stored data is damaged
  7    the restore failed, or its target was refused
  8    something is still held (a lock, a snapshot, a mount): run `freezeframe recover`
  9    `status` found something that somebody has to look at
  130  interrupted, after everything was given back";

/// Back up MongoDB from a hidden secondary: hold still for a moment, snapshot, archive, verify, restore.
#[derive(Debug, Parser)]
#[command(name = "freezeframe", version, after_long_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Configuration file
    #[arg(long, global = true, env = "FREEZEFRAME_CONFIG", hide_env_values = true, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,

    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Log more (-v: steps, -vv: every command run and every call to mongod, with how long it took)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Log only errors, draw no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// Parses the process's arguments; ends it where there is nothing to do, or they are wrong.
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|error| match error.kind() {
            // clap's own message would list the hidden verbs too.
            ErrorKind::MissingSubcommand => {
                let _ = write!(std::io::stderr(), "{}", Self::command().render_help());
                std::process::exit(Exit::Usage as i32)
            }
            _ => error.exit(),
        })
    }
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a configuration that works, make the database's user where one is needed, and check it
    Setup(SetupArgs),
    /// Tell everything that stands in the way of a backup, and what one would take
    Check,
    /// Back up every member: lock, snapshot, unlock, archive, store
    Backup(BackupArgs),
    /// Take a picture and keep it on this host, or list and remove those that are kept
    Snapshot(SnapshotArgs),
    /// Put a kept snapshot back: what was written since is lost
    Rollback(WhichKept),
    /// Tell on one screen how the backups stand; ends with 9 where somebody has to look at something
    Status,
    /// List the backups in the store
    List(ListArgs),
    /// Show one backup, or the files in it
    Show(ShowArgs),
    /// Read a backup again and check every hash
    Verify(VerifyArgs),
    /// Restore a backup to a directory
    Restore(RestoreArgs),
    /// Remove the backups that no rule of retention keeps, and tell why each of the others stays
    Prune(PruneArgs),
    /// Copy backups to the further stores of the configuration: those that are not there yet, or one
    Copy(CopyArgs),
    /// Keep a backup from being pruned, whatever the rules say
    Hold(HoldArgs),
    /// Give back what a dead run left behind: locks, mounts, snapshots, volumes, unfinished uploads
    Recover(RecoverArgs),
    /// Unlock a member that is fsyncLocked
    Unlock(UnlockArgs),
    /// Print figures for Prometheus, write them to a text file, or serve them
    Metrics(MetricsArgs),
    /// Pack a data directory into an archive, as a backup would
    Pack(PackArgs),
    /// Unpack an archive, without its backup's manifest and file table
    Unpack(UnpackArgs),
    /// Print the configuration in force
    Config(ConfigArgs),
    /// Guard one lock window (started by `backup`, talks on its standard input)
    #[command(hide = true)]
    Guard,
    /// Name the boundaries at which a test can order a fault, and the command that comes by each
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    Boundaries,
    /// Write man pages or completions (for packages)
    #[command(hide = true)]
    Generate(GenerateArgs),
}

impl Verb {
    /// Whether it can do nothing at all where members cannot be asked.
    pub fn asks_members(&self) -> bool {
        matches!(
            self,
            Self::Check
                | Self::Backup(_)
                | Self::Snapshot(_)
                | Self::Unlock(_)
                | Self::Guard
                | Self::Config(ConfigArgs { check: true })
        )
    }
}

/// `backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Archive this instead of taking a new picture: a kept snapshot (its label, its run, or "latest"), or a backup that is EBS snapshots (its name)
    #[arg(long, value_name = "SNAPSHOT")]
    pub from: Option<String>,

    /// Wait so long for a member that is not fit yet and will be: one that was just started, is not SECONDARY yet, or is behind
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    pub wait: Option<Period>,

    /// Leave it to `freezeframe copy` to copy it to the further stores
    #[arg(long)]
    pub no_copy: bool,
}

/// `snapshot`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SnapshotArgs {
    /// What to do with those that are kept; without it one is taken
    #[command(subcommand)]
    pub verb: Option<SnapshotVerb>,

    /// What it is taken for, such as before-upgrade [default: date and time]
    #[arg(long, value_name = "LABEL")]
    pub label: Option<Label>,

    /// How long it is kept; its space is made for that long, and the first backup after it removes it
    #[arg(long, value_name = "TIME", default_value = "1day")]
    pub keep: Period,
}

/// What can be done with kept snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// List them with age and fill; ends with 3 where one is lost or will be full soon
    List,
    /// Remove one
    Remove(WhichKept),
}

/// A kept snapshot, and whether it is meant.
#[derive(Debug, Args)]
pub struct WhichKept {
    /// The snapshot: its label, its run, or "latest"
    #[arg(value_name = "SNAPSHOT")]
    pub which: String,

    /// Do it; without this, only tell what would be done
    #[arg(long)]
    pub yes: bool,
}

/// Which store.
#[derive(Debug, Args)]
pub struct WhichStore {
    /// The store to look into, configured or not [default: the first of the configuration]
    #[arg(long, value_name = "STORE")]
    pub store: Option<StoreUrl>,
}

impl WhichStore {
    /// As it is written after the name of a backup; nothing where none was named.
    pub fn argument(&self) -> String {
        let store = self.store.as_ref();
        store.map_or_else(String::new, |store| format!(" --store {store}"))
    }
}

/// A backup by name.
#[derive(Debug, Args)]
pub struct Which {
    /// The backup: its name, its date and time (20260131_020000 or 2026-01-31T02:00:00Z), or "latest"
    #[arg(value_name = "ID")]
    pub id: String,

    /// Where it is
    #[command(flatten)]
    pub place: WhichStore,
}

/// `list`
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Of which store
    #[command(flatten)]
    pub place: WhichStore,
}

/// `copy`
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// This backup, whether the rules of retention would keep it there or not [default: whatever is not there yet and would be kept]
    #[arg(value_name = "ID")]
    pub id: Option<String>,

    /// To this store alone; where a backup is named it need not be configured [default: every further store of the configuration]
    #[arg(long, value_name = "STORE")]
    pub to: Option<StoreUrl>,

    /// Where it is read
    #[command(flatten)]
    pub place: WhichStore,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Which backup
    #[command(flatten)]
    pub which: Which,

    /// Prove it: restore to a scratch place, start mongod on it, validate every collection
    #[arg(long)]
    pub deep: bool,

    /// The mongod binary for --deep [default: the configuration's, or the one in PATH]
    #[arg(long, value_name = "FILE", requires = "deep")]
    pub mongod: Option<PathBuf>,

    /// Where --deep unpacks [default: the configuration's]
    #[arg(long, value_name = "DIR", requires = "deep")]
    pub scratch: Option<PathBuf>,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which backup
    #[command(flatten)]
    pub which: Which,

    /// List the files instead: size, when last changed, path
    #[arg(long)]
    pub files: bool,

    /// Of this replica set alone
    #[arg(long, value_name = "NAME", requires = "files")]
    pub shard: Option<ShardName>,
}

/// `prune`
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Whose backups to prune, as `show` names it; others' are never touched [default: that of the members on this host]
    #[arg(long, value_name = "ID")]
    pub deployment: Option<DeploymentId>,

    /// In this store alone [default: in every store of the configuration]
    #[arg(long, value_name = "STORE")]
    pub store: Option<StoreUrl>,

    /// Do it; without this, only tell what would be done
    #[arg(long)]
    pub yes: bool,

    /// Wait so long for a backup that is at work, or another prune
    #[arg(long, value_name = "TIME")]
    pub wait: Option<Period>,
}

/// `hold`
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// Which backup
    #[command(flatten)]
    pub which: Which,

    /// What it is kept for
    #[arg(long, value_name = "TEXT", conflicts_with = "release")]
    pub note: Option<String>,

    /// Let it go again
    #[arg(long)]
    pub release: bool,
}

/// `recover`
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Only this run
    #[arg(long, value_name = "ID")]
    pub run: Option<RunId>,

    /// Unlock what this run holds even if it is alive: its window is overdue (used by the timer)
    #[arg(long, value_name = "ID", hide = true, conflicts_with = "run")]
    pub overdue: Option<RunId>,
}

/// `unlock`
#[derive(Debug, Args)]
pub struct UnlockArgs {
    /// Members to unlock [default: those of the configuration, or found on this host]
    #[arg(long, value_name = "HOST:PORT")]
    pub member: Vec<MemberAddr>,

    /// Take every lock off, also those that no run of freezeframe took
    #[arg(long)]
    pub force: bool,

    /// Do it; without this, only tell what would be done
    #[arg(long)]
    pub yes: bool,
}

/// `config`
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print nothing; tell what is wrong with it, the password that it names included, by message and exit code
    #[arg(long)]
    pub check: bool,
}

/// `generate`
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// What to write
    #[command(subcommand)]
    pub what: Generated,
}

/// What `generate` can write.
#[derive(Debug, Subcommand)]
pub enum Generated {
    /// Man pages, one for each verb, into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// A completion script, to standard output
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_documented() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Refused,
            Exit::BackupFailed,
            Exit::Store,
            Exit::Damaged,
            Exit::Restore,
            Exit::StillHeld,
            Exit::Attention,
            Exit::Interrupted,
        ];
        for exit in all {
            let start = format!("\n  {} ", exit as i32);
            assert!(EXIT_CODES.contains(&start), "{exit:?}");
        }
    }
}
