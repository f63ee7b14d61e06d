use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn store() -> (tempfile::TempDir, LocalStore) {
    let home = tempfile::tempdir().unwrap();
    let store = LocalStore::open(home.path()).unwrap();
    (home, store)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_is_made_is_for_its_owner_only() {
    let (home, store) = store();
    store.put("set/inner/object", b"x").await.unwrap();
    assert_eq!(mode(&home.path().join("set")), 0o700);
    assert_eq!(mode(&home.path().join("set/inner")), 0o700);
    assert_eq!(mode(&home.path().join("set/inner/object")), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_file_lies_beside_its_place_and_is_no_object() {
    let (home, store) = store();
    let mut writer = store.create("set/object", None).await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    let ids = store.unfinished("set/").await.unwrap();
    let [id] = ids.as_slice() else {
        panic!("{ids:?}")
    };
    assert!(
        id.starts_with("set/.object.") && id.ends_with(".partial"),
        "{id}"
    );
    assert!(home.path().join(id).is_file());
    assert_eq!(mode(&home.path().join(id)), 0o600);
    assert!(store.list("").await.unwrap().is_empty());
    writer.finish().await.unwrap();
    let names: Vec<_> = fs::read_dir(home.path().join("set"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["object"]);
}

#[tokio::test]
async fn discarding_touches_partial_files_only() {
    let (home, store) = store();
    store.put("set/object", b"x").await.unwrap();
    let outside = tempfile::NamedTempFile::new_in(home.path()).unwrap();
    let hidden = outside.path().file_name().unwrap().to_str().unwrap();
    for id in [
        "set/object",
        hidden,
        "set/.object.partial",
        "set/.object.0123456789abcdeg.partial",
        "../.x.0123456789abcdef.partial",
        "/.x.0123456789abcdef.partial",
        "set/../.x.0123456789abcdef.partial",
        "set/..x.0123456789abcdef.partial",
    ] {
        let outcome = store.discard_unfinished(id).await;
        assert!(
            matches!(outcome, Err(StoreError::InvalidKey { .. })),
            "{id}: {outcome:?}"
        );
    }
    assert!(store.size("set/object").await.is_ok() && outside.path().exists());
}

#[tokio::test]
async fn links_and_hidden_files_are_no_objects() {
    let (home, store) = store();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("file"), "x").unwrap();
    symlink(elsewhere.path(), home.path().join("folder")).unwrap();
    symlink(elsewhere.path().join("file"), home.path().join("link")).unwrap();
    fs::write(home.path().join(".hidden"), "x").unwrap();
    fs::create_dir(home.path().join("lost+found")).unwrap();
    fs::set_permissions(
        home.path().join("lost+found"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    assert!(store.list("f").await.unwrap().is_empty());
    assert!(store.list("mongo_backup-").await.unwrap().is_empty());
    assert!(matches!(
        store.size("link").await,
        Err(StoreError::NotFound { .. })
    ));
    // A link is in the way all the same.
    assert!(matches!(
        store.put("link", b"x").await,
        Err(StoreError::Exists { .. })
    ));
    assert_eq!(fs::read(elsewhere.path().join("file")).unwrap(), b"x");
}

#[tokio::test]
async fn deleting_the_last_object_removes_the_folder_but_never_the_root() {
    let (home, store) = store();
    store.put("a/b/object", b"x").await.unwrap();
    store.put("a/other", b"x").await.unwrap();
    store.delete("a/b/object").await.unwrap();
    assert!(!home.path().join("a/b").exists() && home.path().join("a").exists());
    store.delete("a/other").await.unwrap();
    assert!(!home.path().join("a").exists() && home.path().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_stream_reports_its_first_failure_and_cleans_up() {
    let (home, store) = store();
    let mut writer = store.create("set/object", None).await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    // The name is taken behind the writer's back by something that is no object of ours.
    fs::create_dir(home.path().join("set/object")).unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error:?}");
    assert!(store.unfinished("").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_store_whose_folder_vanished_is_an_error_not_an_empty_list() {
    let (home, store) = store();
    drop(home);
    assert!(store.list("").await.is_err());
    assert!(store.probe().await.is_err());
    assert!(
        !store.local_path().unwrap().exists(),
        "the root was made again"
    );
}

#[test]
fn the_hard_link_fallback_never_replaces() {
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (home.path().join("from"), home.path().join("to"));
    fs::write(&from, "new").unwrap();
    fs::write(&to, "old").unwrap();
    let error = durable::link_new(&from, &to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&to).unwrap(), b"old");

    fs::remove_file(&to).unwrap();
    durable::link_new(&from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"new");
    assert!(!from.exists());

    // The first request succeeded, its reply was lost, and it was sent again.
    fs::hard_link(&to, &from).unwrap();
    durable::link_new(&from, &to).unwrap();
    assert!(to.exists() && !from.exists());
}
