use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::backup::release::Tools;
use crate::exec::SystemExec;
use crate::recover::recover;

/// A hook that runs the shell script `text` in `folder`.
fn script(folder: &Path, text: &str, timeout: &str) -> Hook {
    let path = folder.join("hook");
    std::fs::write(&path, format!("cd {}\n{text}\n", folder.display())).unwrap();
    Hook {
        // Not by itself: a file that some thread's child has open for writing cannot be run.
        command: ["/bin/sh", path.to_str().unwrap(), "an argument"]
            .map(str::to_owned)
            .into(),
        timeout: timeout.parse().unwrap(),
    }
}

async fn called(hook: &Hook, moment: Moment) -> Result<(), HookError> {
    let exec: SharedExec = Arc::new(SystemExec);
    call(hook, Told::new(moment), &exec, None).await
}

fn read(path: PathBuf) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_hook_reads_json_and_says_how_it_failed() {
    let home = tempfile::tempdir().unwrap();
    let hook = script(home.path(), "cat >told; [ \"$1\" = 'an argument' ]", "60s");
    called(&hook, Moment::Before).await.unwrap();
    let told = read(home.path().join("told"));
    assert_eq!(told["hook"], "before");
    assert_eq!(told["host"], host::name());
    assert!(told.get("backup").is_none() && told.get("failure").is_none());

    let hook = script(home.path(), "echo the disk is away >&2; exit 3", "60s");
    let error = called(&hook, Moment::Before).await.unwrap_err();
    let said = error.to_string();
    assert!(said.starts_with("the hook `before` failed: "), "{said}");
    assert!(said.contains("the disk is away"), "{said}");
    assert_eq!(error.exit(), Exit::BackupFailed);
    let hook = Hook {
        command: vec!["/nonexistent/hook".into()],
        ..hook
    };
    let error = called(&hook, Moment::After).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_killed_with_what_it_has_started() {
    let home = tempfile::tempdir().unwrap();
    let started = home.path().join("started");
    let text = "sleep 1000 & echo $! >half; mv half started; wait";
    let hook = script(home.path(), text, "2s");
    let error = called(&hook, Moment::After).await.unwrap_err();
    assert!(
        matches!(error.source, ExecError::TimedOut { .. }),
        "{error}"
    );
    let pid = std::fs::read_to_string(started).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    // Whoever has inherited it may not have buried it yet.
    let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    let gone = async {
        while lives() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hook_ends_with_the_run_and_all_that_it_has_started() {
    let home = tempfile::tempdir().unwrap();
    let exec: SharedExec = Arc::new(SystemExec);
    // Its first process waits, or has ended and left one with its standard output.
    for rest in ["wait", "exit 0"] {
        let text = format!("echo $$ >leader; sleep 1000 & echo $! >half; mv half started; {rest}");
        let hook = script(home.path(), &text, "2h");
        let cancel = CancellationToken::new();
        let started = home.path().join("started");
        let begun = async {
            while !started.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let leader = std::fs::read_to_string(home.path().join("leader")).unwrap();
            let leader = Path::new("/proc").join(leader.trim());
            while rest != "wait" && leader.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cancel.cancel();
        };
        let called = call(&hook, Told::new(Moment::Before), &exec, Some(&cancel));
        let (ended, ()) = tokio::join!(called, begun);
        assert_eq!(ended.unwrap_err().exit(), Exit::Interrupted);
        // Buried by who inherited it, or not yet.
        let pid = std::fs::read_to_string(&started).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        assert!(
            stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")),
            "{rest}"
        );
        std::fs::remove_file(&started).unwrap();

        let called = call(&hook, Told::new(Moment::After), &exec, Some(&cancel));
        let error = called.await.unwrap_err();
        assert!(error.to_string().contains("was not begun"), "{error}");
        assert!(error.hint().is_some(), "the backup is complete");
        assert!(!started.exists());
    }
}

#[tokio::test]
async fn what_undoes_is_run_when_all_else_is_given_back() {
    let home = tempfile::tempdir().unwrap();
    let mut run = Run::begin(&home.path().join("state"), "backup").unwrap();
    let hook = script(home.path(), "test ! -e held && cat >told", "60s");
    let id = run.id();
    run.plan_one(Resource::Hook { hook, run: id }).unwrap();
    let path = home.path().join("held");
    run.plan_one(Resource::Directory { path: path.clone() })
        .unwrap();
    std::fs::create_dir(&path).unwrap();
    let left = run.finish(&Tools::for_tests()).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(read(home.path().join("told"))["hook"], "finally");
}

#[tokio::test]
async fn what_undoes_is_run_after_a_death_and_again_where_it_failed() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let mut run = Run::begin(&state, "backup").unwrap();
    let id = run.id();
    let hook = script(home.path(), "test -e ready && cat >told", "60s");
    run.plan_one(Resource::Hook { hook, run: id }).unwrap();
    drop(run);
    let tools = Tools::for_tests();
    let recovered = recover(&state, None, &tools).await.unwrap();
    assert_eq!(recovered[0].failed.len(), 1, "{recovered:?}");
    std::fs::write(home.path().join("ready"), "").unwrap();
    let recovered = recover(&state, None, &tools).await.unwrap();
    assert!(recovered[0].failed.is_empty(), "{recovered:?}");
    let told = read(home.path().join("told"));
    assert_eq!(told["hook"], "finally");
    assert_eq!(told["run"], id.to_string());
    assert!(recover(&state, None, &tools).await.unwrap().is_empty());
}
