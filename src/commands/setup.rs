//! `setup`: asks where it must, shows its plan, does it, and ends with what `check` says.

use std::io::{IsTerminal, stderr, stdin};
use std::path::Path;

use dialoguer::Password;

use super::{Context, EdgeError, Failure, check, interruptible};
use crate::cli::SetupArgs;
use crate::config::{Config, ConfigError};
use crate::error::Exit;
use crate::secret::Secret;
use crate::setup::{Ask, SetupError, Wishes, plan};
use crate::terminal::Terminal;

/// Whoever sits before the terminal, if anybody does.
struct Operator {
    present: bool,
}

impl Ask for Operator {
    fn line(
        &self,
        question: &str,
        default: Option<&str>,
        option: &'static str,
    ) -> Result<String, SetupError> {
        self.refuse_absent(question, option)?;
        let shown = default.map_or_else(String::new, |default| format!(" [{default}]"));
        loop {
            let answer = read_line(&format!("{question}{shown} "))?;
            match (answer.is_empty(), default) {
                (false, _) => return Ok(answer),
                (true, Some(default)) => return Ok(default.to_owned()),
                (true, None) => {}
            }
        }
    }

    fn secret(&self, question: &str, option: &'static str) -> Result<Secret, SetupError> {
        self.refuse_absent(question, option)?;
        let typed = Password::new().with_prompt(question).interact();
        typed
            .map(Secret::new)
            .map_err(|error| SetupError::Answer(error.to_string()))
    }
}

impl Operator {
    fn refuse_absent(&self, question: &str, option: &'static str) -> Result<(), SetupError> {
        match self.present {
            true => Ok(()),
            false => Err(SetupError::Unanswered {
                question: question.to_owned(),
                option,
            }),
        }
    }

    /// Whether it is to be done; nobody says no without `--yes`.
    fn agrees(&self) -> Result<bool, SetupError> {
        if !self.present {
            return Ok(false);
        }
        loop {
            match read_line("Do this? [Y/n] ")?.to_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => eprintln!("write yes or no"),
            }
        }
    }
}

/// A line as the terminal gives it, so that Ctrl-C and Ctrl-D do what they do everywhere.
fn read_line(question: &str) -> Result<String, SetupError> {
    eprint!("{question}");
    let mut line = String::new();
    match stdin().read_line(&mut line) {
        Ok(0) => {
            eprintln!();
            Err(SetupError::Answer("the input is at its end".into()))
        }
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(SetupError::Answer(error.to_string())),
    }
}

pub fn run(
    config_file: &Path,
    json: bool,
    terminal: &Terminal,
    arguments: SetupArgs,
) -> Result<Exit, Failure> {
    // Guard and timer are started from elsewhere.
    let config_file = std::path::absolute(config_file).map_err(EdgeError::Runtime)?;
    // No signal is caught: it ends at any question, and every step can be done again.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(EdgeError::Runtime)?;
    let set_up = runtime.block_on(set_up(&config_file, arguments))?;
    if set_up != Exit::Done {
        return Ok(set_up);
    }
    let config = Config::load(&config_file)?;
    let access = config.access().map_err(ConfigError::from)?;
    let context = Context::new(config, config_file, terminal, json, access)?;
    let checked = interruptible(context, check::run)?;
    eprintln!("{}", next(checked));
    Ok(checked)
}

async fn set_up(config_file: &Path, arguments: SetupArgs) -> Result<Exit, Failure> {
    let operator = Operator {
        present: stdin().is_terminal() && stderr().is_terminal(),
    };
    let admin_password = arguments.admin_password_file.as_deref().map(Secret::read);
    let wishes = Wishes {
        store: arguments.store,
        keeps_store: arguments.yes,
        members: arguments.member,
        max_hold: arguments.max_hold,
        admin: arguments.admin,
        admin_password: admin_password.transpose().map_err(ConfigError::from)?,
        admin_source: arguments.admin_source,
        reset_password: arguments.reset_password,
    };
    let plan = plan(config_file, wishes, &operator).await?;
    eprint!("{}", plan.render());
    if !arguments.yes && !operator.agrees()? {
        eprintln!("nothing was done; add --yes to do it");
        return Ok(Exit::Refused);
    }
    plan.carry_out().await?;
    Ok(Exit::Done)
}

fn next(checked: Exit) -> &'static str {
    match checked {
        Exit::Done => {
            "set up; next: freezeframe backup, and for one every night: systemctl enable --now freezeframe-backup.timer; what [retention] does not keep goes by freezeframe-prune.timer"
        }
        _ => {
            "the configuration is written; `freezeframe check` says what stands in the way of a backup yet, and setup can be run again with other answers"
        }
    }
}
