//! `generate`: man pages and completions from the one definition of the command line.

mod man;

use std::path::PathBuf;

use clap::CommandFactory;
use thiserror::Error;

use super::Failure;
use crate::cli::{Cli, GenerateArgs, Generated};
use crate::error::{Exit, Explain};

#[derive(Debug, Error)]
#[error("cannot write to {}: {source}", path.display())]
struct GenerateError {
    path: PathBuf,
    source: std::io::Error,
}

impl Explain for GenerateError {}

pub fn run(arguments: &GenerateArgs) -> Result<Exit, Failure> {
    match &arguments.what {
        Generated::Man { dir } => {
            let fail = |source| GenerateError {
                path: dir.clone(),
                source,
            };
            std::fs::create_dir_all(dir).map_err(fail)?;
            for (name, page) in man::pages(Cli::command()).map_err(fail)? {
                std::fs::write(dir.join(name), page).map_err(fail)?;
            }
        }
        Generated::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "freezeframe",
                &mut std::io::stdout(),
            );
        }
    }
    Ok(Exit::Done)
}
