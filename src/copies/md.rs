//! Arrays of copies: assembled of our disks alone, never degraded by force.

use std::collections::BTreeMap;
use std::path::Path;

use super::CopyError;
use crate::ebs::disks::node;
use crate::exec::{Command, Exec, ExecError};

/// The first number that is looked at for an array of ours; udev and mdadm take theirs from 127 down, people from 0 up.
const FIRST: u32 = 90;
/// The last one that device files can be made of everywhere.
const LAST: u32 = 510;

/// What a member says of its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The array's UUID, as mdadm writes it.
    pub uuid: String,
    /// How many members it has when it is whole.
    pub devices: Option<u32>,
}

/// Reads the superblock of a member.
///
/// # Errors
/// [`CopyError::Exec`], [`CopyError::Array`].
pub fn examine(exec: &dyn Exec, device: &str) -> Result<Member, CopyError> {
    let said = exec.run(&Command::new(
        "mdadm",
        [
            "--examine".into(),
            "--export".into(),
            node(device).into_os_string(),
        ],
    ))?;
    parse(&said).ok_or_else(|| CopyError::Array {
        members: vec![device.to_owned()],
        reason: "mdadm tells no UUID of it".into(),
    })
}

fn parse(text: &str) -> Option<Member> {
    let values: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    Some(Member {
        uuid: (*values.get("MD_UUID")?).to_owned(),
        devices: values
            .get("MD_DEVICES")
            .and_then(|count| count.parse().ok()),
    })
}

/// A name that no array has.
pub fn free_name(sys: &Path) -> Option<String> {
    let mut names = (FIRST..=LAST).map(|number| format!("md{number}"));
    names.find(|name| !sys.join("block").join(name).exists())
}

/// A UUID as mdadm writes it.
pub fn new_uuid() -> String {
    let words: Vec<_> = std::iter::repeat_with(|| format!("{:08x}", fastrand::u32(..)))
        .take(4)
        .collect();
    words.join(":")
}

/// Assembles the array `name` of `members`, all of which have to be as they were when it was last written to. With `uuid` it gets that one.
///
/// # Errors
/// [`CopyError::Array`] where it does not start.
pub fn assemble(
    exec: &dyn Exec,
    name: &str,
    members: &[String],
    uuid: Option<&str>,
) -> Result<(), CopyError> {
    let command = command(name, members, uuid);
    match exec.run(&command) {
        Ok(_) => Ok(()),
        Err(ExecError::Failed { stderr, .. }) => Err(CopyError::Array {
            members: members.to_vec(),
            reason: stderr,
        }),
        Err(error) => Err(error.into()),
    }
}

/// Without `--run` and `--force`, and whatever the host's configuration says of arrays.
fn command(name: &str, members: &[String], uuid: Option<&str>) -> Command {
    let mut command = Command::new("mdadm", ["--assemble", "--config=none"]);
    command.args.push(node(name).into_os_string());
    if let Some(uuid) = uuid {
        command
            .args
            .extend(["--update=uuid".into(), format!("--uuid={uuid}").into()]);
    }
    let members = members.iter().map(|member| node(member).into_os_string());
    command.args.extend(members);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fake::FakeHost;

    #[test]
    fn a_member_tells_its_array() {
        let text = "MD_LEVEL=raid0\nMD_DEVICES=4\nMD_NAME=uml:0\nMD_UUID=a:b:c:d\nMD_EVENTS=0\n";
        let member = parse(text).unwrap();
        assert_eq!((member.uuid.as_str(), member.devices), ("a:b:c:d", Some(4)));
        assert_eq!(parse("MD_LEVEL=container\n"), None);
    }

    #[test]
    fn an_array_is_made_of_our_disks_and_nothing_is_forced() {
        let members = ["ubdj".to_owned(), "ubdk".to_owned()];
        let line = command("md90", &members, Some("1:2:3:4")).to_string();
        assert_eq!(
            line,
            "mdadm --assemble --config=none /dev/md90 --update=uuid --uuid=1:2:3:4 /dev/ubdj /dev/ubdk"
        );
        assert_eq!(new_uuid().split(':').count(), 4);
        assert_ne!(new_uuid(), new_uuid());
        let host = FakeHost::default();
        host.md("md90", 9, 90, "raid0", &[]);
        assert_eq!(free_name(&host.sys()).as_deref(), Some("md91"));
    }
}
