//! The options of `pack` and `unpack`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::archive::Profile;
use crate::config::MOST_THREADS;

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
    fn a_number_of_threads_is_one_that_helps() {
        assert_eq!(thread_count("3").map(NonZeroUsize::get), Ok(3));
        for wrong in ["0", "-1", "", "257", "100000", "two"] {
            assert!(thread_count(wrong).is_err(), "{wrong}");
        }
    }
}
