//! How each kind of resource is given back: one way, for the run itself, after its failure and for `recover`.
//!
//! Every way is idempotent: what is gone already, or was never acquired, is well given back.

mod error;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backup::guard::Expectation;
use crate::backup::guard::give_back::give_back;
use crate::backup::lease;
use crate::backup::resource::Resource;
use crate::backup::safekeeping::set_to_rights;
use crate::blocking::off_thread;
use crate::catalog::{self, CatalogError};
use crate::copies::{quiet, stack};
use crate::ebs;
use crate::ebs::attach::Attachments;
use crate::ebs::patience::Patience;
use crate::exec::SharedExec;
use crate::hooks;
use crate::host::Systemd;
use crate::ids::{BackupId, MemberAddr, RunId};
use crate::manifest::MANIFEST;
use crate::manifest::snapshots::SnapshotSet;
use crate::mongo::{self, Access};
use crate::reading;
use crate::snapshot::btrfs::Btrfs;
use crate::snapshot::lvm::Lvm;
use crate::snapshot::reflink::Reflink;
use crate::snapshot::{LvmSnapshot, Snapshot, mount};
use crate::store::releasing::{Stores, discard_of_run};
use crate::store::{Store, StoreError};
use crate::volume::HostView;
pub use error::ReleaseError;

/// How long an unlock is tried before `recover` is left to do it.
const UNLOCK_PATIENCE: Duration = Duration::from_secs(60);

/// How long a member that cannot be reached is tried again: one that was stopped for good must not hold recovery up
/// for longer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two such tries.
const CONNECT_AGAIN: Duration = Duration::from_secs(1);
/// How long a call that gives back EBS snapshots or volumes is tried.
pub(super) const GIVING_BACK: Duration = Duration::from_secs(60);
/// How giving back introduces itself to mongod.
const APP_NAME: &str = "freezeframe-recover";

/// What giving back needs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// Runs external commands.
    pub exec: SharedExec,
    /// How to reach mongod.
    pub access: Access,
    /// Longest wait for a connection or a command.
    pub timeout: Duration,
    /// The system manager, if there is one.
    pub systemd: Option<Systemd>,
    /// How to reach stores.
    pub stores: Stores,
    /// How to reach EC2.
    pub ebs: ebs::connect::Access,
    /// This very program, which guard and timer run.
    pub program: PathBuf,
    /// The configuration file, which guard and timer read.
    pub config: PathBuf,
}

/// The snapshots among `planned` whose origins stand still while they are taken.
pub fn planned_snapshots(planned: &[Resource]) -> impl Iterator<Item = &LvmSnapshot> {
    planned.iter().filter_map(|resource| match resource {
        Resource::Snapshot(Snapshot::Lvm(snapshot)) => Some(snapshot),
        _ => None,
    })
}

/// Has the origins of the snapshots among `planned` go on where a command that died left them suspended: a member
/// cannot unlock, nor anybody write, while its volume stands still.
pub async fn resume_origins(planned: &[Resource], tools: &Tools) {
    for snapshot in planned_snapshots(planned).cloned() {
        let exec = tools.exec.clone();
        let origin = snapshot.origin.clone();
        let resumed = blocking(move || Lvm::new(exec).resume(&snapshot)).await;
        if let Err(error) = resumed {
            tracing::warn!(%origin, %error, "cannot see to it that the origin goes on");
        }
    }
}

