//! packaging/mongodb-role.js, run by MongoDB's own shell as an operator runs it.

use std::io::Write;
use std::process::{Command, Stdio};

use freezeframe::mongo::{Access, Secret};
use mongodb::bson::doc;

use crate::open;
use crate::support::access::shipped_privileges;
use crate::support::certs::CLIENT_SUBJECT;
use crate::support::mongod::{Member, Options, PASSWORD, ReplicaSet, until};

/// What the script says, run on the primary of `set` with `variables`; `typed` is the password that it may ask for.
fn run_script(set: &ReplicaSet, variables: &[(&str, &str)], typed: &str) -> String {
    let mongosh = std::env::var_os("FREEZEFRAME_TEST_MONGOSH").expect(
        "FREEZEFRAME_TEST_MONGOSH must name mongosh; integration/mongod/fetch-mongosh gets it",
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/mongodb-role.js");
    let mut shell = Command::new(mongosh)
        .args(["--quiet", "--username", "root", "--password", PASSWORD])
        .arg(format!("mongodb://{}/admin", set.addr(0)))
        .arg(script)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Where it asks for none it may have ended before.
    let _ = shell
        .stdin
        .take()
        .unwrap()
        .write_all(format!("{typed}\n").as_bytes());
    let ended = shell.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
    assert!(ended.status.success(), "{said}");
    assert!(typed.is_empty() || !said.contains(typed), "{said}");
    said
}

/// Waits until `user` can look at the hidden member.
async fn can_look(set: &ReplicaSet, user: &str, password: &str) {
    let access = Access {
        username: Some(user.into()),
        password: Some(Secret::new(password)),
        ..set.access()
    };
    until(
        "the user of the script can look at the member",
        async || {
            let member = freezeframe::mongo::connect(set.addr(1), &access, "test", crate::TIMEOUT);
            match member.await {
                Ok(member) => member.facts().await.is_ok(),
                Err(_) => false,
            }
        },
    )
    .await;
    let member = open(set, 1, &access).await;
    let lacking = member.facts().await.unwrap().missing_actions;
    assert!(lacking.is_empty(), "{lacking:?}");
}

#[tokio::test]
async fn the_script_that_ships_makes_role_and_user() {
    let set = ReplicaSet::start(Options {
        members: vec![Member::primary(), Member::hidden()],
        auth: true,
        ..Options::default()
    })
    .await;
    let admin = set.admin(0).await.database("admin");
    let said = run_script(&set, &[], "a chosen one");
    assert!(said.contains("role freezeframe made\n"), "{said}");
    assert!(said.contains("user freezeframe made\n"), "{said}");
    can_look(&set, "freezeframe", "a chosen one").await;
    let asked = doc! { "rolesInfo": "freezeframe", "showPrivileges": true };
    let told = admin.run_command(asked).await.unwrap();
    let role = told.get_array("roles").unwrap()[0].as_document().unwrap();
    let privileges = role.get_array("privileges").unwrap();
    assert_eq!(privileges.len(), shipped_privileges().len());

    // Of an older version; and for another user.
    let less = doc! { "updateRole": "freezeframe", "privileges": [] };
    admin.run_command(less).await.unwrap();
    let said = run_script(&set, &[], "");
    assert!(said.contains("role freezeframe updated\n"), "{said}");
    assert!(said.contains("user freezeframe has it\n"), "{said}");
    can_look(&set, "freezeframe", "a chosen one").await;
    run_script(&set, &[("FREEZEFRAME_USER", "backup")], "another one");
    can_look(&set, "backup", "another one").await;

    // One without a password is that of a certificate.
    run_script(&set, &[("FREEZEFRAME_X509_SUBJECT", CLIENT_SUBJECT)], "");
    let external = set.admin(0).await.database("$external");
    let told = external
        .run_command(doc! { "usersInfo": CLIENT_SUBJECT })
        .await
        .unwrap();
    let users = told.get_array("users").unwrap();
    let roles = users[0].as_document().unwrap().get_array("roles").unwrap();
    let role = doc! { "role": "freezeframe", "db": "admin" };
    assert_eq!(roles, &vec![role.into()]);
}
