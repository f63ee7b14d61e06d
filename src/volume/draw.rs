//! The stack of a file system as a small picture, for `check` and for refusals.

use std::fmt::Write;

use super::{Filesystem, Layer, LayerKind};
use crate::human;

impl Filesystem {
    /// The mount, its file system and everything below, one line each, no line break at the end.
    pub fn draw(&self) -> String {
        let mut text = format!("{}  {}", self.mount_point.display(), self.kind);
        if self.root.as_os_str() != "/" {
            // Writing to a String cannot fail.
            let _ = write!(text, "  (its directory {})", self.root.display());
        }
        if !self.external.is_empty() {
            let _ = write!(text, "  ({})", self.external.join(", "));
        }
        draw_layer(&mut text, &self.device, "", true);
        text
    }
}

fn draw_layer(text: &mut String, layer: &Layer, indent: &str, last: bool) {
    let branch = if last { "└─ " } else { "├─ " };
    let _ = write!(text, "\n{indent}{branch}{}", describe(layer));
    let indent = format!("{indent}{}", if last { "   " } else { "│  " });
    for (index, below) in layer.below.iter().enumerate() {
        draw_layer(text, below, &indent, index + 1 == layer.below.len());
    }
}

fn describe(layer: &Layer) -> String {
    let size = human::size(layer.size);
    let name = &layer.name;
    match &layer.kind {
        LayerKind::LogicalVolume { vg, lv } => {
            format!("logical volume {vg}/{lv}  {size}  ({name})")
        }
        LayerKind::DeviceMapper { name: dm, .. } => format!("device-mapper {dm}  {size}  ({name})"),
        LayerKind::Md { level } => format!("md {level}  {size}  ({name})"),
        LayerKind::Partition => format!("partition {name}  {size}"),
        LayerKind::Disk => format!("disk {name}  {size}"),
        LayerKind::Subvolume { whole: true } => format!("subvolume on {size}"),
        LayerKind::Subvolume { whole: false } => format!("directory of a subvolume on {size}"),
        LayerKind::NotABlockDevice { source } => format!("no block device: {source}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeHost;
    use super::super::{DevNumber, sysfs};
    use super::*;

    #[test]
    fn draws_what_lies_on_what() {
        let host = FakeHost::default();
        host.disk("sda", 8, 0, 1 << 21);
        host.disk("sdb", 8, 16, 1 << 21);
        host.partition("sda", "sda1", 8, 1, 1 << 20);
        host.dm(
            "dm-0",
            254,
            0,
            "data-mongo",
            &format!("LVM-{}", "a".repeat(64)),
            &["sda/sda1", "sdb"],
        );
        let device = sysfs::layers(
            &host.sys(),
            DevNumber {
                major: 254,
                minor: 0,
            },
        )
        .unwrap()
        .unwrap();
        let filesystem = Filesystem {
            mount_point: "/data".into(),
            root: "/mongo".into(),
            kind: "xfs".into(),
            device,
            external: vec!["log on /dev/sdc1".into()],
        };
        let expected = "\
/data  xfs  (its directory /mongo)  (log on /dev/sdc1)
└─ logical volume data/mongo  1.0 GiB  (dm-0)
   ├─ partition sda1  512.0 MiB
   │  └─ disk sda  1.0 GiB
   └─ disk sdb  1.0 GiB";
        assert_eq!(filesystem.draw(), expected);
    }
}
