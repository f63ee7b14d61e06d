//! Which names an object may have: the same rule for every store, so that a set can move from one to another.

use super::StoreError;

/// Longest component of a key, in bytes. A folder store adds 26 to it while writing, and file systems end at 255.
const COMPONENT_MAX: usize = 220;
/// Longest key, in bytes: S3's limit.
const KEY_MAX: usize = 1024;

/// Whether `key` is a relative path of plain components.
pub(super) fn check(key: &str) -> Result<(), StoreError> {
    if key.len() <= KEY_MAX && key.split('/').all(is_plain) {
        return Ok(());
    }
    Err(invalid(key))
}

/// Whether `prefix` can begin a key: plain components, of which the last may be cut short anywhere.
pub(super) fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    let (folders, rest) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    let well_formed = prefix.len() <= KEY_MAX
        && (folders.is_empty() || folders.split('/').all(is_plain))
        && (rest.is_empty() || is_plain(rest))
        && !prefix.starts_with('/');
    if well_formed {
        return Ok(());
    }
    Err(invalid(prefix))
}

/// Whether `name` can be one component: not hidden, no control characters, not too long.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= COMPONENT_MAX
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control)
}

pub(super) fn invalid(key: &str) -> StoreError {
    StoreError::InvalidKey {
        key: key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_relative_plain_paths() {
        for good in [
            "a",
            "a/b",
            "mongo_backup-20260131_020000/rs0.tar.xz",
            "a b/ü%41",
            "a..b",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = "x".repeat(COMPONENT_MAX + 1);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "./a",
            ".a",
            "a/.b",
            "a\0",
            "a\nb",
            &long,
            &"x/".repeat(600),
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn prefixes_are_cut_keys() {
        for good in ["", "a", "a/", "a/b", "mongo_backup-"] {
            assert!(check_prefix(good).is_ok(), "{good}");
        }
        for bad in ["/", "/a", "..", "../", "a/../", "a//", ".a", "a/.b"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_cut_of_a_key_is_a_prefix(key in "[a-z.]{1,5}(/[a-z.]{1,5}){0,3}", at in 0usize..24) {
            if check(&key).is_ok() {
                let cut = key.get(..at.min(key.len())).unwrap_or("");
                prop_assert!(check_prefix(cut).is_ok(), "{cut:?}");
            }
        }
    }
}
