//! `config`: the configuration in force. It names secrets by file and never holds one.

use thiserror::Error;

use super::{Context, Failure, print};
use crate::cli::ConfigArgs;
use crate::error::{Exit, Explain};

#[derive(Debug, Error)]
#[error("cannot print the configuration: {0}")]
struct PrintError(toml::ser::Error);

impl Explain for PrintError {}

pub fn run(context: &Context, arguments: &ConfigArgs) -> Result<Exit, Failure> {
    // It has been read by now, and what it names.
    if arguments.check {
        return Ok(Exit::Done);
    }
    let config = context.config.in_force();
    let text = config.to_toml().map_err(PrintError)?;
    print(context.json, &config, || {
        format!("# {}\n{text}", context.tools.config.display())
    })?;
    Ok(Exit::Done)
}
