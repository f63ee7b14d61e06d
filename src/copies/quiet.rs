//! udev leaves the copies alone.
//!
//! At every new disk udev looks for members of arrays (64-md-raid-assembly.rules), physical volumes (69-lvm.rules) and file systems, which it names by UUID.
//! A copy looks like its original in all three. So a rule that sorts after 63-md-raid-arrays.rules, which finds out what is on an array, and before
//! 64-md-raid-assembly.rules takes away what was found, and the names that were given. See `doc/ebs.md`, "Beside the originals".

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CopyError, stack};
use crate::ebs::Volume;
use crate::ebs::devices::kernel_name;
use crate::ebs::disks::node;
use crate::exec::{Command, Exec};
use crate::ids::RunId;
use crate::whole;

/// Where rules lie that end with the boot.
const FOLDER: &str = "/run/udev/rules.d";

/// The rule of a run.
#[derive(Debug, Clone)]
pub struct Quiet {
    run: RunId,
    /// The copies, by serial number or by the Xen name to come.
    volumes: Vec<Volume>,
    /// UUIDs of arrays, as mdadm writes them.
    arrays: Vec<String>,
    /// UUIDs of groups, as device-mapper has them: without hyphens.
    groups: Vec<String>,
}

/// Where the rule of `run` lies.
pub fn path_of(run: RunId) -> PathBuf {
    Path::new(FOLDER).join(format!("63-z-freezeframe-{run}.rules"))
}

impl Quiet {
    /// For these volumes, which are not attached yet.
    pub fn new(run: RunId, volumes: &[Volume]) -> Self {
        Self {
            run,
            volumes: volumes.to_vec(),
            arrays: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// Also for the array that will have this UUID.
    pub fn add_array(&mut self, uuid: &str) {
        self.arrays.push(uuid.to_owned());
    }

    /// Also for the logical volumes of this group.
    pub fn add_group(&mut self, uuid: &str) {
        self.groups.push(uuid.replace('-', ""));
    }

    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        path_of(self.run)
    }

    fn text(&self) -> String {
        let run = self.run;
        let mut text = format!(
            "# freezeframe, run {run}: udev leaves copies of volumes alone, whose originals may be here. Gone at the next boot.\n\
             ACTION==\"remove\", GOTO=\"freezeframe_{run}_end\"\n\
             SUBSYSTEM!=\"block\", GOTO=\"freezeframe_{run}_end\"\n"
        );
        let mut matches = Vec::new();
        for volume in &self.volumes {
            let id = volume.id.as_str();
            matches.push(format!("ATTRS{{serial}}==\"{}|{id}\"", id.replace('-', "")));
            if let Some(name) = kernel_name(&volume.attached_as) {
                matches.push(format!("KERNEL==\"{name}|{name}[0-9]*\""));
            }
        }
        let arrays = self.arrays.iter();
        matches.extend(arrays.map(|uuid| format!("ENV{{MD_UUID}}==\"{uuid}\"")));
        let groups = self.groups.iter();
        matches.extend(groups.map(|uuid| format!("ENV{{DM_UUID}}==\"LVM-{uuid}*\"")));
        for one in matches {
            text.push_str(&format!("{one}, GOTO=\"freezeframe_{run}_ours\"\n"));
        }
        text.push_str(&format!(
            "GOTO=\"freezeframe_{run}_end\"\n\
             LABEL=\"freezeframe_{run}_ours\"\n\
             ENV{{ID_FS_TYPE}}=\"\", ENV{{ID_FS_USAGE}}=\"\", ENV{{SYSTEMD_READY}}=\"0\", ENV{{UDISKS_IGNORE}}=\"1\"\n\
             ENV{{DM_NAME}}!=\"?*\", SYMLINK=\"freezeframe/%k\"\n\
             ENV{{DM_NAME}}==\"?*\", SYMLINK=\"mapper/$env{{DM_NAME}}\"\n\
             ENV{{DM_LV_NAME}}==\"?*\", ENV{{DM_LV_LAYER}}!=\"?*\", ENV{{DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG}}!=\"1\", \
             SYMLINK+=\"$env{{DM_VG_NAME}}/$env{{DM_LV_NAME}}\"\n\
             LABEL=\"freezeframe_{run}_end\"\n"
        ));
        text
    }

    /// Puts the rule into force.
    ///
    /// # Errors
    /// [`CopyError::Io`], [`CopyError::Exec`].
    pub fn write(&self, exec: &dyn Exec) -> Result<(), CopyError> {
        let path = self.path();
        let write = || {
            fs::create_dir_all(FOLDER)?;
            // udev must not read half of it.
            whole::replace(&path, self.text().as_bytes(), 0o644)
        };
        write().map_err(|source| CopyError::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
        reload(exec)
    }
}

fn reload(exec: &dyn Exec) -> Result<(), CopyError> {
    exec.run(&Command::new("udevadm", ["control", "--reload"]))?;
    Ok(())
}

/// Removes a rule. Well done where there is none.
///
/// # Errors
/// [`CopyError::Io`], [`CopyError::Exec`].
pub fn remove(exec: &dyn Exec, path: &Path) -> Result<(), CopyError> {
    for path in [path, &path.with_extension("new")] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CopyError::Io {
                    action: "remove",
                    path: path.to_owned(),
                    source: error,
                });
            }
            _ => {}
        }
    }
    reload(exec)
}

/// Has udev look at `disks`, and whatever lies on them, as if they were new.
///
/// # Errors
/// [`CopyError::Exec`], [`CopyError::Io`].
pub fn look_again(exec: &dyn Exec, sys: &Path, disks: &BTreeSet<String>) -> Result<(), CopyError> {
    let layers = stack::above(sys, disks).map_err(CopyError::read(sys))?;
    let mut command = Command::new("udevadm", ["trigger", "--action=change"]);
    let names = layers.iter().map(|layer| node(&layer.name));
    let names = names.map(|node| format!("--name-match={}", node.display()).into());
    command.args.extend(names);
    exec.run(&command)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_every_copy_and_lies_between_those_of_udev() {
        let volume = Volume {
            id: "vol-0123456789abcdef0".parse().unwrap(),
            attached_as: "/dev/sdf".into(),
            bytes: 1 << 30,
            volume_type: None,
            iops: None,
            throughput: None,
            encrypted: false,
        };
        let mut quiet = Quiet::new("0badcafe".parse().unwrap(), &[volume]);
        quiet.add_array("1:2:3:4");
        quiet.add_group("abc-def");
        let text = quiet.text();
        for line in [
            "ATTRS{serial}==\"vol0123456789abcdef0|vol-0123456789abcdef0\", GOTO=\"freezeframe_0badcafe_ours\"\n",
            "KERNEL==\"xvdf|xvdf[0-9]*\", GOTO=\"freezeframe_0badcafe_ours\"\n",
            "ENV{MD_UUID}==\"1:2:3:4\", GOTO=\"freezeframe_0badcafe_ours\"\n",
            "ENV{DM_UUID}==\"LVM-abcdef*\", GOTO=\"freezeframe_0badcafe_ours\"\n",
            "ENV{SYSTEMD_READY}=\"0\"",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let name = quiet.path();
        let name = name.file_name().unwrap().to_str().unwrap();
        assert!("63-md-raid-arrays.rules" < name && name < "64-md-raid-assembly.rules");
    }
}
