//! The options of `setup`.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Period, StoreUrl};
use crate::ids::MemberAddr;
use crate::mongo::users::USERS_DATABASE;

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
