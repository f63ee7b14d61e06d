//! Volume groups on copies: seen and activated by commands that look at our devices alone.

use super::CopyError;
use crate::ebs::disks::node;
use crate::exec::{Command, Exec};
use crate::ids::RunId;

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Physical volumes of it that are not to be seen.
    pub missing: u32,
}

/// Settings by which a command sees `devices` alone, whatever the host's configuration and its devices file say, and has nobody watch what it activates.
fn only(devices: &[String]) -> String {
    let accepted = devices
        .iter()
        .map(|name| format!("\"a|^{}$|\"", node(name).display()));
    let patterns: Vec<_> = accepted.chain(["\"r|.*|\"".to_owned()]).collect();
    let patterns = patterns.join(", ");
    format!(
        "devices {{ use_devicesfile=0 filter=[ {patterns} ] global_filter=[ {patterns} ] }} activation {{ monitoring=0 }} backup {{ backup=0 archive=0 }}"
    )
}

fn listing(config: String) -> Command {
    Command::new(
        "vgs",
        [
            "--noheadings".to_owned(),
            "--separator".to_owned(),
            "|".to_owned(),
            "--options".to_owned(),
            "vg_name,vg_uuid,vg_missing_pv_count".to_owned(),
            "--config".to_owned(),
            config,
        ],
    )
}

fn parse(text: &str) -> Vec<Group> {
    let group = |line: &str| {
        let mut fields = line.trim().split('|');
        Some(Group {
            name: fields.next().filter(|name| !name.is_empty())?.to_owned(),
            uuid: fields.next()?.to_owned(),
            missing: fields.next()?.trim().parse().ok()?,
        })
    };
    text.lines().filter_map(group).collect()
}

/// The groups on `devices`, which are ours.
///
/// # Errors
/// [`CopyError::Exec`].
pub fn groups_on(exec: &dyn Exec, devices: &[String]) -> Result<Vec<Group>, CopyError> {
    Ok(parse(&exec.run(&listing(only(devices)))?))
}

/// Those of `devices` that are physical volumes of `group`.
///
/// # Errors
/// [`CopyError::Exec`].
pub fn volumes_of(
    exec: &dyn Exec,
    devices: &[String],
    group: &str,
) -> Result<Vec<String>, CopyError> {
    // One by one: LVM may call a device by any of its names.
    let mut found = Vec::new();
    for device in devices {
        let said = exec.run(&Command::new(
            "pvs",
            [
                "--noheadings".into(),
                "--options".into(),
                "vg_name".into(),
                "--config".into(),
                only(devices).into(),
                node(device).into_os_string(),
            ],
        ))?;
        if said.trim() == group {
            found.push(device.clone());
        }
    }
    Ok(found)
}

/// The groups on `devices`, which are the host's others. Named one by one: a device that is left out may be let in by another of its names.
///
/// # Errors
/// [`CopyError::Exec`].
pub fn other_groups(exec: &dyn Exec, devices: &[String]) -> Result<Vec<Group>, CopyError> {
    match devices {
        [] => Ok(Vec::new()),
        devices => groups_on(exec, devices),
    }
}

/// What a group on copies is called beside the host's others: its own name, where nothing of it is there.
///
/// # Errors
/// [`CopyError::PartialGroup`] for one that would have to be renamed, and is not whole.
pub fn new_name(group: &Group, others: &[Group], run: RunId) -> Result<Option<String>, CopyError> {
    let twin = others
        .iter()
        .any(|other| other.name == group.name || other.uuid == group.uuid);
    match (twin, group.missing) {
        (false, _) => Ok(None),
        (true, 0) => Ok(Some(format!("{}_{run}", group.name))),
        (true, missing) => Err(CopyError::PartialGroup {
            group: group.name.clone(),
            missing,
        }),
    }
}

/// Gives the group on `devices` the name `name`, and new UUIDs to all of it.
///
/// # Errors
/// [`CopyError::Exec`].
pub fn import(exec: &dyn Exec, devices: &[String], name: &str) -> Result<(), CopyError> {
    let mut command = Command::new(
        "vgimportclone",
        [
            "--config".to_owned(),
            only(devices),
            "--basevgname".to_owned(),
            name.to_owned(),
        ],
    );
    let devices = devices.iter().map(|device| node(device).into_os_string());
    command.args.extend(devices);
    exec.run(&command)?;
    Ok(())
}

/// Activates every logical volume of the group, as far as all of it is there.
///
/// # Errors
/// [`CopyError::Exec`].
pub fn activate(exec: &dyn Exec, devices: &[String], group: &Group) -> Result<(), CopyError> {
    let activated = exec.run(&Command::new(
        "vgchange",
        [
            "--config".to_owned(),
            only(devices),
            "--activate".to_owned(),
            "y".to_owned(),
            group.name.clone(),
        ],
    ));
    match activated {
        Err(error) if group.missing > 0 => {
            tracing::warn!(%error, "not all of group {} is in the set", group.name);
            Ok(())
        }
        activated => {
            activated?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_and_renamed_only_beside_another() {
        let ours = parse("  vg0|abc-1|0\n  vg1|abc-2|1\n\n  garbage\n");
        assert_eq!(ours.len(), 2);
        let run = "0badcafe".parse().unwrap();
        assert_eq!(new_name(&ours[0], &[], run).unwrap(), None);
        let same_name = Group {
            uuid: "other".into(),
            ..ours[0].clone()
        };
        let same_uuid = Group {
            name: "renamed".into(),
            ..ours[0].clone()
        };
        for other in [same_name, same_uuid] {
            let name = new_name(&ours[0], &[other], run).unwrap();
            assert_eq!(name.as_deref(), Some("vg0_0badcafe"));
        }
        assert_eq!(new_name(&ours[1], &[ours[0].clone()], run).unwrap(), None);
        assert!(new_name(&ours[1], &ours, run).is_err());
    }

    #[test]
    fn commands_see_the_devices_they_are_given() {
        let only = only(&["md90".into(), "ubdj1".into()]);
        assert!(only.contains("filter=[ \"a|^/dev/md90$|\", \"a|^/dev/ubdj1$|\", \"r|.*|\" ]"));
    }
}
