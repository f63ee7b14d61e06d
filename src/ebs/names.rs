//! Names to attach volumes by, and what a volume made of a snapshot is to be like.

use std::collections::BTreeSet;

use super::ids::SnapshotId;
use super::{EbsError, Volume};

/// Types whose operations a second can be asked for (EC2 API reference, `CreateVolume`).
const WITH_IOPS: [&str; 3] = ["gp3", "io1", "io2"];
/// Those that must be asked for.
const NEEDS_IOPS: [&str; 2] = ["io1", "io2"];
/// The type whose throughput can be asked for.
const WITH_THROUGHPUT: &str = "gp3";
const GIB: u64 = 1 << 30;

/// What the volumes are to be like where they are not to be as they were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Type, such as `gp3`.
    pub volume_type: Option<String>,
    /// Operations a second.
    pub iops: Option<u32>,
    /// MiB a second.
    pub throughput: Option<u32>,
    /// Size in GiB.
    pub gib: Option<u32>,
}

/// What one volume is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Type; none leaves it to EC2.
    pub volume_type: Option<String>,
    /// Operations a second, of a type that has them.
    pub iops: Option<u32>,
    /// MiB a second, of a type that has them.
    pub throughput: Option<u32>,
    /// Size in bytes.
    pub bytes: u64,
}

/// What the copy of `was`, made of `snapshot`, is to be like.
///
/// # Errors
/// [`EbsError::Shape`] for what EC2 would refuse when the first volumes are made already.
pub fn shape(was: &Volume, wish: &Wish, snapshot: &SnapshotId) -> Result<Shape, EbsError> {
    let refused = |reason: String| EbsError::Shape {
        snapshot: snapshot.clone(),
        reason,
    };
    let volume_type = wish.volume_type.clone().or_else(|| was.volume_type.clone());
    let kind = volume_type.as_deref().unwrap_or_default();
    // What a volume was measured by under another type says nothing under this one.
    let same = volume_type == was.volume_type;
    let as_was = |had: Option<u32>, has: bool| had.filter(|_| same && has);
    let has_iops = WITH_IOPS.contains(&kind);
    let has_throughput = kind == WITH_THROUGHPUT;
    if wish.iops.is_some() && !has_iops {
        return Err(refused(format!("type {kind} takes no IOPS")));
    }
    if wish.throughput.is_some() && !has_throughput {
        return Err(refused(format!("type {kind} takes no throughput")));
    }
    let iops = wish.iops.or_else(|| as_was(was.iops, has_iops));
    if iops.is_none() && NEEDS_IOPS.contains(&kind) {
        return Err(refused(format!("type {kind} wants to be told its IOPS")));
    }
    let bytes = match wish.gib {
        Some(gib) => u64::from(gib).saturating_mul(GIB),
        None => was.bytes,
    };
    if bytes < was.bytes {
        return Err(refused(format!(
            "it has {} GiB, which does not fit into {} GiB",
            was.bytes / GIB,
            bytes / GIB
        )));
    }
    Ok(Shape {
        iops,
        throughput: wish
            .throughput
            .or_else(|| as_was(was.throughput, has_throughput)),
        volume_type,
        bytes,
    })
}

