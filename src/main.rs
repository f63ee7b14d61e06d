//! The program: parse, log, do, and turn an error into an exit code.

use std::process::ExitCode;

use freezeframe::cli::Cli;
use freezeframe::commands;
use freezeframe::error::Exit;
use freezeframe::memory;
use freezeframe::terminal::Terminal;

fn main() -> ExitCode {
    memory::keep_freed_buffers();
    let cli = Cli::of_process();
    let terminal = Terminal::start(cli.verbose, cli.quiet);
    let exit = match commands::run(cli, &terminal) {
        Ok(exit) => exit,
        Err(error) => {
            terminal.report(error.as_ref());
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}

// Every exit code fits the eight bits that a process can end with.
const _: () = assert!(Exit::Interrupted as i32 <= 255);