/// Gives `resource` back.
///
/// # Errors
/// [`ReleaseError`]; then it is still there, or nobody knows.
pub async fn release(resource: &Resource, tools: &Tools) -> Result<(), ReleaseError> {
    match resource {
        Resource::Hook { hook, run } => Ok(hooks::finally(hook, *run, &tools.exec).await?),
        Resource::Upload {
            store,
            server,
            set,
            run,
        } => {
            let store = tools.stores.open(store, server.as_deref())?;
            remove_failed_set(store.as_ref(), *set, *run).await
        }
        Resource::Lease {
            store,
            server,
            scope,
            run,
        } => {
            let store = tools.stores.open(store, server.as_deref())?;
            let store = store.of_run(*run).unwrap_or(store);
            Ok(lease::give_back(store.as_ref(), scope, *run).await?)
        }
        Resource::Reading {
            store,
            server,
            set,
            run,
        } => {
            let store = tools.stores.open(store, server.as_deref())?;
            let store = store.of_run(*run).unwrap_or(store);
            Ok(reading::give_back(store.as_ref(), *set, *run).await?)
        }
        Resource::EbsSnapshots(made) => {
            let part = |set: &SnapshotSet| Some(set.taken());
            Ok(set_to_rights(made, part, &tools.ebs, &tools.stores).await?)
        }
        Resource::EbsCopies(made) => {
            let access = tools.ebs.for_copies();
            Ok(set_to_rights(made, SnapshotSet::copied, &access, &tools.stores).await?)
        }
        Resource::EbsVolumes(made) => {
            let ec2 = tools.ebs.open_at(&made.place).await?;
            let (now, quiet) = (Timestamp::now(), tools.ebs.quiet());
            let patience = giving_back();
            Ok(ebs::made::give_back(ec2.as_ref(), made, &patience, now, quiet).await?)
        }
        Resource::UdevRule { path, volumes } => {
            let (path, volumes, exec) = (path.clone(), volumes.clone(), tools.exec.clone());
            let sys = HostView::real().sys;
            blocking(move || {
                stack::await_gone(&sys, &volumes)?;
                quiet::remove(exec.as_ref(), &path)
            })
            .await
        }
        Resource::EbsAttachments(attachments) => detach(attachments, tools).await,
        Resource::Stack(stack) => {
            let (stack, exec) = (stack.clone(), tools.exec.clone());
            let sys = HostView::real().sys;
            blocking(move || stack::take_down(exec.as_ref(), &sys, &stack)).await
        }
        Resource::Snapshot(Snapshot::Lvm(snapshot)) => {
            let (snapshot, exec) = (snapshot.clone(), tools.exec.clone());
            blocking(move || Lvm::new(exec).remove(&snapshot).map(drop)).await
        }
        Resource::Snapshot(Snapshot::Subvolume(snapshot)) => {
            let (snapshot, exec) = (snapshot.clone(), tools.exec.clone());
            blocking(move || Btrfs::new(exec).remove(&snapshot).map(drop)).await
        }
        Resource::Snapshot(Snapshot::Array(picture)) => {
            let (picture, exec) = (picture.clone(), tools.exec.clone());
            blocking(move || Lvm::new(exec).remove_array(&picture)).await
        }
        Resource::Snapshot(Snapshot::Clones(clones)) => {
            let (clones, exec) = (clones.clone(), tools.exec.clone());
            blocking(move || Reflink::new(exec).remove(&clones).map(drop)).await
        }
        Resource::Activation { snapshot } => {
            let (snapshot, exec) = (snapshot.clone(), tools.exec.clone());
            blocking(move || Lvm::new(exec).deactivate(&snapshot)).await
        }
        Resource::Timer { unit } => match tools.systemd {
            Some(systemd) => {
                let (unit, exec) = (unit.clone(), tools.exec.clone());
                blocking(move || systemd.disarm(exec.as_ref(), &unit)).await
            }
            // Without a manager that runs there is no transient unit either.
            None => Ok(()),
        },
        Resource::Lock {
            member,
            process,
            comment,
            host,
        } => match host {
            Some(host) if host.has_ended() => {
                tracing::info!(%member, "mongod has ended, and the lock with it");
                Ok(())
            }
            _ => unlock(member, process, comment, tools).await,
        },
        Resource::Directory { path } => gone(path, std::fs::remove_dir(path)),
        Resource::Mount { point } => {
            let point = point.clone();
            blocking(move || mount::unmount(&point)).await
        }
        Resource::Scratch { path } => {
            let path = path.clone();
            blocking(move || gone(&path, std::fs::remove_dir_all(&path))).await
        }
    }
}

