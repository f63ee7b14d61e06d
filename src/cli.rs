//! The command line: one definition feeds the parser, the help, the man pages and the completions.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::archive::Profile;
use crate::config::{DEFAULT_PATH, MOST_THREADS, Period, StoreUrl};
use crate::error::Exit;
use crate::ids::{DeploymentId, Label, MemberAddr, RunId, ShardName};
use crate::mongo::users::USERS_DATABASE;

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
    Config,
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

/// `backup`
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Archive this instead of taking a new picture: a kept snapshot (its label, its run, or "latest"), or a backup that is EBS snapshots (its name)
    #[arg(long, value_name = "SNAPSHOT")]
    pub from: Option<String>,

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

/// `restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Which backup
    #[command(flatten)]
    pub which: Which,

    /// Directory to restore to; must be empty or absent. Copies of volumes are mounted below it, at the paths that they had
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,

    /// The replica set to restore [default: the only one in the backup]
    #[arg(long, value_name = "NAME")]
    pub shard: Option<ShardName>,

    /// Just this file, or directory with what is in it; reads only the blocks they lie in. May be given several times
    #[arg(long, value_name = "PATH", conflicts_with = "member")]
    pub only: Vec<String>,

    /// Settle the data so that mongod starts as a replica set with this one member
    #[arg(long, value_name = "HOST:PORT")]
    pub member: Option<MemberAddr>,

    /// The replica set's name after settling [default: as in the backup]
    #[arg(long, value_name = "NAME", requires = "member")]
    pub replset: Option<ShardName>,

    /// The mongod binary for settling [default: the configuration's, or the one in PATH]
    #[arg(long, value_name = "FILE", requires = "member")]
    pub mongod: Option<PathBuf>,

    /// How copies of volumes are made
    #[command(flatten)]
    pub volumes: VolumeArgs,
}

/// What volumes are to be like that are made of EBS snapshots.
#[derive(Debug, Args)]
#[command(next_help_heading = "Backups that are EBS snapshots")]
pub struct VolumeArgs {
    /// Type of the volumes that are made [default: as they were]
    #[arg(long, value_name = "TYPE")]
    pub volume_type: Option<String>,

    /// Operations a second of each volume (gp3, io1, io2) [default: as they were]
    #[arg(long, value_name = "N")]
    pub iops: Option<u32>,

    /// MiB a second of each volume (gp3) [default: as they were]
    #[arg(long, value_name = "N")]
    pub throughput: Option<u32>,

    /// Size of each volume [default: as they were]
    #[arg(long, value_name = "GIB")]
    pub size: Option<u32>,

    /// Read the volumes through before they are used, so that no block has to come out of S3 later
    #[arg(long)]
    pub warm: bool,
}

impl VolumeArgs {
    /// Whether any of them was given.
    pub fn is_some(&self) -> bool {
        self.warm
            || self.volume_type.is_some()
            || self.iops.is_some()
            || self.throughput.is_some()
            || self.size.is_some()
    }
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
}

/// `setup`
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Where backups go: a folder, or s3://bucket/prefix
    #[arg(long, value_name = "STORE")]
    pub store: Option<StoreUrl>,

    /// Back up these members; without it those that the configuration names, else every hidden one of this host
    #[arg(long, value_name = "HOST:PORT")]
    pub member: Vec<MemberAddr>,

    /// Take no snapshots: hold the database, for so long at the most, while the archive is made
    #[arg(long, value_name = "DURATION")]
    pub max_hold: Option<Period>,

    /// Administrator of the database, who makes the user that backups need
    #[arg(long, value_name = "USER")]
    pub admin: Option<String>,

    /// File with the administrator's password
    #[arg(long, value_name = "FILE")]
    pub admin_password_file: Option<PathBuf>,

    /// Database that the administrator is defined in
    #[arg(long, value_name = "DATABASE", default_value = USERS_DATABASE)]
    pub admin_source: String,

    /// Give a user that is there another password, which every other host that uses it then needs
    #[arg(long)]
    pub reset_password: bool,

    /// Do it; without it and without a terminal only the plan is shown
    #[arg(long)]
    pub yes: bool,
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

/// `metrics`
#[derive(Debug, Args)]
pub struct MetricsArgs {
    /// Serve them by HTTP as /metrics until asked to end; on this host alone unless an address is named [default: the configuration's]
    #[arg(long, value_name = "[ADDR:]PORT", num_args = 0..=1, conflicts_with = "textfile")]
    pub listen: Option<Option<ListenAddr>>,

    /// Write them to this file at once, for node_exporter's textfile collector [default: the configuration's]
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub textfile: Option<Option<PathBuf>>,
}

/// Where to listen: a port of this host's own address, or address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddr(pub SocketAddr);

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let on_loopback = text
            .parse()
            .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let address = on_loopback.or_else(|_| text.parse());
        address.map(Self).map_err(|_| {
            "write a port, or address and port such as 10.0.0.7:9979 or [::1]:9979".to_owned()
        })
    }
}

/// `pack`
#[derive(Debug, Args)]
pub struct PackArgs {
    /// The directory; nothing may write to it meanwhile
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// DIR is that of a mongod that runs and is held by fsyncLock
    #[arg(long)]
    pub live: bool,

    /// Where the archive goes: a file that is not there yet, or - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// What is packed for: opening it with tar and xz (portable), time (fast), space (small)
    #[arg(long, value_name = "PROFILE", default_value = "portable", value_enum)]
    pub profile: Profile,

    /// xz level of the profile portable, 0 to 9 [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=9))]
    pub level: Option<u32>,

    /// Compression threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    pub threads: Option<NonZeroUsize>,

    /// Pack diagnostic.data (mongod's own measurements) too
    #[arg(long)]
    pub diagnostic_data: bool,
}

/// `unpack`
#[derive(Debug, Args)]
pub struct UnpackArgs {
    /// The archive, of any profile, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Directory to unpack into; must be empty or absent
    #[arg(short = 'C', long = "directory", value_name = "DIR")]
    pub directory: PathBuf,

    /// Decompression threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = thread_count)]
    pub threads: Option<NonZeroUsize>,
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

/// A number of threads that helps.
fn thread_count(text: &str) -> Result<NonZeroUsize, String> {
    let count: NonZeroUsize = text
        .parse()
        .map_err(|_| "not a number from 1 on".to_owned())?;
    if count.get() > MOST_THREADS {
        return Err(format!("more than {MOST_THREADS} threads gain nothing"));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_number_of_threads_is_one_that_helps() {
        assert_eq!(thread_count("3").map(NonZeroUsize::get), Ok(3));
        for wrong in ["0", "-1", "", "257", "100000", "two"] {
            assert!(thread_count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_alone_is_one_of_this_host() {
        let parsed = |text: &str| text.parse::<ListenAddr>().map(|at| at.0.to_string());
        for (given, expected) in [
            ("9979", "127.0.0.1:9979"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:9979", "[::1]:9979"),
        ] {
            assert_eq!(parsed(given), Ok(expected.to_owned()));
        }
        for wrong in ["", "70000", "localhost", "localhost:1", "127.0.0.1", "::1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
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
