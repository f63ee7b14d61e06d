//! Every command that README.md and doc/operations.md show is known here: run, with a real replica set, or with the test beside it that runs it or its like, or
//! with the reason why none does. One that neither shows any more, or that is new in them, fails this test.

#[path = "documented/known.rs"]
mod known;
#[path = "documented/shown.rs"]
mod shown;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use known::By::{Like, Nobody, Other, This};
use known::{By, COMMANDS, IN_LINES, OTHERS};
use mongodb::bson::doc;
use serde_json::Value;

use crate::members::{HIDDEN, backing_up, replica_set};
use crate::scene::{Scene, keys};
use crate::support::mongod::{free_port, until};

/// The mongod that a test started; killed when dropped.
struct Mongod(std::process::Child);

impl Mongod {
    /// Waits until the mongod on `port` of a replica set of one can be written to.
    async fn start(port: u16, arguments: &[&str]) -> Self {
        let mongod = std::env::var("FREEZEFRAME_TEST_MONGOD").unwrap();
        let mut command = std::process::Command::new(mongod);
        let child = command.args(arguments).stdout(Stdio::null()).spawn();
        let started = Self(child.unwrap());
        let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let client = mongodb::Client::with_uri_str(url).await.unwrap();
        let admin = client.database("admin");
        until("the restored mongod can be written to", async || {
            let hello = admin.run_command(doc! { "hello": 1 }).await;
            let hello = hello.unwrap_or_default();
            hello.get_bool("isWritablePrimary").unwrap_or_default()
        })
        .await;
        started
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_is_run() {
    let documents = ["README.md", "doc/operations.md"].map(read);
    let documented: BTreeSet<String> = documents
        .iter()
        .flat_map(|text| shown::commands(text))
        .collect();
    assert_eq!(documented, names(COMMANDS));

    let set = replica_set().await;
    let scene = Scene::new("");
    for folder in ["other", "disk", "srv"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    let dir = scene.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let mongod = std::env::var("FREEZEFRAME_TEST_MONGOD").unwrap();
    scene.configure(&format!(
        "{}[restore]\nmongod = \"{mongod}\"\n[metrics]\ntextfile = \"{dir}/figures.prom\"\n[[copy]]\nurl = \"file://{dir}/other\"\n",
        backing_up(&set, HIDDEN, 0)
    ));
    let member = set.addr(HIDDEN).to_string();
    for (shown, by) in COMMANDS {
        match by {
            Nobody(why) => panic!("{shown}: {why}"),
            Other(file, text) | Like(file, text) => {
                assert!(read(file).contains(text), "{shown}: not in {file}");
            }
            This(line, code) => {
                let newest = match line.contains(" ID") {
                    true => {
                        let sets = scene.json("freezeframe list --json", 0);
                        let newest = sets.as_array().unwrap().last().unwrap();
                        newest["id"].as_str().unwrap().to_owned()
                    }
                    false => String::new(),
                };
                let line = line
                    .replace("MEMBER", &member)
                    .replace(" ID", &format!(" {newest}"));
                let told = scene.run(&line);
                assert!(told.ends_with(&format!("=> {code}\n")), "{shown}: {told}");
            }
        }
    }

    for (row, line) in [
        ("`check`", "freezeframe check --json"),
        ("`list`", "freezeframe list --json"),
        ("`status`", "freezeframe status --json"),
        ("`verify`", "freezeframe verify latest --json"),
        ("`prune`", "freezeframe prune --json"),
        ("`hold`", "freezeframe hold latest --json"),
    ] {
        has_its_keys(row, &scene.json(line, 0));
    }

    let port = free_port();
    scene.run(&format!(
        "freezeframe restore latest --to DIR/started --member 127.0.0.1:{port}"
    ));
    let db_path = format!("{dir}/started");
    let file = format!("{dir}/mongod.conf");
    let settings = format!(
        "storage:\n  dbPath: {db_path}\nnet:\n  bindIp: 127.0.0.1\n  port: {port}\nreplication:\n  replSetName: rs0\n"
    );
    std::fs::write(&file, settings).unwrap();
    drop(Mongod::start(port, &["--config", &file]).await);
    let at = port.to_string();
    let by_options = ["--dbpath", &db_path, "--port", &at];
    let (set_of_one, ours) = (["--replSet", "rs0"], ["--bind_ip", "127.0.0.1"]);
    let arguments = [&by_options[..], &set_of_one, &ours].concat();
    drop(Mongod::start(port, &arguments).await);

    let sets = scene.json("freezeframe list --json", 0);
    let newest = sets.as_array().unwrap().last().unwrap()["id"].clone();
    let newest = newest.as_str().unwrap();
    let in_lines = documents.iter().flat_map(|text| shown::in_lines(text));
    let (ours, of_others): (BTreeSet<_>, BTreeSet<_>) =
        in_lines.partition(|command| is_ours(command));
    for command in ours {
        has_what_it_says(&scene, &command);
    }
    assert_eq!(of_others, names(IN_LINES));
    run(IN_LINES, dir, newest);
    let of_others = documents.iter().flat_map(|text| shown::of_others(text));
    assert_eq!(of_others.collect::<BTreeSet<_>>(), names(OTHERS));
    run(OTHERS, dir, newest);
    let left = scene.json("freezeframe list --json", 0);
    let left = left.as_array().unwrap();
    assert!(left.iter().all(|set| set["id"] != newest), "{left:?}");
}

/// The table of what `--json` prints names every key.
fn has_its_keys(row: &str, printed: &Value) {
    let document = read("doc/operations.md");
    let (_, table) = document.split_once("## JSON").unwrap();
    let line = table
        .lines()
        .find(|line| line.starts_with(&format!("| {row}")));
    let line = line.unwrap();
    let value = printed.as_array().map_or(printed, |all| &all[0]);
    for key in keys(value) {
        assert!(line.contains(&format!("`{key}`")), "{row}: {key}");
    }
}

fn names(known: &[(&str, By)]) -> BTreeSet<String> {
    known.iter().map(|(shown, _)| (*shown).to_owned()).collect()
}

/// Runs commands of other programs.
fn run(known: &[(&str, By)], dir: &str, newest: &str) {
    for (shown, by) in known {
        match by {
            Nobody(why) => assert!(!why.is_empty()),
            Other(file, text) | Like(file, text) => {
                assert!(read(file).contains(text), "{shown}: not in {file}");
            }
            This(line, code) => {
                let line = line.replace("DIR", dir).replace("ID", newest);
                let ended = std::process::Command::new("bash")
                    .args(["-c", &line])
                    .env("FREEZEFRAME", env!("CARGO_BIN_EXE_freezeframe"))
                    .current_dir(env!("CARGO_MANIFEST_DIR"))
                    .status();
                assert_eq!(ended.unwrap().code(), Some(*code), "{shown}: {line}");
            }
        }
    }
}

/// Whether it is a command of ours without the program's name.
fn is_ours(command: &str) -> bool {
    let verbs = COMMANDS.iter().filter_map(|(shown, _)| {
        let rest = shown.trim_start_matches("freezeframe -q ");
        let rest = rest.trim_start_matches("freezeframe ");
        rest.split(' ').next()
    });
    let first = command.split(' ').next();
    let by_hand = ["pack", "unpack"].map(Some);
    verbs.map(Some).chain(by_hand).any(|verb| verb == first)
}

/// Such a command is named for what it takes: its help knows that.
fn has_what_it_says(scene: &Scene, command: &str) {
    let words: Vec<_> = command.split(' ').collect();
    let is_subcommand = |word: &&&str| ["list", "remove"].contains(word);
    let verb = match words.get(1).filter(is_subcommand) {
        Some(below) => format!("{} {below}", words[0]),
        None => words[0].to_owned(),
    };
    let help = scene.run(&format!("freezeframe {verb} --help"));
    assert!(help.ends_with("=> 0\n"), "{command}: {help}");
    for option in words.iter().filter(|word| word.starts_with('-')) {
        assert!(help.contains(option), "{command}: {help}");
    }
}
