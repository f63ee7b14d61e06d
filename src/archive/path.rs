//! Paths inside an archive: bytes in the tar stream, text in the file table.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::ArchiveError;

/// A path relative to dbPath that names something strictly below it.
///
/// Made of one or more components, none of them empty, `.` or `..`, none longer than a file name can be, without NUL.
/// Ordered component by component, which is the order of an archive's entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArchivePath(Vec<u8>);

/// The longest path, `PATH_MAX` less its NUL.
const LONGEST: usize = 4095;
/// The longest component, `NAME_MAX`.
const LONGEST_NAME: usize = 255;
/// Every open directory on the way down costs a file descriptor when unpacking.
const DEEPEST: usize = 64;

impl ArchivePath {
    /// Checks `bytes`; what is refused could leave the directory it is unpacked to.
    pub fn new(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let refuse = |reason| {
            Err(ArchiveError::UnsafePath {
                path: String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).into_owned(),
                reason,
            })
        };
        if bytes.is_empty() {
            return refuse("which is empty");
        }
        if bytes.len() > LONGEST {
            return refuse("which is too long");
        }
        if bytes.contains(&0) {
            return refuse("which holds a NUL");
        }
        if bytes.starts_with(b"/") {
            return refuse("which is absolute");
        }
        let mut depth = 0;
        for component in bytes.split(|b| *b == b'/') {
            depth += 1;
            match component {
                b"" => return refuse("which has an empty component"),
                b"." | b".." => return refuse("which could leave the target"),
                long if long.len() > LONGEST_NAME => return refuse("which has too long a name"),
                _ => {}
            }
        }
        if depth > DEEPEST {
            return refuse("which is too deep");
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The path as it is in the tar stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for the file system, relative.
    pub fn to_path(&self) -> PathBuf {
        Path::new(OsStr::from_bytes(&self.0)).to_path_buf()
    }

    /// Its components.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// Directory part, if any, and name.
    pub fn split(&self) -> (Option<&[u8]>, &[u8]) {
        let mut parts = self.0.rsplitn(2, |b| *b == b'/');
        let name = parts.next().unwrap_or_default();
        (parts.next(), name)
    }

    /// The path as the file table has it: bytes that are not UTF-8, control characters and `%` as `%XX`, all else as it is.
    pub fn to_table(&self) -> String {
        let mut text = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character == '%' || character.is_control() {
                    let mut buffer = [0; 4];
                    for byte in character.encode_utf8(&mut buffer).bytes() {
                        text.push_str(&format!("%{byte:02X}"));
                    }
                } else {
                    text.push(character);
                }
            }
            for byte in chunk.invalid() {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        text
    }

    /// The inverse of [`Self::to_table`]; refuses any other writing of a path.
    pub fn from_table(text: &str) -> Result<Self, ArchiveError> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first != b'%' {
                bytes.push(*first);
                continue;
            }
            let code = rest
                .get(..2)
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| u8::from_str_radix(digits, 16).ok());
            if let Some(byte) = code {
                bytes.push(byte);
                rest = rest.get(2..).unwrap_or_default();
            }
        }
        let path = Self::new(&bytes)?;
        if path.to_table() != text {
            return Err(ArchiveError::UnsafePath {
                path: text.to_owned(),
                reason: "which the file table would write otherwise",
            });
        }
        Ok(path)
    }
}

impl PartialOrd for ArchivePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ArchivePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_that_leave_the_target_are_refused() {
        for bad in [
            &b""[..],
            b"/",
            b"/etc/passwd",
            b"..",
            b"a/..",
            b"../a",
            b"a/../b",
            b".",
            b"./a",
            b"a//b",
            b"a/",
            b"a\0b",
            b"a/./b",
            &[b'a'; 4096],
            &[b'a'; 256],
        ] {
            assert!(
                ArchivePath::new(bad).is_err(),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
        assert!(ArchivePath::new(&b"a/".repeat(64)[..127]).is_ok());
        assert!(ArchivePath::new(&b"a/".repeat(65)[..129]).is_err());
        for good in [
            &b"WiredTiger"[..],
            b"journal/WiredTigerLog.0000000001",
            b"...",
            b"a b",
            b"\xff\n",
        ] {
            assert!(ArchivePath::new(good).is_ok());
        }
    }

    #[test]
    fn order_is_that_of_a_sorted_walk() {
        let mut paths: Vec<_> = [&b"a-b"[..], b"a/c", b"a", b"a/b/c", b"a/b"]
            .iter()
            .map(|p| ArchivePath::new(p).unwrap())
            .collect();
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(ArchivePath::to_table).collect();
        assert_eq!(sorted, ["a", "a/b", "a/b/c", "a/c", "a-b"]);
    }

    proptest! {
        #[test]
        fn table_form_round_trips(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
            if let Ok(path) = ArchivePath::new(&bytes) {
                let text = path.to_table();
                prop_assert!(!text.contains(char::is_control));
                prop_assert_eq!(ArchivePath::from_table(&text).unwrap(), path);
            }
        }

        #[test]
        fn table_form_is_the_only_one(text in "[a%0-9A-Fé/]{1,12}") {
            if let Ok(path) = ArchivePath::from_table(&text) {
                prop_assert_eq!(path.to_table(), text);
            }
        }
    }
}