/// The letters by which a Xen kernel tells volumes apart: `f` of `/dev/sdf` and of `/dev/xvdf`, `a` of `/dev/sda1`.
fn letters(name: &str) -> &str {
    let name = name.strip_prefix("/dev/").unwrap_or(name);
    let letters = name
        .strip_prefix("xvd")
        .or_else(|| name.strip_prefix("sd"))
        .unwrap_or(name);
    letters.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// Every name that EC2 takes for a data volume, those first that it recommends (EC2 user guide, "Device names for volumes").
fn candidates() -> impl Iterator<Item = String> {
    let plain = ('f'..='z').map(|letter| format!("/dev/sd{letter}"));
    let further = ('b'..='d')
        .flat_map(|first| ('a'..='z').map(move |second| format!("/dev/xvd{first}{second}")));
    plain.chain(further)
}

/// A name for each of `wanted`, by which none of `taken` is attached: the old one where it is free.
///
/// # Errors
/// [`EbsError::NoName`].
pub fn free_names<'a>(
    wanted: impl IntoIterator<Item = &'a str>,
    taken: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<String>, EbsError> {
    let mut used: BTreeSet<String> = taken
        .into_iter()
        .map(|name| letters(name).to_owned())
        .collect();
    let wanted: Vec<&str> = wanted.into_iter().collect();
    // First all that keep their name, so that none of the others takes it.
    let kept: Vec<Option<String>> = wanted
        .iter()
        .map(|name| {
            let is_candidate = candidates().any(|one| letters(&one) == letters(name));
            (is_candidate && used.insert(letters(name).to_owned())).then(|| (*name).to_owned())
        })
        .collect();
    let mut free = candidates();
    kept.into_iter()
        .map(|kept| {
            kept.or_else(|| free.find(|name| used.insert(letters(name).to_owned())))
                .ok_or(EbsError::NoName)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn was(kind: &str, iops: Option<u32>, throughput: Option<u32>) -> Volume {
        Volume {
            id: "vol-00000001".parse().unwrap(),
            attached_as: "/dev/sdf".into(),
            bytes: 100 * GIB,
            volume_type: Some(kind.into()),
            iops,
            throughput,
            encrypted: false,
        }
    }

    #[test]
    fn a_volume_is_as_it_was_or_as_asked_for_and_what_ec2_would_refuse_is_refused() {
        let snapshot = "snap-00000001".parse().unwrap();
        let of = |was: &Volume, wish: Wish| {
            shape(was, &wish, &snapshot).map(|one| {
                (
                    one.volume_type.unwrap_or_default(),
                    one.iops,
                    one.throughput,
                    one.bytes / GIB,
                )
            })
        };
        let typed = |kind: &str| Wish {
            volume_type: Some(kind.into()),
            ..Wish::default()
        };
        let gp3 = was("gp3", Some(4000), Some(250));
        assert_eq!(
            of(&gp3, Wish::default()).unwrap(),
            ("gp3".into(), Some(4000), Some(250), 100)
        );
        // EC2 tells the IOPS of gp2, and does not take them.
        assert_eq!(
            of(&was("gp2", Some(300), None), Wish::default()).unwrap(),
            ("gp2".into(), None, None, 100)
        );
        assert_eq!(
            of(&was("io2", Some(9000), None), typed("gp3")).unwrap(),
            ("gp3".into(), None, None, 100)
        );
        assert!(of(&gp3, typed("io2")).is_err());
        let io2 = Wish {
            iops: Some(5000),
            gib: Some(200),
            ..typed("io2")
        };
        assert_eq!(
            of(&gp3, io2).unwrap(),
            ("io2".into(), Some(5000), None, 200)
        );
        for wrong in [
            Wish {
                gib: Some(99),
                ..Wish::default()
            },
            Wish {
                iops: Some(1),
                ..typed("st1")
            },
            Wish {
                throughput: Some(1),
                iops: Some(1),
                ..typed("io1")
            },
        ] {
            assert!(of(&gp3, wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_are_free_distinct_and_the_old_ones_where_that_can_be() {
        let names = free_names(
            ["/dev/sdf", "/dev/xvdg", "/dev/sdh", "/dev/sda1"],
            ["/dev/sda1", "/dev/xvdf", "/dev/sdi"],
        )
        .unwrap();
        assert_eq!(names, ["/dev/sdj", "/dev/xvdg", "/dev/sdh", "/dev/sdk"]);
        let twice = free_names(["/dev/sdf", "/dev/xvdf"], []).unwrap();
        assert_eq!(twice, ["/dev/sdf", "/dev/sdg"]);
        let many = vec!["/dev/sdf"; 21 + 78];
        let names = free_names(many.clone(), []).unwrap();
        let distinct: BTreeSet<_> = names.iter().map(|name| letters(name)).collect();
        assert_eq!(distinct.len(), names.len());
        assert!(matches!(
            free_names(many, ["/dev/sdz"]),
            Err(EbsError::NoName)
        ));
    }
}
