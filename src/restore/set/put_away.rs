//! How a restored set is put away again, as commands: whoever needs the copies no more has to take down exactly them, beside originals that look alike.

use std::path::Path;

use super::mounts::Mounts;
use crate::copies::stack::{above, acts};
use crate::copies::{Copied, CopyError};
use crate::ebs::Place;

/// The commands in their order, for after mongod has ended. `aws` are the options that lead the AWS CLI to where the volumes are.
///
/// # Errors
/// [`CopyError`] where what lies on the copies cannot be read.
pub fn put_away(
    sys: &Path,
    to: &Path,
    (volumes, mounts): (&[Copied], &Mounts),
    aws: &str,
    rule: Option<&Path>,
) -> Result<Vec<String>, CopyError> {
    let disks = volumes.iter().map(|one| one.disk.clone()).collect();
    let layers = above(sys, &disks).map_err(CopyError::read(sys))?;
    let mut points: Vec<&Path> = mounts.values().map(|one| one.point.as_path()).collect();
    // What is mounted in another comes first.
    points.sort_by(|one, other| other.cmp(one));
    let mut lines: Vec<String> = points
        .into_iter()
        .map(|point| format!("umount {}", quoted(point)))
        .collect();
    lines.push(format!("find {} -xdev -type d -empty -delete", quoted(to)));
    lines.extend(acts(&layers, &disks)?.iter().map(ToString::to_string));
    let ids: Vec<_> = volumes.iter().map(|one| one.volume.id.as_str()).collect();
    let of_each = |verb: &'static str| {
        let line = move |id: &&str| format!("aws ec2 {verb} {aws} --volume-id {id}");
        ids.iter().map(line)
    };
    lines.extend(of_each("detach-volume"));
    lines.push(format!(
        "aws ec2 wait volume-available {aws} --volume-ids {}",
        ids.join(" ")
    ));
    lines.extend(of_each("delete-volume"));
    // It goes by the names of the disks, which others may get.
    lines.extend(rule.map(|rule| format!("rm {}", quoted(rule))));
    Ok(lines)
}

/// The options for the AWS CLI that lead it to where we were led.
pub fn aws_options(place: &Place, profile: Option<&str>) -> String {
    let mut options = format!("--region {}", place.region);
    for (name, value) in [
        ("--endpoint-url", place.endpoint.as_deref()),
        ("--profile", profile),
    ] {
        if let Some(value) = value {
            options.push_str(&format!(" {name} {}", quoted(Path::new(value))));
        }
    }
    options
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:".contains(&byte);
    match text.bytes().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebs::Volume;
    use crate::restore::set::mounts::Mounted;
    use crate::volume::fake::FakeHost;

    fn copied(id: &str, disk: &str) -> Copied {
        Copied {
            of: "vol-0123456789abcdef0".parse().unwrap(),
            snapshot: "snap-0123456789abcdef0".parse().unwrap(),
            volume: Volume {
                id: id.parse().unwrap(),
                attached_as: "/dev/sdf".into(),
                bytes: 1 << 30,
                volume_type: None,
                iops: None,
                throughput: None,
                encrypted: false,
            },
            disk: disk.into(),
        }
    }

    fn mounted(point: &str) -> Mounted {
        Mounted {
            point: point.into(),
            device: "/dev/md90".into(),
            kind: "xfs".into(),
            twin: None,
        }
    }

    #[test]
    fn everything_of_the_copies_goes_from_the_top_and_nothing_of_the_originals() {
        let host = FakeHost::default();
        for (n, name) in ["nvme1n1", "nvme2n1", "nvme3n1", "nvme4n1"]
            .into_iter()
            .enumerate()
        {
            host.disk(name, 259, n as u32, 4096);
        }
        host.md("md0", 9, 0, "raid0", &["nvme1n1", "nvme2n1"]);
        host.md("md90", 9, 90, "raid0", &["nvme3n1", "nvme4n1"]);
        let uuid = format!("LVM-{}", "a".repeat(64));
        host.dm("dm-1", 254, 1, "vg0_copy-mongo", &uuid, &["md90"]);
        let volumes = [
            copied("vol-0123456789abcdefa", "nvme3n1"),
            copied("vol-0123456789abcdefb", "nvme4n1"),
        ];
        let mounts = [
            (0, mounted("/re stored/data")),
            (1, mounted("/re stored/data/x")),
            (2, mounted("/re stored/data-2")),
        ];
        let rule = Path::new("/run/udev/rules.d/63-z-freezeframe-1.rules");
        let to = Path::new("/re stored");
        let copies = (&volumes[..], &mounts.into());
        let lines = put_away(&host.sys(), to, copies, "--region eu-west-1", Some(rule)).unwrap();
        assert_eq!(
            lines,
            [
                "umount '/re stored/data-2'",
                "umount '/re stored/data/x'",
                "umount '/re stored/data'",
                "find '/re stored' -xdev -type d -empty -delete",
                "dmsetup remove --retry vg0_copy-mongo",
                "mdadm --stop /dev/md90",
                "aws ec2 detach-volume --region eu-west-1 --volume-id vol-0123456789abcdefa",
                "aws ec2 detach-volume --region eu-west-1 --volume-id vol-0123456789abcdefb",
                "aws ec2 wait volume-available --region eu-west-1 --volume-ids vol-0123456789abcdefa vol-0123456789abcdefb",
                "aws ec2 delete-volume --region eu-west-1 --volume-id vol-0123456789abcdefa",
                "aws ec2 delete-volume --region eu-west-1 --volume-id vol-0123456789abcdefb",
                "rm /run/udev/rules.d/63-z-freezeframe-1.rules",
            ]
        );
    }

    #[test]
    fn what_is_inside_goes_first_whatever_its_name_is_like() {
        let host = FakeHost::default();
        let mounts = [(0, mounted("/r/data")), (1, mounted("/r/data/my journal"))];
        let copies = (&[][..], &mounts.into());
        let lines = put_away(&host.sys(), Path::new("/r"), copies, "", None).unwrap();
        assert_eq!(
            lines[..2],
            ["umount '/r/data/my journal'", "umount /r/data"]
        );
        let place = Place {
            region: "eu-west-1".into(),
            endpoint: Some("http://127.0.0.1:5000".into()),
        };
        assert_eq!(
            aws_options(&place, Some("my backup")),
            "--region eu-west-1 --endpoint-url http://127.0.0.1:5000 --profile 'my backup'"
        );
    }
}
