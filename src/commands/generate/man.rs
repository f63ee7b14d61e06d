//! Man pages: what the definition of the command line says, and what it does not know of.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::cli::EXIT_CODES;
use crate::config::DEFAULT_PATH;
use crate::config::access::PASSWORD_VARIABLE;

/// A file name and what it holds, for the program and for each of its verbs.
///
/// # Errors
/// None that writing to memory does not give.
pub fn pages(mut program: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    program.build();
    let mut pages = vec![page(&program, None)?];
    for verb in shown(&program) {
        pages.push(page(verb, Some(verb.get_name()))?);
        for below in shown(verb) {
            pages.push(page(below, Some(verb.get_name()))?);
        }
    }
    Ok(pages)
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    let all = command.get_subcommands();
    all.filter(|one| !one.is_hide_set() && one.get_name() != "help")
}

fn page(command: &Command, verb: Option<&str>) -> io::Result<(String, Vec<u8>)> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if shown(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    let exit_codes = EXIT_CODES.lines().skip(1);
    let exit_codes = exit_codes.filter_map(|line| line.trim().split_once(' '));
    section("EXIT STATUS", exit_codes).to_writer(&mut page)?;
    section("ENVIRONMENT", ENVIRONMENT.iter().copied()).to_writer(&mut page)?;
    section("FILES", FILES.iter().copied()).to_writer(&mut page)?;
    let examples = EXAMPLES
        .iter()
        .filter(|(of, ..)| verb.is_none_or(|verb| verb == *of));
    section("EXAMPLES", examples.map(|(_, line, does)| (*line, *does))).to_writer(&mut page)?;
    if verb.is_none() {
        man.render_version_section(&mut page)?;
    }
    Ok((man.get_filename(), page))
}

/// As the help shows it: clap_mangen leaves out what an option takes.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage: ");
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let rest = usage.strip_prefix(name).unwrap_or(usage);
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(name), roman(rest)]);
    roff
}

/// A list of names and what is said of each.
fn section<'a>(title: &str, items: impl Iterator<Item = (&'a str, &'a str)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (name, text) in items {
        roff.control("TP", []);
        roff.text([italic(name)]);
        roff.text([roman(text.trim())]);
    }
    roff
}

const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "FREEZEFRAME_CONFIG",
        "The configuration file, where --config names none.",
    ),
    (
        PASSWORD_VARIABLE,
        "The password of [mongodb] username, where password_file names none. The recovery timer cannot see it.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Where systemd puts the credential mongodb-password, the last place the password is looked for.",
    ),
    (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE, AWS_REGION",
        "Access to a store in S3, as every AWS program reads it.",
    ),
    (
        "RUST_LOG",
        "What is logged, in place of -v and -q: freezeframe=debug, for example.",
    ),
];

const FILES: [(&str, &str); 5] = [
    (
        DEFAULT_PATH,
        "The configuration. Every key is explained in the shipped file.",
    ),
    (
        "/var/lib/freezeframe/runs",
        "One journal for each run that holds something; recover reads them. [host] state_dir moves them.",
    ),
    (
        "/var/lib/freezeframe/kept",
        "A record for each kept snapshot.",
    ),
    (
        "/var/lib/freezeframe/scratch",
        "Where verify --deep unpacks, unless [restore] scratch_dir or --scratch says otherwise.",
    ),
    (
        "/run/freezeframe",
        "Mount points of snapshots. [host] runtime_dir moves them.",
    ),
];

/// Verb, command line, what it does.
const EXAMPLES: [(&str, &str, &str); 30] = [
    (
        "check",
        "freezeframe check",
        "What stands in the way of a backup, and how long one would take.",
    ),
    (
        "check",
        "freezeframe check --json",
        "The same for a program: findings, each ok, warning or refused.",
    ),
    (
        "backup",
        "freezeframe backup",
        "Back up every member and tell how long the database was held.",
    ),
    (
        "backup",
        "freezeframe -vv backup",
        "The same, with every step, every command run and every call to mongod.",
    ),
    (
        "backup",
        "freezeframe backup --from before-upgrade",
        "Archive a kept snapshot.",
    ),
    (
        "snapshot",
        "freezeframe snapshot --label before-upgrade --keep 3days",
        "Take a picture before risky maintenance: the database is held for a moment, nothing is archived.",
    ),
    (
        "snapshot",
        "freezeframe snapshot list",
        "Which are kept, and how full they are.",
    ),
    (
        "snapshot",
        "freezeframe snapshot remove before-upgrade --yes",
        "Remove one.",
    ),
    (
        "rollback",
        "freezeframe rollback before-upgrade",
        "What putting one back would do.",
    ),
    (
        "rollback",
        "freezeframe rollback before-upgrade --yes",
        "Put it back, with mongod stopped.",
    ),
    (
        "list",
        "freezeframe list",
        "The backups in the store, oldest first.",
    ),
    (
        "show",
        "freezeframe show latest --json",
        "The manifest of the newest sound backup.",
    ),
    (
        "show",
        "freezeframe show 2026-01-31T02:00:00Z",
        "A backup by the instant at which it began.",
    ),
    (
        "verify",
        "freezeframe verify latest",
        "Read a backup again and compare every hash.",
    ),
    (
        "verify",
        "freezeframe verify latest --deep --mongod /usr/bin/mongod",
        "Restore it to a scratch place, start mongod on it and validate every collection.",
    ),
    (
        "restore",
        "freezeframe restore latest --to /srv/mongodb --member db7.example.net:27017",
        "Bring a backup back as a replica set of that one member.",
    ),
    (
        "restore",
        "freezeframe restore latest --to /restored --volume-type gp3 --iops 16000 --throughput 1000 --warm",
        "Of EBS snapshots: mount copies of the volumes below /restored, read through before.",
    ),
    (
        "prune",
        "freezeframe prune",
        "Which backups would go, and why each of the others stays.",
    ),
    ("prune", "freezeframe prune --yes", "Remove them."),
    (
        "copy",
        "freezeframe copy",
        "Copy to the further stores what they lack.",
    ),
    (
        "copy",
        "freezeframe copy latest --to file:///mnt/disk",
        "Copy the newest good backup to a disk.",
    ),
    (
        "hold",
        "freezeframe hold 20260131_020000 --note 'before the upgrade'",
        "Keep a backup from being pruned.",
    ),
    (
        "hold",
        "freezeframe hold 20260131_020000 --release",
        "Let it go again.",
    ),
    (
        "recover",
        "freezeframe recover",
        "Give back everything that dead runs left.",
    ),
    (
        "unlock",
        "freezeframe unlock",
        "Which members are locked, and by whom.",
    ),
    (
        "unlock",
        "freezeframe unlock --member 127.0.0.1:27018 --force --yes",
        "Take every lock of that member off, whoever holds it; needs no configuration.",
    ),
    (
        "pack",
        "freezeframe pack --profile small /srv/copy -o copy.tar.ffz",
        "Pack a data directory that no mongod runs on.",
    ),
    (
        "unpack",
        "freezeframe unpack rs0.tar.ffz -C /srv/mongodb",
        "Unpack an archive of any profile, also one whose manifest is lost.",
    ),
    (
        "unpack",
        "ssh backup-host cat rs0.tar.ffz | freezeframe unpack - -C /srv/mongodb",
        "The same from a pipe.",
    ),
    (
        "config",
        "freezeframe config",
        "The configuration in force, every default written out.",
    ),
];
