//! Directories of dbPath that lay elsewhere: on a copy they must lead to the copy, and never to what lives beside it.
//!
//! Nothing is written through a link: each place is looked up from its real directory, which has to lie below the root of the copies.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::error::{Exit, Explain};
use crate::volume::{HostView, VolumeError, resolve};

/// What a link is called until it takes the place of the old one.
const UNFINISHED: &str = ".freezeframe-link";

/// A directory of dbPath that lay elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Where mongod expects it, relative to dbPath.
    pub at: PathBuf,
    /// Where it is on the copies.
    pub path: PathBuf,
}

/// Why dbPath on the copies cannot be used.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Something could not be read or written.
    #[error("cannot {action} {path}: {source}", path = .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A path that leaves the copies.
    #[error("{} leads to {}, which is no part of the copy", path.display(), found.display())]
    LeadsOut {
        /// The path.
        path: PathBuf,
        /// Where it ends.
        found: PathBuf,
    },
    /// A directory where another was mounted.
    #[error("{} was a part of a file system that was mounted there (it is {} now)", at.display(), path.display())]
    Bound {
        /// Where mongod expects it.
        at: PathBuf,
        /// Where it is.
        path: PathBuf,
    },
    /// dbPath cannot be followed.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

impl Explain for LinkError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Io { .. } => None,
            Self::LeadsOut { .. } => Some(
                "mongod must not be started on it: it would write to what lies there. Bring the volumes up by hand (doc/ebs.md), and mend it there".into(),
            ),
            Self::Bound { .. } => {
                Some("bring the volumes up by hand (doc/ebs.md), and mount it there (mount --bind)".into())
            }
            Self::Volume(error) => error.hint(),
        }
    }

    fn exit(&self) -> Exit {
        Exit::Restore
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LinkError {
    let path = path.to_owned();
    move |source| LinkError::Io {
        action,
        path,
        source,
    }
}

/// The real path of `path`, which has to lie below `root`, a real path itself.
///
/// # Errors
/// [`LinkError::LeadsOut`], [`LinkError::Io`].
pub fn inside(root: &Path, path: &Path) -> Result<PathBuf, LinkError> {
    let found = fs::canonicalize(path).map_err(failed("look up", path))?;
    match found.starts_with(root) {
        true => Ok(found),
        false => Err(LinkError::LeadsOut {
            path: path.to_owned(),
            found,
        }),
    }
}

/// `to` as seen from the directory `from`; both are real paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from
        .components()
        .zip(to.components())
        .take_while(|(one, other)| one == other)
        .count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.components().skip(common)).collect();
    match path.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => path,
    }
}

/// Leads every directory of `home`, dbPath on a copy, that lay elsewhere to its place on the copies below `root`, a real path. Gives the links that were
/// written anew.
///
/// # Errors
/// [`LinkError`]; then mongod must not be started on it.
pub fn lead(root: &Path, home: &Path, placed: &[Placed]) -> Result<Vec<PathBuf>, LinkError> {
    let mut written = Vec::new();
    let mut sorted: Vec<_> = placed.iter().collect();
    // One may lie in another: its way there has to be right before.
    sorted.sort_by(|a, b| a.at.cmp(&b.at));
    for one in sorted {
        let link = home.join(&one.at);
        let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else {
            continue;
        };
        let parent = inside(root, parent)?;
        let (link, target) = (parent.join(name), inside(root, &one.path)?);
        let found = fs::symlink_metadata(&link).map_err(failed("look at", &link))?;
        let leads = fs::canonicalize(&link);
        if leads.is_ok_and(|leads| leads == target) {
            continue;
        }
        if !found.is_symlink() {
            return Err(LinkError::Bound {
                at: link,
                path: target,
            });
        }
        replace(&parent, &link, &relative(&parent, &target), &found)?;
        written.push(link);
    }
    // Whatever the manifest says: no way may lead out.
    inside(root, home)?;
    let layout = resolve(home, &HostView::real())?;
    for graft in layout.grafts {
        inside(root, &graft.path)?;
    }
    Ok(written)
}