/// Removes what `run` wrote of a set that never became a backup. One with a manifest is a backup, and stays;
/// so does one that another run is writing, whose name differs by nothing if both began in the same second.
async fn remove_failed_set(
    store: &dyn Store,
    set: BackupId,
    run: RunId,
) -> Result<(), ReleaseError> {
    let folder = format!("{set}/");
    match catalog::read_intent(store, set).await {
        Ok(intent) if intent.run == run => {}
        Ok(intent) => {
            tracing::info!(%set, other = %intent.run, "what another run has begun stays");
            return Ok(discard_of_run(store, &folder, run).await?);
        }
        // Every other object of a set comes after its intent: without one there is nothing of ours, but for what we
        // wrote of it. Another host may be writing its own at this moment.
        Err(CatalogError::Store(StoreError::NotFound { .. })) => {
            return Ok(discard_of_run(store, &folder, run).await?);
        }
        Err(error) => return Err(error.into()),
    }
    for unfinished in store.unfinished(&folder).await? {
        store.discard_unfinished(&unfinished).await?;
    }
    let objects = store.list(&folder).await?;
    let manifest = catalog::key(set, MANIFEST);
    if objects.iter().any(|object| object.key == manifest) {
        return Ok(());
    }
    match catalog::clear(store, set, objects).await {
        // Where nothing may be deleted, nothing waits for it either: without a manifest it is no backup.
        Err(error @ StoreError::Denied { .. }) => {
            tracing::warn!(%set, %error, "what the failed backup stored stays");
            Ok(())
        }
        cleared => Ok(cleared?),
    }
}

fn giving_back() -> Patience {
    Patience::new(GIVING_BACK, CancellationToken::new())
}

/// Detaches volumes, unless something uses their disks: a file system must not lose its disk under somebody's hands.
async fn detach(attachments: &Attachments, tools: &Tools) -> Result<(), ReleaseError> {
    let (sys, volumes) = (HostView::real().sys, attachments.volumes.clone());
    blocking(move || stack::refuse_used(&sys, &volumes)).await?;
    let ec2 = tools.ebs.open_at(&attachments.place).await?;
    let patience = giving_back();
    Ok(ebs::attach::give_back(ec2.as_ref(), attachments, &patience).await?)
}

async fn unlock(
    member: &MemberAddr,
    process: &mongo::ServerProcess,
    comment: &str,
    tools: &Tools,
) -> Result<(), ReleaseError> {
    let begun = Instant::now();
    let unlocking = async {
        // A member that cannot be reached now may be overloaded, or be restarting: its lock does not wait for us to be lucky.
        let mongod = loop {
            match mongo::connect(member, &tools.access, APP_NAME, tools.timeout).await {
                Ok(mongod) => break mongod,
                Err(source) if begun.elapsed() >= CONNECT_PATIENCE => {
                    return Err(ReleaseError::Mongo {
                        member: member.clone(),
                        source,
                    });
                }
                Err(error) => tracing::warn!(%member, %error, "trying again"),
            }
            tokio::time::sleep(CONNECT_AGAIN).await;
        };
        // One is enough: it is not tried again.
        let (denied, mut denial) = tokio::sync::mpsc::channel(1);
        let giving = give_back(&mongod, process, comment, Expectation::Unsure, |error| {
            if error.is_denied() {
                let _ = denied.try_send(error.clone());
            } else {
                tracing::warn!(%member, %error, "unlocking failed, trying again");
            }
        });
        tokio::select! {
            outcome = giving => {
                tracing::info!(%member, ?outcome, "lock settled");
                Ok(())
            }
            // Trying again does not change that.
            Some(source) = denial.recv() => Err(ReleaseError::Mongo {
                member: member.clone(),
                source,
            }),
        }
    };
    match tokio::time::timeout(UNLOCK_PATIENCE, unlocking).await {
        Ok(settled) => settled,
        Err(_) => Err(ReleaseError::Unanswered {
            member: member.clone(),
            patience: UNLOCK_PATIENCE,
        }),
    }
}

