//! The options of `restore`.

use std::path::PathBuf;

use clap::Args;

use super::Which;
use crate::ids::{MemberAddr, ShardName};

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