/// Puts a link to `target` in the place of `link`, a link in the real directory `parent`.
fn replace(parent: &Path, link: &Path, target: &Path, old: &fs::Metadata) -> Result<(), LinkError> {
    let mut name = OsString::from(UNFINISHED);
    name.push(link.file_name().unwrap_or_default());
    let unfinished = parent.join(name);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &unfinished)(error));
        }
        _ => {}
    }
    symlink(target, &unfinished).map_err(failed("write", &unfinished))?;
    lchown(&unfinished, Some(old.uid()), Some(old.gid()))
        .map_err(failed("change the owner of", &unfinished))?;
    fs::rename(&unfinished, link).map_err(failed("replace", link))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        root: PathBuf,
    }

    /// dbPath at `copy/data/db`, a journal at `copy/journal/j`; live data beside.
    fn scene() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        for path in ["copy/data/db/one", "copy/journal/j", "live/journal/j"] {
            fs::create_dir_all(real.join(path)).unwrap();
        }
        Scene {
            root: real.join("copy"),
            dir,
        }
    }

    impl Scene {
        fn home(&self) -> PathBuf {
            self.root.join("data/db")
        }

        fn live(&self) -> PathBuf {
            self.dir.path().canonicalize().unwrap().join("live")
        }

        fn placed(&self, at: &str, path: &str) -> Placed {
            Placed {
                at: at.into(),
                path: self.root.join(path),
            }
        }
    }

    #[test]
    fn an_absolute_link_to_live_data_leads_to_the_copy_afterwards() {
        let scene = scene();
        let link = scene.home().join("journal");
        symlink(scene.live().join("journal/j"), &link).unwrap();
        let placed = [scene.placed("journal", "journal/j")];
        let written = lead(&scene.root, &scene.home(), &placed).unwrap();
        assert_eq!(written, std::slice::from_ref(&link));
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("../../journal/j"));
        assert_eq!(link.canonicalize().unwrap(), scene.root.join("journal/j"));
        assert!(
            lead(&scene.root, &scene.home(), &placed)
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_link_in_a_linked_directory_is_written_on_the_copy_and_nothing_through_it() {
        let scene = scene();
        fs::create_dir_all(scene.live().join("shop/index")).unwrap();
        fs::create_dir_all(scene.root.join("shop")).unwrap();
        fs::create_dir_all(scene.root.join("index")).unwrap();
        symlink(scene.live().join("shop"), scene.home().join("shop")).unwrap();
        symlink(scene.live().join("index"), scene.root.join("shop/index")).unwrap();
        let placed = [
            scene.placed("shop/index", "index"),
            scene.placed("shop", "shop"),
        ];
        assert_eq!(lead(&scene.root, &scene.home(), &placed).unwrap().len(), 2);
        let real = scene.home().join("shop/index").canonicalize().unwrap();
        assert_eq!(real, scene.root.join("index"));
        assert!(scene.live().join("shop/index").is_dir());

        // The manifest does not tell of the first: nothing is written at its end.
        let lost = self::scene();
        symlink(lost.live(), lost.home().join("shop")).unwrap();
        symlink("elsewhere", lost.live().join("index")).unwrap();
        fs::create_dir_all(lost.root.join("index")).unwrap();
        let error = lead(
            &lost.root,
            &lost.home(),
            &[lost.placed("shop/index", "index")],
        );
        assert!(
            matches!(error, Err(LinkError::LeadsOut { .. })),
            "{error:?}"
        );
        assert_eq!(
            fs::read_link(lost.live().join("index")).unwrap(),
            Path::new("elsewhere")
        );
    }

    #[test]
    fn a_way_out_that_the_manifest_does_not_tell_of_is_refused() {
        let scene = scene();
        symlink(scene.live().join("journal"), scene.home().join("other")).unwrap();
        let error = lead(&scene.root, &scene.home(), &[]).unwrap_err();
        assert!(matches!(&error, LinkError::LeadsOut { .. }), "{error}");
        let out = scene.placed("journal", "../live/journal");
        symlink("x", scene.home().join("journal")).unwrap();
        assert!(matches!(
            lead(&scene.root, &scene.home(), &[out]),
            Err(LinkError::LeadsOut { .. })
        ));
    }

    #[test]
    fn a_directory_that_something_was_bound_to_is_refused() {
        let scene = scene();
        let placed = [scene.placed("one", "journal/j")];
        let error = lead(&scene.root, &scene.home(), &placed).unwrap_err();
        assert!(matches!(&error, LinkError::Bound { .. }), "{error}");
        // One that is where it was is fine.
        let placed = [scene.placed("one", "data/db/one")];
        lead(&scene.root, &scene.home(), &placed).unwrap();
    }

    #[test]
    fn a_relative_path_leads_there() {
        for (from, to, path) in [
            ("/a/b", "/a/c/d", "../c/d"),
            ("/a", "/a/b", "b"),
            ("/a/b", "/a", ".."),
            ("/a", "/a", "."),
        ] {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(path));
        }
    }
}