/// A directory that is gone is well removed, whatever the reason was why it could not be: a read-only file system
/// says so before it says that there is no such directory.
fn gone(path: &Path, removed: std::io::Result<()>) -> Result<(), ReleaseError> {
    let is_gone = || {
        let found = std::fs::symlink_metadata(path);
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    match removed {
        Err(source) if !is_gone() => Err(ReleaseError::Remove {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Runs blocking work off the async threads.
async fn blocking<E: Into<ReleaseError> + Send + 'static>(
    work: impl FnOnce() -> Result<(), E> + Send + 'static,
) -> Result<(), ReleaseError> {
    off_thread(work).await.map_err(Into::into)
}

#[cfg(test)]
impl Tools {
    /// What reaches folders, and nothing else.
    pub(crate) fn for_tests() -> Self {
        Self {
            exec: std::sync::Arc::new(crate::exec::SystemExec),
            access: Access::default(),
            timeout: Duration::from_secs(1),
            systemd: None,
            stores: Stores::default(),
            ebs: ebs::connect::Access::default(),
            program: "/nonexistent".into(),
            config: "/nonexistent".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::lease::Scope;
    use crate::catalog::sample;
    use crate::manifest::INTENT;
    use crate::store;

    #[tokio::test]
    async fn what_a_killed_run_left_half_written_goes_and_what_others_write_stays() {
        let home = tempfile::tempdir().unwrap();
        let url = home.path().to_str().unwrap().to_owned();
        let store = store::open(&url, &Default::default(), &Default::default()).unwrap();
        let (ours, theirs) = (RunId::random(), sample::intent().run);
        let set = sample::id();
        let scope = Scope {
            deployment: sample::intent().deployment.id,
            shard: sample::shard("rs0"),
        };
        let lease = format!("lease-{}/rs0/00000001.json", scope.deployment);
        let intent = catalog::key(set, INTENT);
        // Who is killed leaves what one who is still writing has there.
        let half = async |run: RunId, key: &str| {
            let store = store.of_run(run).unwrap();
            store.create(key, None).await.unwrap()
        };
        let give_back = async || {
            let upload = Resource::Upload {
                store: url.clone(),
                server: None,
                set,
                run: ours,
            };
            let lease = Resource::Lease {
                store: url.clone(),
                server: None,
                scope: scope.clone(),
                run: ours,
            };
            for resource in [upload, lease] {
                release(&resource, &Tools::for_tests()).await.unwrap();
            }
        };
        let _ours = [half(ours, &intent).await, half(ours, &lease).await];
        let others = [half(theirs, &intent).await, half(theirs, &lease).await];
        assert_eq!(store.unfinished("").await.unwrap().len(), 4);
        give_back().await;
        assert_eq!(store.unfinished("").await.unwrap().len(), 2);
        for other in others {
            other.finish().await.unwrap();
        }

        // Another host was faster, and has begun the set.
        store.delete(&intent).await.unwrap();
        store.delete(&lease).await.unwrap();
        let _ours = half(ours, &intent).await;
        let written = catalog::write_intent(store.as_ref(), &sample::intent()).await;
        written.unwrap();
        let other = half(theirs, &catalog::key(set, "rs0.tar.xz")).await;
        give_back().await;
        assert_eq!(store.unfinished("").await.unwrap().len(), 1);
        other.finish().await.unwrap();
        assert!(catalog::read_intent(store.as_ref(), set).await.is_ok());
    }

    #[test]
    fn what_is_not_there_is_well_removed_whatever_the_system_says() {
        let dir = tempfile::tempdir().unwrap();
        let read_only = || Err(std::io::ErrorKind::ReadOnlyFilesystem.into());
        assert!(gone(&dir.path().join("never made"), read_only()).is_ok());
        assert!(gone(dir.path(), read_only()).is_err());
        assert!(gone(dir.path(), Ok(())).is_ok());
    }
}
