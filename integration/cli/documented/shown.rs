//! What the documents show: commands in lines of their own, and in backquotes.

use std::collections::BTreeSet;

use regex::Regex;

/// The commands that a document shows: of indented lines, also after what a crontab begins with, and of what stands in backquotes.
pub fn commands(document: &str) -> BTreeSet<String> {
    let in_line = Regex::new("`(freezeframe [^`]+)`").unwrap();
    let in_block = Regex::new(r"^ {4,}(?:sudo |[*\d ]+root +)?(freezeframe .+)$").unwrap();
    let mut commands = BTreeSet::new();
    for line in document.lines() {
        match in_block.captures(line) {
            Some(block) => {
                let command = block[1].split("  ").next().unwrap_or_default();
                commands.insert(command.trim().to_owned());
            }
            None => commands.extend(in_line.captures_iter(line).map(|found| found[1].to_owned())),
        }
    }
    // Of the shell.
    commands.retain(|command| !command.contains(" > "));
    commands
}

/// The commands of other programs that a document shows in lines of their own.
pub fn of_others(document: &str) -> BTreeSet<String> {
    let in_block = Regex::new(r"^ {4,}((?:sudo )?[a-z][a-z./-]*(?: .+)?)$").unwrap();
    // One that goes on in the next line is one.
    let joined = Regex::new(r"\|\n *").unwrap();
    let document = joined.replace_all(document, "| ");
    let blocks = document.lines().filter_map(|line| in_block.captures(line));
    let mut commands: BTreeSet<String> = blocks
        .filter_map(|block| Some(block[1].split("  ").next()?.trim().to_owned()))
        .collect();
    // Settings; and what `commands` knows.
    let ours = |command: &str| {
        command
            .trim_start_matches("sudo ")
            .starts_with("freezeframe ")
    };
    let setting = Regex::new(r"^\S+ = ").unwrap();
    commands.retain(|command| !setting.is_match(command) && !ours(command));
    commands
}

/// What stands in backquotes and is a command, of another program or of ours without its name.
pub fn in_lines(document: &str) -> BTreeSet<String> {
    let in_line = Regex::new(r"`([a-z][a-z0-9./_-]* [^`]+)`").unwrap();
    let mut commands: BTreeSet<String> = in_line
        .captures_iter(document)
        .map(|found| found[1].to_owned())
        .collect();
    // Settings, and what `commands` knows.
    commands.retain(|command| !command.contains(" = ") && !command.starts_with("freezeframe "));
    commands
}
