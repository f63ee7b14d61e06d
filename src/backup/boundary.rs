//! The boundaries between the things a run does: the moments at which a fault tells most.
//!
//! Whatever is acquired is a [`Resource`](crate::backup::resource::Resource) in the journal, whatever takes its time is a [`Step`]; both are
//! types, and so a new one of either has its boundaries without anybody's care. The laboratory's kill matrix walks
//! through [`Boundary::all`] and fails where one is never reached.

use strum::IntoEnumIterator;

use crate::backup::resource::Kind;
use crate::test_switch;

/// Something a run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Step {
    /// A member writes what it has in memory, before its lock.
    Flush,
    /// A member is asked for its lock.
    Lock,
    /// A snapshot is taken.
    Snapshot,
    /// The top of a locked member's oplog is read.
    Optime,
    /// A member is asked to unlock.
    Unlock,
    /// A member's files become an archive.
    Archive,
    /// The set becomes a backup.
    Manifest,
    /// A volume is made of a snapshot.
    CreateVolume,
    /// It is attached.
    AttachVolume,
    /// What lies on volumes is brought up.
    Assemble,
    /// Symlinks on a copy are led to the copy.
    Links,
    /// Volumes are read through.
    Warm,
    /// A restored directory becomes a replica set.
    Settle,
}

impl Step {
    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a backup comes by it.
    fn is_of_backups(self) -> bool {
        !matches!(
            self,
            Self::CreateVolume
                | Self::AttachVolume
                | Self::Assemble
                | Self::Links
                | Self::Warm
                | Self::Settle
        )
    }
}

/// A moment between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The journal tells of the resource, and it is not acquired yet.
    Planned(Kind),
    /// The resource is given back, and the journal does not say so yet.
    GivenBack(Kind),
    /// The journal says that the resource is given back.
    Released(Kind),
    /// The step is about to begin.
    Begun(Step),
    /// The step is over, well or not.
    Ended(Step),
}

impl std::fmt::Display for Boundary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (subject, moment): (&str, _) = match *self {
            Self::Planned(kind) => (kind.into(), "planned"),
            Self::GivenBack(kind) => (kind.into(), "given_back"),
            Self::Released(kind) => (kind.into(), "released"),
            Self::Begun(step) => (step.into(), "begun"),
            Self::Ended(step) => (step.into(), "ended"),
        };
        write!(f, "{subject}.{moment}")
    }
}

impl Boundary {
    /// Every boundary that comes on whatever volumes. `integration/ebs` and the laboratory's job `ebs` strike at those of EBS, its job `kept` at that of a
    /// thin snapshot that is kept.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_some_volumes = |kind: &Kind| {
            matches!(
                kind,
                Kind::EbsSnapshots
                    | Kind::EbsCopies
                    | Kind::EbsVolumes
                    | Kind::UdevRule
                    | Kind::EbsAttachments
                    | Kind::Stack
                    | Kind::Activation
            )
        };
        let here = Kind::iter().filter(move |kind| !of_some_volumes(kind));
        let resources = here.flat_map(|kind| {
            [
                Self::Planned(kind),
                Self::GivenBack(kind),
                Self::Released(kind),
            ]
        });
        let steps = Step::iter().filter(|step| step.is_of_backups());
        let steps = steps.flat_map(|step| [Self::Begun(step), Self::Ended(step)]);
        resources.chain(steps)
    }

    /// The command that comes by it.
    pub fn command(self) -> &'static str {
        match self {
            Self::Planned(Kind::Scratch)
            | Self::GivenBack(Kind::Scratch)
            | Self::Released(Kind::Scratch) => "verify latest --deep",
            Self::Planned(Kind::Reading)
            | Self::GivenBack(Kind::Reading)
            | Self::Released(Kind::Reading) => "verify latest",
            Self::Planned(_)
            | Self::GivenBack(_)
            | Self::Released(_)
            | Self::Begun(_)
            | Self::Ended(_) => "backup",
        }
    }

    /// Says that the run has come here. Only a test that has ordered a fault makes anything of it.
    pub fn reach(self) {
        test_switch::boundary(self);
    }
}

/// Does `work` between the boundaries of `step`.
pub async fn within<T>(step: Step, work: impl Future<Output = T>) -> T {
    Boundary::Begun(step).reach();
    let value = work.await;
    Boundary::Ended(step).reach();
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_boundary_has_a_name_of_its_own() {
        let names: Vec<_> = Boundary::all().map(|one| one.to_string()).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        assert!(unique.contains(&"lock.given_back".to_owned()));
        assert!(unique.contains(&"snapshot.begun".to_owned()));
    }
}
