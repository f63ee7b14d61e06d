//! What an operator, and Prometheus, are told of how the backups stand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use freezeframe::ids::BackupId;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use serde_json::json;
use snapbox::{assert_data_eq, str};

use crate::scene::{SET, Scene, keys};

/// Whose backups they are does not matter: the frozen set was made by no host of ours.
const WHOLE_STORE: &str = "[watch]\nscope = \"store\"\n";

/// A backup of so many minutes ago, by its name.
fn of_minutes_ago(minutes: i64) -> String {
    BackupId::at(Timestamp::now() - SignedDuration::from_mins(minutes)).to_string()
}

/// A store with the frozen set and one of this night.
fn backed_up(more: &str) -> Scene {
    let scene = Scene::with_set();
    scene.add_set(&of_minutes_ago(330));
    scene.configure(&format!("{WHOLE_STORE}{more}"));
    scene
}

/// Without what differs from day to day, or from run to run.
fn undated(text: &str) -> String {
    let mut text = text.replace(SET, "FROZEN");
    for (pattern, with) in [
        (r"mongo_backup-\d{8}_\d{6}", "NEWEST"),
        (r"\b\d+ d\b( \d+ h\b)?", "DAYS"),
        (r"is \d+ h( \d+ min)? old", "is HOURS old"),
        (r"failed (\d+ \w+ )+ago", "failed SHORTLY ago"),
        (r"/\.freezeframe-\w{6}\b", "/.freezeframe-RANDOM"),
    ] {
        let pattern = Regex::new(pattern).unwrap();
        text = pattern.replace_all(&text, with).into_owned();
    }
    text
}

