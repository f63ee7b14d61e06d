//! Help, man pages, completions, and command lines and configurations that are wrong.

use std::process::Command;

use snapbox::{assert_data_eq, str};

use crate::scene::Scene;

const VERBS: [&str; 19] = [
    "setup", "check", "backup", "snapshot", "rollback", "list", "show", "verify", "restore",
    "prune", "hold", "copy", "recover", "unlock", "pack", "unpack", "config", "status", "metrics",
];

#[test]
fn help_lists_every_verb_and_every_exit_code() {
    let scene = Scene::new("");
    assert_data_eq!(
        scene.run("freezeframe --help"),
        str![[r#"
$ freezeframe --help
Back up MongoDB from a hidden secondary: hold still for a moment, snapshot, archive, verify, restore

Usage: freezeframe [OPTIONS] <COMMAND>

Commands:
  setup     Write a configuration that works, make the database's user where one is needed, and
            check it
  check     Tell everything that stands in the way of a backup, and what one would take
  backup    Back up every member: lock, snapshot, unlock, archive, store
  snapshot  Take a picture and keep it on this host, or list and remove those that are kept
  rollback  Put a kept snapshot back: what was written since is lost
  status    Tell on one screen how the backups stand; ends with 9 where somebody has to look at
            something
  list      List the backups in the store
  show      Show one backup, or the files in it
  verify    Read a backup again and check every hash
  restore   Restore a backup to a directory
  prune     Remove the backups that no rule of retention keeps, and tell why each of the others
            stays
  copy      Copy backups to the further stores of the configuration: those that are not there yet,
            or one
  hold      Keep a backup from being pruned, whatever the rules say
  recover   Give back what a dead run left behind: locks, mounts, snapshots, volumes, unfinished
            uploads
  unlock    Unlock a member that is fsyncLocked
  metrics   Print figures for Prometheus, write them to a text file, or serve them
  pack      Pack a data directory into an archive, as a backup would
  unpack    Unpack an archive, without its backup's manifest and file table
  config    Print the configuration in force
  help      Print this message or the help of the given subcommand(s)

Options:
      --config <FILE>
          Configuration file
          
          [env: FREEZEFRAME_CONFIG]
          [default: /etc/freezeframe/freezeframe.toml]

      --json
          Print data as JSON

  -v, --verbose...
          Log more (-v: steps, -vv: every command run and every call to mongod, with how long it
          took)

  -q, --quiet
          Log only errors, draw no progress

  -h, --help
          Print help (see a summary with '-h')

  -V, --version
          Print version

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
  130  interrupted, after everything was given back
=> 0

"#]]
    );
    for verb in VERBS {
        let help = scene.run(&format!("freezeframe {verb} --help"));
        assert!(
            help.contains(&format!("Usage: freezeframe {verb}")),
            "{help}"
        );
        assert!(help.ends_with("=> 0\n"), "{help}");
    }
    assert_data_eq!(
        scene.run("freezeframe restore -h"),
        str![[r#"
$ freezeframe restore -h
Restore a backup to a directory

Usage: freezeframe restore [OPTIONS] --to <DIR> <ID>

Arguments:
  <ID>  The backup: its name, its date and time (20260131_020000 or 2026-01-31T02:00:00Z), or
        "latest"

Options:
      --config <FILE>       Configuration file [env: FREEZEFRAME_CONFIG] [default:
                            /etc/freezeframe/freezeframe.toml]
      --store <STORE>       The store to look into, configured or not [default: the first of the
                            configuration]
      --json                Print data as JSON
      --to <DIR>            Directory to restore to; must be empty or absent. Copies of volumes are
                            mounted below it, at the paths that they had
      --shard <NAME>        The replica set to restore [default: the only one in the backup]
  -v, --verbose...          Log more (-v: steps, -vv: every command run and every call to mongod,
                            with how long it took)
      --only <PATH>         Just this file, or directory with what is in it; reads only the blocks
                            they lie in. May be given several times
  -q, --quiet               Log only errors, draw no progress
      --member <HOST:PORT>  Settle the data so that mongod starts as a replica set with this one
                            member
      --replset <NAME>      The replica set's name after settling [default: as in the backup]
      --mongod <FILE>       The mongod binary for settling [default: the configuration's, or the one
                            in PATH]
  -h, --help                Print help

Backups that are EBS snapshots:
      --volume-type <TYPE>  Type of the volumes that are made [default: as they were]
      --iops <N>            Operations a second of each volume (gp3, io1, io2) [default: as they
                            were]
      --throughput <N>      MiB a second of each volume (gp3) [default: as they were]
      --size <GIB>          Size of each volume [default: as they were]
      --warm                Read the volumes through before they are used, so that no block has to
                            come out of S3 later
=> 0

"#]]
    );
    let nothing = scene.run("freezeframe");
    assert!(
        nothing.contains("Commands:") && nothing.ends_with("=> 2\n"),
        "{nothing}"
    );
}

#[test]
fn wrong_command_lines_and_configurations_end_with_2() {
    let scene = Scene::new("");
    assert_data_eq!(
        scene.transcript(
            "freezeframe frobnicate
            freezeframe restore latest
            freezeframe restore latest --to x --replset rs1
            freezeframe list --config nowhere.toml"
        ),
        str![[r#"
$ freezeframe frobnicate
error: unrecognized subcommand 'frobnicate'

Usage: freezeframe [OPTIONS] <COMMAND>

For more information, try '--help'.
=> 2
$ freezeframe restore latest
error: the following required arguments were not provided:
  --to <DIR>

Usage: freezeframe restore --to <DIR> --config <FILE> <ID>

For more information, try '--help'.
=> 2
$ freezeframe restore latest --to x --replset rs1
error: the following required arguments were not provided:
  --member <HOST:PORT>

Usage: freezeframe restore --to <DIR> --member <HOST:PORT> --replset <NAME> --config <FILE> <ID>

For more information, try '--help'.
=> 2
$ freezeframe list --config nowhere.toml
error: cannot read the configuration nowhere.toml: No such file or directory (os error 2)
  hint: `freezeframe setup` writes it (by hand two lines are enough: `[store]` and `url = "file:///var/backups/freezeframe"`), or name another with --config FILE or FREEZEFRAME_CONFIG; the default place is /etc/freezeframe/freezeframe.toml
=> 2

"#]]
    );
    let mut said = String::new();
    for more in [
        "[windw]\n",
        "[window]\nprovider = \"hold\"\n",
        "[archive]\nlevel = \"high\"\n",
        "[mongodb]\nusername = \"u\"\npassword_file = \"/nonexistent/password\"\n",
    ] {
        scene.configure(more);
        said += &scene.run("freezeframe check");
    }
    assert_data_eq!(
        said,
        str![[r#"
$ freezeframe check
error: DIR/freezeframe.toml: TOML parse error at line 6, column 2
  |
6 | [windw]
  |  ^^^^^
unknown field `windw`, expected one of `store`, `copy`, `s3`, `mongodb`, `window`, `lvm`, `ebs`, `archive`, `retention`, `hooks`, `watch`, `metrics`, `host`, `restore`
  hint: every key is explained in the shipped freezeframe.toml; only [store] url must be there
=> 2
$ freezeframe check
error: DIR/freezeframe.toml: line 7: provider "hold" keeps the database locked while the archive is made and needs a limit
  hint: add max_hold = "10m" (or what your oplog window allows) to [window]
=> 2
$ freezeframe check
error: DIR/freezeframe.toml: TOML parse error at line 7, column 9
  |
7 | level = "high"
  |         ^^^^^^
invalid type: string "high", expected u32
  hint: every key is explained in the shipped freezeframe.toml; only [store] url must be there
=> 2
$ freezeframe check
error: cannot read the secret in /nonexistent/password: No such file or directory (os error 2)
=> 2

"#]]
    );
    std::fs::write(scene.path("freezeframe.toml"), "").unwrap();
    assert_data_eq!(
        scene.run("freezeframe list"),
        str![[r#"
$ freezeframe list
error: DIR/freezeframe.toml: TOML parse error at line 1, column 1
  |
1 | 
  | ^
missing field `store`
  hint: every key is explained in the shipped freezeframe.toml; only [store] url must be there
=> 2

"#]]
    );
}

#[test]
fn config_prints_what_is_in_force() {
    let scene = Scene::new("[window]\nprovider = \"hold\"\nmax_hold = \"10m\"\n");
    let threads = regex::Regex::new(r"threads = \d+").unwrap();
    assert_data_eq!(
        threads
            .replace(&scene.run("freezeframe config"), "threads = CORES")
            .into_owned(),
        str![[r#"
$ freezeframe config
# DIR/freezeframe.toml
[store]
url = "file://DIR/store"
read_back = true

[s3]
path_style = false
checksums = "md5"
max_parts = 10000
memory = "128MiB"
retry_for = "15m"
timeout = "1m"

[mongodb]
members = []
exclude = []
auth_source = "admin"
tls = false
allow_visible_secondary = false
max_lag = "10s"
min_oplog_window = "1h"
timeout = "10s"

[window]
provider = "hold"
lock = "always"
max_lock = "10s"
max_hold = "10m"

[lvm]
snapshot_size = "auto"
snapshot_floor = "1GiB"
window = "lvm"

[ebs]
retry_for = "5m"
timeout = "30s"
complete_within = "1day"
share_with = []

[archive]
profile = "portable"
level = 1
threads = CORES
diagnostic_data = false

[retention]
keep_last = 3
keep_within = "7days"
hourly = 0
daily = 0
weekly = 0
monthly = 0
yearly = 0

[hooks]

[watch]
scope = "host"
max_age = "1day 1h"
max_size_change = 50

[metrics]
listen = "127.0.0.1:PORT"
refresh = "5m"

[host]
state_dir = "DIR/state"
runtime_dir = "DIR/run"

[restore]
scratch_dir = "DIR/state/scratch"
=> 0

"#]]
    );
    let json = scene.json("freezeframe config --json", 0);
    assert!(json["archive"]["threads"].as_u64().unwrap() > 0);
    assert_eq!(json["window"]["max_hold"], "10m");
    // What is printed is a configuration.
    let output = Command::new(env!("CARGO_BIN_EXE_freezeframe"))
        .args([
            "--config",
            scene.path("freezeframe.toml").to_str().unwrap(),
            "config",
        ])
        .output()
        .unwrap();
    std::fs::write(scene.path("again.toml"), output.stdout).unwrap();
    assert_eq!(
        json,
        scene.json("freezeframe config --json --config again.toml", 0)
    );
}

#[test]
fn a_configuration_is_checked_by_itself() {
    let checked = |more: &str| Scene::new(more).run("freezeframe config --check");
    assert_eq!(checked(""), "$ freezeframe config --check\n=> 0\n");
    let wrong = checked("[window]\nmax_lok = \"10s\"\n");
    assert!(wrong.contains("unknown field `max_lok`"), "{wrong}");
    assert!(wrong.ends_with("=> 2\n"), "{wrong}");
    let wrong = checked("[mongodb]\nusername = \"backup\"\npassword_file = \"gone\"\n");
    assert!(wrong.contains("gone"), "{wrong}");
    assert!(wrong.ends_with("=> 2\n"), "{wrong}");
}

#[test]
fn man_pages_and_completions_are_made_of_the_same_definition() {
    let scene = Scene::new("");
    assert!(
        scene
            .run("freezeframe generate man pages")
            .ends_with("=> 0\n")
    );
    let mut pages = scene.names("pages");
    pages.sort();
    let mut expected: Vec<String> = VERBS.map(|verb| format!("freezeframe-{verb}.1")).into();
    expected.extend(
        ["", "-snapshot-list", "-snapshot-remove"].map(|verb| format!("freezeframe{verb}.1")),
    );
    expected.sort();
    assert_eq!(pages, expected);
    let main = std::fs::read_to_string(scene.path("pages/freezeframe.1")).unwrap();
    for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES"] {
        for page in scene.names("pages") {
            let text = std::fs::read_to_string(scene.path("pages").join(&page)).unwrap();
            let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            assert!(
                heading.iter().any(|heading| text.contains(heading)),
                "{page} lacks {section}: {text}"
            );
        }
    }
    assert!(!main.contains("freezeframe\\-guard"), "{main}");
    let restore = std::fs::read_to_string(scene.path("pages/freezeframe-restore.1")).unwrap();
    let plain = restore.replace('\\', "");
    assert!(plain.contains("[OPTIONS] --to <DIR> <ID>"), "{plain}");

    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_freezeframe"))
            .args(["generate", "completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(VERBS.iter().all(|verb| script.contains(verb)), "{shell}");
        if shell == "bash" {
            std::fs::write(scene.path("completions"), script).unwrap();
            let checked = Command::new("bash")
                .arg("-n")
                .arg(scene.path("completions"))
                .output();
            let checked = checked.unwrap();
            assert!(
                checked.status.success() && checked.stderr.is_empty(),
                "{checked:?}"
            );
        }
    }
}
