//! What stands around a backup: the operator's hooks, and the configuration that `setup` writes.

use mongodb::bson::doc;
use snapbox::{assert_data_eq, str};

use crate::members::{HIDDEN, PRIMARY, backing_up, replica_set, steady};
use crate::scene::Scene;
use crate::support::mongod::{Member, Options, PASSWORD, ReplicaSet, until};

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_run_around_a_backup_and_know_what_came_of_it() {
    let set = replica_set().await;
    let scene = Scene::new("");
    let told = scene.path("told");
    let script = scene.path("tell");
    std::fs::write(
        &script,
        format!("cat >>{0}; echo >>{0}; echo seen", told.display()),
    )
    .unwrap();
    let tell = format!(
        "{{ command = [\"/bin/sh\", {:?}] }}",
        script.to_str().unwrap()
    );
    let figures = scene.path("freezeframe.prom");
    let configure = |before: &str, after: &str| {
        let backing_up = backing_up(&set, HIDDEN, 1);
        scene.configure(&format!(
            "{backing_up}[metrics]\ntextfile = {figures:?}\n[hooks]\nbefore = {before}\nafter = {after}\nfailed = {tell}\nfinally = {tell}\n"
        ));
    };
    let heard = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        let _ = std::fs::remove_file(&told);
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let names = |heard: &[serde_json::Value]| -> Vec<String> {
        let name = |one: &serde_json::Value| one["hook"].as_str().unwrap().to_owned();
        heard.iter().map(name).collect()
    };
    configure(&tell, &tell);
    let check = scene.run("freezeframe check");
    assert!(check.contains("\nhook before\n  ok "), "{check}");
    let made = scene.run("freezeframe backup");
    assert!(made.ends_with("=> 0\n"), "{made}");
    assert!(made.contains("INFO hook `finally`: seen"), "{made}");
    let all = heard();
    assert_eq!(names(&all), ["before", "finally", "after"]);
    assert_eq!(all[0]["run"], all[1]["run"]);
    let listed = scene.json("freezeframe list --json", 0);
    assert_eq!(all[2]["backup"]["id"], listed[0]["id"]);

    // One that fails lets no backup begin, and is undone.
    let fails = r#"{ command = ["/bin/false"] }"#;
    configure(fails, &tell);
    assert_data_eq!(
        steady(&scene.run("freezeframe backup")),
        str![[r#"
$ freezeframe backup
TIME  INFO hook `finally`: seen
TIME  INFO hook `failed`: seen
error: the hook `before` failed: `/bin/false` failed (exit status: 1)
  hint: nothing was touched; see what the command says, and run the backup again
=> 4

"#]]
    );
    let all = heard();
    assert_eq!(names(&all), ["finally", "failed"]);
    assert_eq!(all[1]["failure"]["exit_code"], 4);
    assert_eq!(
        scene.names("store").len(),
        2,
        "a set and a folder of leases"
    );
    assert!(scene.names("state/runs").is_empty());

    // After a backup that is one.
    configure(&tell, fails);
    let made = scene.run("freezeframe backup");
    assert!(made.contains("the hook `after` failed"), "{made}");
    assert!(made.ends_with("=> 1\n"), "{made}");
    let status = scene.run("freezeframe status");
    assert!(
        status.contains("the last backup was made, and the hook `after` failed"),
        "{status}"
    );
    assert!(status.ends_with("=> 9\n"), "{status}");
    let told_figures = std::fs::read_to_string(&figures).unwrap();
    assert!(
        told_figures.contains("\nfreezeframe_hook_failed 1\n"),
        "{told_figures}"
    );
    let listed = scene.json("freezeframe list --json", 0);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(names(&heard()), ["before", "finally"]);

    configure(r#"{ command = ["/nonexistent/hook"] }"#, &tell);
    let check = scene.run("freezeframe check");
    assert!(
        check.contains("/nonexistent/hook cannot be run: No such file or directory"),
        "{check}"
    );
    assert!(check.ends_with("=> 3\n"), "{check}");
}

/// Starts a backup, asks it to end when a hook of it waits, and gives the code it ends with and what it says. The process that the hook has started is gone.
async fn interrupted_in_a_hook(scene: &Scene) -> (Option<i32>, String) {
    let waiting = scene.path("waiting");
    let backup = scene.start("freezeframe backup");
    until("the hook waits", async || waiting.exists()).await;
    let pid = nix::unistd::Pid::from_raw(backup.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = backup.wait_with_output().unwrap();
    let sleeper = std::fs::read_to_string(&waiting).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", sleeper.trim()));
    assert!(stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")));
    std::fs::remove_file(waiting).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_to_end_ends_its_hooks() {
    let set = replica_set().await;
    let scene = Scene::new("");
    let dir = scene.path("").display().to_string();
    let hook = |name: &str, text: &str| {
        let script = scene.path(name);
        std::fs::write(&script, format!("cd {dir}\n{text}\n")).unwrap();
        format!("{{ command = [\"/bin/sh\", {script:?}], timeout = \"2h\" }}")
    };
    let waits = hook("wait", "sleep 1000 & echo $! >half; mv half waiting; wait");
    let tell = hook("tell", "cat >>told; echo >>told");
    let configure = |before: &str, after: &str| {
        scene.configure(&format!(
            "{}[hooks]\nbefore = {before}\nafter = {after}\nfailed = {tell}\nfinally = {tell}\n",
            backing_up(&set, HIDDEN, 1)
        ));
    };
    let told = || {
        let told = std::fs::read_to_string(scene.path("told")).unwrap();
        std::fs::remove_file(scene.path("told")).unwrap();
        told
    };
    configure(&waits, &tell);
    let (code, said) = interrupted_in_a_hook(&scene).await;
    assert_eq!(code, Some(130), "{said}");
    let heard = told();
    assert!(heard.contains(r#""hook":"finally""#), "{heard}");
    assert!(heard.contains(r#""exit_code":130"#), "{heard}");
    assert!(scene.names("state/runs").is_empty());

    configure(&tell, &waits);
    let (code, said) = interrupted_in_a_hook(&scene).await;
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("the backup is complete"), "{said}");
    let heard = told();
    assert!(heard.contains(r#""hook":"finally""#), "{heard}");
    assert!(!heard.contains(r#""hook":"failed""#), "{heard}");
    let listed = scene.json("freezeframe list --json", 0);
    assert_eq!(listed[0]["state"], "complete");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_a_green_check() {
    let set = ReplicaSet::start(Options {
        members: vec![Member::primary(), Member::hidden()],
        auth: true,
        ..Options::default()
    })
    .await;
    let scene = Scene::new("");
    let config = scene.path("freezeframe.toml");
    let own = std::fs::read_to_string(&config).unwrap();
    // What is there is kept.
    let own = format!("# ours\n{own}[mongodb]\nmin_oplog_window = \"1ms\" # the set is young\n");
    std::fs::write(&config, &own).unwrap();
    let store = scene.path("backups");
    let hidden = set.addr(HIDDEN);
    let asked = format!(
        "freezeframe setup --store {} --member {hidden} --max-hold 5m --admin root --admin-password-file password",
        store.display()
    );
    let refused = scene.run(&format!(
        "freezeframe setup --store {} --member {hidden}",
        store.display()
    ));
    assert!(refused.contains("hint: say it with --admin"), "{refused}");
    assert!(refused.ends_with("=> 2\n"), "{refused}");
    secret_file(&scene.path("password"), "wrong");
    let refused = scene.run(&asked);
    assert!(refused.contains("refused user root"), "{refused}");
    secret_file(&scene.path("password"), PASSWORD);
    let other = asked.replace(&hidden.to_string(), &set.addr(PRIMARY).to_string());
    let refused = scene.run(&format!("{other} --yes"));
    assert!(
        refused.contains("error: rs0 at 127.0.0.1:PORT is PRIMARY\n"),
        "{refused}"
    );
    assert!(refused.ends_with("=> 3\n"), "{refused}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), own);
    let planned = scene.run(&asked);
    assert!(
        planned.contains("freezeframe on 127.0.0.1:PORT with the least role"),
        "{planned}"
    );
    assert!(planned.ends_with("=> 3\n"), "{planned}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), own);
    assert!(!store.exists());

    let done = scene.run(&format!("{asked} --yes"));
    assert!(done.contains("READY: a backup can be made"), "{done}");
    assert!(done.ends_with("=> 0\n"), "{done}");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(
        text.starts_with("# ours\n") && text.contains("# the set is young"),
        "{text}"
    );
    let kept = std::fs::read_to_string(scene.path("freezeframe.toml.before-setup")).unwrap();
    assert_eq!(kept, own);
    let made = scene.run("freezeframe backup");
    assert!(made.ends_with("=> 0\n"), "{made}");
    assert_eq!(std::fs::read_dir(&store).unwrap().count(), 2);
    // Once more nothing is to be done, and no administrator is needed.
    let again = scene.run("freezeframe setup --yes");
    assert!(again.contains("stays as it is"), "{again}");
    assert!(again.ends_with("=> 0\n"), "{again}");
    // At a terminal only yes is yes, and an end is one.
    let typed = |keys: &str| {
        scene.shell(&format!(
            "printf '{keys}' | script -qec 'freezeframe --config freezeframe.toml setup' /dev/null"
        ))
    };
    let no = typed("\\nmaybe\\nno\\n");
    assert!(no.contains("write yes or no"), "{no}");
    assert!(no.contains("nothing was done"), "{no}");
    let ended = typed("");
    assert!(ended.contains("the input is at its end"), "{ended}");
    // The user's password is lost: it gets another one, when that is meant.
    std::fs::remove_file(scene.path("mongodb-password")).unwrap();
    let refused = scene.run(&format!("{asked} --yes"));
    assert!(
        refused.contains("the user freezeframe is there on 127.0.0.1:PORT already"),
        "{refused}"
    );
    assert!(refused.ends_with("=> 3\n"), "{refused}");
    let done = scene.run(&format!("{asked} --yes --reset-password"));
    assert!(done.contains("ANOTHER PASSWORD"), "{done}");
    assert!(done.ends_with("=> 0\n"), "{done}");
    // Its role is an older version's.
    let admin = set.admin(PRIMARY).await.database("admin");
    let less = doc! { "updateRole": "freezeframe", "privileges": [] };
    admin.run_command(less).await.unwrap();
    let password = std::fs::read(scene.path("mongodb-password")).unwrap();
    let done = scene.run(&format!("{asked} --yes"));
    assert!(done.contains("its role is brought up to date"), "{done}");
    assert!(done.ends_with("=> 0\n"), "{done}");
    let after = std::fs::read(scene.path("mongodb-password")).unwrap();
    assert_eq!(after, password);
    // A file that everybody can read is told of, and no reason to make another user.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(scene.path("mongodb-password"), everybody).unwrap();
    let refused = scene.run(&asked);
    assert!(refused.contains("chmod 600"), "{refused}");
}

fn secret_file(path: &std::path::Path, secret: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, secret).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
