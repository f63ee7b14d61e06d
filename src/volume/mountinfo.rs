//! `/proc/<pid>/mountinfo`: which mount holds a path. Format: `proc_pid_mountinfo(5)`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::DevNumber;

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Unique while it lasts.
    pub id: u32,
    /// The mount it is mounted on.
    pub parent: u32,
    /// Device number of the file system; major 0 where there is no block device.
    pub device: DevNumber,
    /// Directory of the file system that is mounted.
    pub root: PathBuf,
    /// Where it is mounted.
    pub point: PathBuf,
    /// File system type.
    pub kind: String,
    /// What was mounted, as the file system tells it; for messages only.
    pub source: String,
    /// Options of the mount and of the file system, as `mount` takes them.
    pub options: String,
}

/// All mounts that a process sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountTable(Vec<Mount>);

/// A line that is no line of mountinfo.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("line {line} of mountinfo is not understood: {text:?}")]
pub struct MountInfoError {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub text: String,
}

impl MountTable {
    /// Parses a whole mountinfo file.
    ///
    /// # Errors
    /// [`MountInfoError`] names the first line that has another form.
    pub fn parse(text: &[u8]) -> Result<Self, MountInfoError> {
        text.split(|&byte| byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
            .map(|(index, line)| {
                parse_line(line).ok_or_else(|| MountInfoError {
                    line: index + 1,
                    text: String::from_utf8_lossy(line).into_owned(),
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The mount that a lookup of the absolute, symlink-free `path` ends in.
    ///
    /// Walks from the root through the mounts on the way, as the kernel does; so a mount that
    /// another one hides, on the same or on a shorter path, is not found.
    pub fn covering(&self, path: &Path) -> Option<&Mount> {
        let is_root = |mount: &&Mount| {
            mount.point == Path::new("/")
                && (mount.parent == mount.id
                    || !self.0.iter().any(|other| other.id == mount.parent))
        };
        let mut current = self.0.iter().rfind(is_root)?;
        // Each step goes to a child; a table with a loop in it must still end.
        for _ in 0..self.0.len() {
            let next = self
                .0
                .iter()
                .filter(|mount| mount.parent == current.id && mount.id != current.id)
                .filter(|mount| {
                    mount.point.starts_with(&current.point) && path.starts_with(&mount.point)
                })
                .min_by_key(|mount| mount.point.components().count());
            match next {
                Some(mount) => current = mount,
                None => break,
            }
        }
        Some(current)
    }

    /// Whether something is mounted exactly at `point`.
    pub fn is_mount_point(&self, point: &Path) -> bool {
        self.0.iter().any(|mount| mount.point == point)
    }

    /// All mounts, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.0.iter()
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let root = path(fields.next()?);
    let point = path(fields.next()?);
    let own = text(fields.next()?);
    // Any number of optional fields, ended by a single hyphen.
    fields.find(|&field| field == b"-")?;
    let kind = text(fields.next()?);
    let source = text(fields.next()?);
    // Only very old kernels leave them out.
    let shared = fields.next().map(text).filter(|shared| !shared.is_empty());
    let options = shared.map_or_else(|| own.clone(), |shared| format!("{own},{shared}"));
    Some(Mount {
        id,
        parent,
        device,
        root,
        point,
        kind,
        source,
        options,
    })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Undoes the kernel's `\ooo` for blanks, backslashes and `#`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        match rest {
            [
                b'\\',
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    /// From a 6.1 kernel with one LV mounted twice, shortened.
    const RECORDED: &str = include_str!("testdata/mountinfo");

    fn escape(path: &Path) -> String {
        let escaped = path.as_os_str().as_bytes().iter().map(|&byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}"),
            other => char::from(other).to_string(),
        });
        escaped.collect()
    }

    #[test]
    fn reads_a_recorded_table() {
        let table = MountTable::parse(RECORDED.as_bytes()).unwrap();
        let data = table.covering(Path::new("/data/db/journal")).unwrap();
        assert_eq!(
            (data.device, data.kind.as_str()),
            (
                DevNumber {
                    major: 254,
                    minor: 0
                },
                "xfs"
            )
        );
        assert_eq!(data.source, "/dev/mapper/data--1-mongo--db");
        let bound = table.covering(Path::new("/srv/with space/x")).unwrap();
        assert_eq!(bound.point, Path::new("/srv/with space"));
        // A name that only begins alike is another directory.
        assert_eq!(
            table.covering(Path::new("/database")).unwrap().point,
            Path::new("/")
        );
        assert!(table.is_mount_point(Path::new("/logs")));
        assert!(!table.is_mount_point(Path::new("/logs/x")));
    }

    #[test]
    fn finds_the_mount_that_is_on_top() {
        let table = |text: &str| MountTable::parse(text.as_bytes()).unwrap();
        let line = |id: u32, parent: u32, minor: u32, point: &str| {
            format!("{id} {parent} 8:{minor} / {point} rw - ext4 /dev/sd rw\n")
        };
        let root = line(1, 0, 0, "/");
        let cases = [
            // Two on the same point: the later one lies on the first.
            (
                format!("{}{}", line(2, 1, 1, "/data"), line(3, 2, 2, "/data")),
                "/data/db",
                2,
            ),
            // A deep mount, then one over its parent: the deep one cannot be reached any more.
            (
                format!("{}{}", line(2, 1, 1, "/data/db"), line(3, 1, 2, "/data")),
                "/data/db",
                2,
            ),
            // The same order, but really one inside the other.
            (
                format!("{}{}", line(2, 1, 1, "/data"), line(3, 2, 2, "/data/db")),
                "/data/db",
                2,
            ),
            (line(2, 1, 1, "/data"), "/", 0),
        ];
        for (lines, path, minor) in cases {
            let table = table(&format!("{root}{lines}"));
            assert_eq!(
                table.covering(Path::new(path)).unwrap().device.minor,
                minor,
                "{lines}"
            );
        }
    }

    #[test]
    fn a_table_that_loops_still_ends() {
        let text = "1 0 8:0 / / rw - ext4 a rw\n2 3 8:1 / /a rw - ext4 a rw\n3 2 8:2 / /a rw - ext4 a rw\n2 1 8:1 / /a rw - ext4 a rw\n";
        assert!(
            MountTable::parse(text.as_bytes())
                .unwrap()
                .covering(Path::new("/a/b"))
                .is_some()
        );
    }

    #[test]
    fn names_the_line_it_cannot_read() {
        let text = "1 0 8:0 / / rw - ext4 /dev/sda rw\n2 1 8 / /a rw - ext4 b rw\n";
        assert_eq!(MountTable::parse(text.as_bytes()).unwrap_err().line, 2);
    }

    proptest! {
        #[test]
        fn paths_come_back_as_they_were(
            parts in prop::collection::vec("[a-z \\t\\n\\\\0-9#-]{1,8}", 1..4),
            optional in prop::collection::vec("(shared|master):[0-9]{1,3}", 0..3),
            major: u32, minor: u32,
        ) {
            let point: PathBuf = std::iter::once("/").chain(parts.iter().map(String::as_str)).collect();
            let optional: String = optional.iter().map(|tag| format!(" {tag}")).collect();
            let line = format!("7 1 {major}:{minor} {0} {0} rw{optional} - ext4 /dev/x rw\n", escape(&point));
            let table = MountTable::parse(line.as_bytes()).unwrap();
            let mount = table.iter().next().unwrap();
            prop_assert_eq!(&mount.point, &point);
            prop_assert_eq!(&mount.root, &point);
            prop_assert_eq!(mount.device, DevNumber { major, minor });
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), path in "/[a-z/]{0,10}") {
            if let Ok(table) = MountTable::parse(&bytes) {
                let _ = table.covering(Path::new(&path));
            }
        }

        #[test]
        fn never_panics_on_what_looks_right(text in "([0-9]{1,2} [0-9]{1,2} [0-9]:[0-9] / /[ab/]{0,4} rw - a b\n){0,6}", path in "/[ab/]{0,6}") {
            if let Ok(table) = MountTable::parse(text.as_bytes()) {
                let _ = table.covering(Path::new(&path));
            }
        }
    }
}