#[test]
fn status_is_one_screen_and_its_exit_code() {
    let scene = backed_up("");
    assert_data_eq!(
        undated(&scene.run("freezeframe status")),
        str![[r#"
$ freezeframe status
ALL WELL

rs0, rs1 of 65b9a1f0c3d2e4f5a6b7c8d9
  ok     age        NEWEST is HOURS old (limit 25 h)
  ok     duration   took 11 min SECONDS, the database was held for 184.1 ms
  ok     size       5.0 KiB of 8.2 KiB of data, as much data as before
  ok     damage     2 good backups, none damaged
  ok     verify     verified DAYS ago, never proven by restoring one

this host
  ok     run        no backup failed that is known of
  ok     leftovers  none

file://DIR/store
  ok     store      answers
  ok     room       ROOM free
=> 0

"#]]
    );
    let scene = Scene::with_set();
    scene.configure("[mongodb]\nmembers = [\"127.0.0.1:1\"]\n[watch]\nscope = \"store\"\nmax_verify_age = \"7d\"\n");
    scene.run("freezeframe backup");
    let runs = scene.path("state/runs");
    let owner = r#"{"record":"begin","owner":{"run":"00000002","verb":"verify","pid":1,"boot":"b","started":"2026-01-31T02:00:00Z"}}"#;
    std::fs::write(runs.join("00000002.journal"), format!("{owner}\n")).unwrap();
    std::fs::remove_file(scene.object("rs0.tar.xz")).unwrap();
    assert_data_eq!(
        undated(&scene.run("freezeframe status")),
        str![[r#"
$ freezeframe status
ATTENTION: 5 things are not as they should be

rs0, rs1 of 65b9a1f0c3d2e4f5a6b7c8d9
  ALARM  age        there is no good backup
                    -> `freezeframe check` tells what stands in the way, `journalctl -u
                       freezeframe-backup` what the last runs said
  ALARM  damage     1 damaged: FROZEN
                    -> `freezeframe list` tells why; make a backup now, and see to the store's disks
  ALARM  verify     never verified (limit DAYS)
                    -> run `freezeframe verify latest`, or better `freezeframe verify latest
                       --deep`, from time to time

this host
  ALARM  run        the last backup failed SHORTLY ago with exit code 3: no backup can be made, and
                    nothing was touched:
                      cannot talk to mongod at 127.0.0.1:1: Connection refused (os error 111); see that mongod runs and listens there, and that [mongodb] tls agrees with net.tls of mongod
                    -> `freezeframe check` tells what stands in the way, `journalctl -u
                       freezeframe-backup` what the last runs said
  ALARM  leftovers  run RUN (verify) died and left its journal
                    -> run `freezeframe recover`

file://DIR/store
  ok     store      answers
  ok     room       ROOM free
=> 9

"#]]
    );
    let empty = Scene::new("");
    assert_data_eq!(
        empty.run("freezeframe status"),
        str![[r#"
$ freezeframe status
ATTENTION: 1 thing is not as it should be

this host
  ALARM  age        there is no good backup
                    -> make the first one: `freezeframe backup`; `freezeframe check` tells what
                       stands in its way
  ok     run        no backup failed that is known of
  ok     leftovers  none

file://DIR/store
  ok     store      answers
  ok     room       ROOM free
=> 9

"#]]
    );
    std::fs::remove_dir(empty.path("store")).unwrap();
    assert_data_eq!(
        empty.run("freezeframe status"),
        str![[r#"
$ freezeframe status
ATTENTION: 1 thing is not as it should be

this host
  ok     run        no backup failed that is known of
  ok     leftovers  none

file://DIR/store
  ALARM  store      does not tell what it holds: store "file://DIR/store": there is no
                    such folder; create it, or mount the disk it is on
                    -> where the disk is there and the folder is another one, see [store] url and
                       [[copy]] url
=> 9

"#]]
    );
}

#[test]
fn status_is_for_programs_too() {
    let scene = backed_up("");
    let status = scene.json("freezeframe status --json", 0);
    assert_eq!(
        keys(&status),
        [
            "at",
            "checks",
            "last_run",
            "leftovers",
            "limits",
            "ok",
            "running",
            "series",
            "store",
            "strange",
            "unreadable"
        ]
    );
    assert_eq!(
        keys(&status["store"]),
        ["asked", "error", "free_bytes", "hint", "reached", "url"]
    );
    let series = &status["series"][0];
    assert_eq!(
        keys(series),
        [
            "ahead",
            "counts",
            "damaged",
            "deployment",
            "failed",
            "newest",
            "proven",
            "replica_sets",
            "size_change",
            "verified"
        ]
    );
    assert_eq!(
        keys(&series["newest"]),
        [
            "age_seconds",
            "data_size",
            "held_us",
            "id",
            "size",
            "snapshots",
            "started",
            "took_us"
        ]
    );
    assert_eq!(
        keys(&series["counts"]),
        ["damaged", "future", "good", "unfinished", "unreadable"]
    );
    assert_eq!(
        (
            &series["replica_sets"],
            &series["counts"]["good"],
            &series["size_change"]
        ),
        (&json!(["rs0", "rs1"]), &json!(2), &json!(0.0))
    );
    assert_eq!(
        keys(&status["checks"][0]),
        ["check", "detail", "subject", "todo", "verdict"]
    );
    assert_eq!(
        keys(&status["limits"]),
        ["max_age", "max_size_change", "max_verify_age", "scope"]
    );
    let alone = Scene::with_set();
    alone.configure("[mongodb]\nmembers = [\"127.0.0.1:1\"]\n");
    alone.run("freezeframe backup");
    let status = alone.json("freezeframe status --json", 9);
    assert_eq!(
        (&status["ok"], &status["series"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(
        keys(&status["last_run"]),
        [
            "backup",
            "began",
            "ended",
            "error",
            "exit",
            "hook_failed",
            "not_copied",
            "unprotected"
        ]
    );
    assert_eq!(status["last_run"]["exit"], 3);
    assert_eq!(status["checks"][0]["verdict"], "alarm");
}

#[test]
fn a_backup_that_fails_is_told_of_in_the_text_file() {
    let scene = Scene::with_set();
    let file = scene.path("freezeframe.prom");
    let metrics = format!(
        "{WHOLE_STORE}[metrics]\ntextfile = \"{}\"\n",
        file.display()
    );
    scene.configure(&format!(
        "[mongodb]\nmembers = [\"127.0.0.1:1\"]\n{metrics}"
    ));
    let shown = scene.run("freezeframe backup");
    assert!(shown.ends_with("=> 3\n"), "{shown}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(
        page.contains("\nfreezeframe_last_run_success 0\n"),
        "{page}"
    );
    assert!(page.contains("freezeframe_backups{"), "{page}");
    checked(&page);
    // Even where it got nowhere at all.
    std::fs::rename(scene.path("store"), scene.path("elsewhere")).unwrap();
    let shown = scene.run("freezeframe backup");
    assert!(shown.ends_with("=> 5\n"), "{shown}");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("\nfreezeframe_store_up 0\n"), "{page}");
    checked(&page);
    // A file that cannot be written is warned of; the exit code is the backup's.
    let nowhere = metrics.replace("freezeframe.prom", "no/freezeframe.prom");
    scene.configure(&format!(
        "[mongodb]\nmembers = [\"127.0.0.1:1\"]\n{nowhere}"
    ));
    let shown = scene.run("freezeframe backup");
    assert!(
        shown.contains("WARN cannot write the figures to DIR/no/freezeframe.prom")
            && shown.ends_with("=> 5\n"),
        "{shown}"
    );
}

#[test]
fn figures_are_printed_and_written_to_a_file() {
    let scene = backed_up("max_verify_age = \"7d\"\n");
    let printed = scene.run("freezeframe metrics");
    let page = printed.strip_prefix("$ freezeframe metrics\n").unwrap();
    checked(page.strip_suffix("=> 0\n").unwrap());
    assert!(page.contains("freezeframe_backup_size_change_ratio{deployment=\"65b9a1f0c3d2e4f5a6b7c8d9\",replica_sets=\"rs0, rs1\"} 0\n"), "{page}");
    assert_data_eq!(
        undated(&scene.transcript(
            "freezeframe metrics --textfile figures.prom
            freezeframe metrics --textfile
            freezeframe metrics --textfile no/figures.prom
            freezeframe metrics --listen nowhere
            freezeframe metrics --listen 1 --textfile figures.prom"
        )),
        str![[r#"
$ freezeframe metrics --textfile figures.prom
=> 0
$ freezeframe metrics --textfile
error: --textfile names no file, and the configuration has no [metrics] textfile
  hint: name one: --textfile FILE
=> 2
$ freezeframe metrics --textfile no/figures.prom
error: cannot write the figures to no/figures.prom: No such file or directory (os error 2) at path "DIR/no/.freezeframe-RANDOM"
  hint: the folder must exist, and is the one that node_exporter's --collector.textfile.directory names
=> 1
$ freezeframe metrics --listen nowhere
error: invalid value 'nowhere' for '--listen [<[ADDR:]PORT>]': write a port, or address and port such as 10.0.0.7:9979 or [::1]:9979

For more information, try '--help'.
=> 2
$ freezeframe metrics --listen 1 --textfile figures.prom
error: the argument '--listen [<[ADDR:]PORT>]' cannot be used with '--textfile [<FILE>]'

Usage: freezeframe metrics --listen [<[ADDR:]PORT>] --config <FILE>

For more information, try '--help'.
=> 2

"#]]
    );
    checked(&std::fs::read_to_string(scene.path("figures.prom")).unwrap());
}

#[test]
fn figures_are_served() {
    let scene = backed_up("");
    let mut server = scene.start("freezeframe metrics --listen 0");
    let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
    let line = log.next().unwrap().unwrap();
    let address = line
        .split_once("serving http://")
        .unwrap()
        .1
        .strip_suffix("/metrics")
        .unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{line}");
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, page) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(page.contains("\nfreezeframe_store_up 1\n"), "{page}");
        checked(page);
    }
    let taken = scene.run(&format!("freezeframe metrics --listen {address}"));
    assert!(
        taken.contains("cannot listen on") && taken.ends_with("=> 1\n"),
        "{taken}"
    );
    kill(
        Pid::from_raw(server.id().try_into().unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

fn promtool() -> Command {
    Command::new(std::env::var_os("FREEZEFRAME_TEST_PROMTOOL").expect(
        "FREEZEFRAME_TEST_PROMTOOL must name promtool; integration/prometheus/fetch-promtool gets it",
    ))
}

/// What Prometheus makes of `page`: nothing to complain of.
fn checked(page: &str) {
    let mut checking = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checking
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = checking.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}

#[test]
fn the_alert_rules_tell_of_what_they_should_and_of_nothing_else() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (what, file) in [
        ("check", "packaging/alerts.yaml"),
        ("test", "integration/prometheus/alerts-test.yaml"),
    ] {
        let output = promtool()
            .args([what, "rules"])
            .arg(project.join(file))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(
            output.status.success() && said.contains("SUCCESS"),
            "{said}"
        );
    }
    // A rule about a figure that nobody tells would never come.
    let rules = std::fs::read_to_string(project.join("packaging/alerts.yaml")).unwrap();
    let documented = std::fs::read_to_string(project.join("doc/operations.md")).unwrap();
    let source = std::fs::read_to_string(project.join("src/watch/exposition.rs")).unwrap();
    let figure = Regex::new(r"\bfreezeframe_([a-z_]+)").unwrap();
    for found in figure.captures_iter(&rules) {
        assert!(
            source.contains(&format!("\"{}\"", &found[1])),
            "{}",
            &found[0]
        );
        assert!(documented.contains(&found[0]), "{}", &found[0]);
    }
}
