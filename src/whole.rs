//! Files that are replaced as a whole or not at all, and are there after a power cut.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Whatever looks for files by the end of their names (udev, node_exporter) passes over one that is being written.
const UNFINISHED: &str = ".freezeframe-";

/// Writes `path` with the permissions `mode`, whatever the umask is.
///
/// # Errors
/// What the system says; then `path` is what it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace_as(path, bytes, |file| {
        file.set_permissions(Permissions::from_mode(mode))
    })
}

/// Writes `path`, of which `grant` sets owner and permissions before anything is in it; before that nobody else can read it.
///
/// # Errors
/// What the system says; then `path` is what it was.
pub fn replace_as(
    path: &Path,
    bytes: &[u8],
    grant: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(folder)?;
    grant(file.as_file())?;
    file.write_all(bytes)?;
    // A name that is there with nothing behind it after a power cut would be worse than the old one.
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_readable_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("freezeframe.prom");
        for content in ["one\n", "two\n"] {
            replace(&path, content.as_bytes(), 0o644).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
        assert!(replace(&folder.path().join("no/such"), b"", 0o600).is_err());
        let refused = replace_as(&path, b"three\n", |_| Err(io::ErrorKind::Other.into()));
        assert!(refused.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
