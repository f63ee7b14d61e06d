use proptest::prelude::*;

use super::*;

fn device(minor: u32) -> DevNumber {
    DevNumber { major: 254, minor }
}

fn member(slot: u32) -> MemberFacts {
    MemberFacts {
        device: device(slot),
        slot: Some(slot),
        states: vec!["in_sync".into()],
        offset: 2048 + u64::from(slot),
        sectors: 4096,
        bad_blocks: false,
    }
}

/// An array as the kernel describes one of `slots` members with 4096 sectors each.
fn array(level: &str, layout: i32, slots: u32, sectors: u64) -> ArrayFacts {
    ArrayFacts {
        name: "md0".into(),
        level: level.into(),
        sectors,
        slots,
        chunk: if level == "raid1" { 0 } else { 1024 },
        layout,
        metadata: "1.2".into(),
        state: "clean".into(),
        action: (level != "raid0").then(|| "idle".into()),
        resync_start: (level != "raid0").then(|| "none".into()),
        reshape_position: Some("none".into()),
        degraded: 0,
        members: (0..slots).map(member).collect(),
    }
}

fn raid0() -> ArrayFacts {
    array("raid0", -1, 3, 12288)
}

fn raid1() -> ArrayFacts {
    array("raid1", 0, 2, 4000)
}

fn raid10() -> ArrayFacts {
    array("raid10", 0x102, 4, 8192)
}

fn whichever(_: DevNumber) -> bool {
    true
}

fn slots(assembly: &Assembly) -> Vec<u32> {
    assembly.members.iter().map(|member| member.slot).collect()
}

fn devices(count: usize) -> Vec<String> {
    (0..count).map(|one| format!("253:{one}")).collect()
}

#[test]
fn raid0_is_striped_over_all() {
    let assembly = Assembly::of(&raid0(), whichever).unwrap();
    assert_eq!(slots(&assembly), [0, 1, 2]);
    assert_eq!(
        assembly.table(&devices(3)).unwrap(),
        "0 12288 striped 3 1024 253:0 2048 253:1 2049 253:2 2050"
    );
    assert_eq!(assembly.table(&devices(2)), None);
}

#[test]
fn raid1_is_one_of_its_members() {
    let assembly = Assembly::of(&raid1(), whichever).unwrap();
    assert_eq!(slots(&assembly), [0]);
    assert_eq!(
        assembly.table(&devices(1)).unwrap(),
        "0 4000 linear 253:0 2048"
    );
}

#[test]
fn raid10_is_striped_over_one_of_each_mirror() {
    let assembly = Assembly::of(&raid10(), whichever).unwrap();
    assert_eq!(slots(&assembly), [0, 2]);
    assert_eq!(
        assembly.table(&devices(2)).unwrap(),
        "0 8192 striped 2 1024 253:0 2048 253:1 2050"
    );
}

#[test]
fn a_member_that_may_lack_something_is_passed_over() {
    for state in ["faulty", "write_mostly", "spare", "replacement"] {
        let mut facts = raid10();
        facts.members[0].states = vec!["in_sync".into(), state.into()];
        assert_eq!(
            slots(&Assembly::of(&facts, whichever).unwrap()),
            [1, 2],
            "{state}"
        );
    }
    let mut facts = raid10();
    facts.members[2].states = vec!["spare".into()];
    assert_eq!(slots(&Assembly::of(&facts, whichever).unwrap()), [0, 3]);
    let mut facts = raid10();
    facts.members[2].bad_blocks = true;
    assert_eq!(slots(&Assembly::of(&facts, whichever).unwrap()), [0, 3]);
    // missing
    let mut facts = raid10();
    facts.members.remove(0);
    assert_eq!(slots(&Assembly::of(&facts, whichever).unwrap()), [1, 2]);
    let only = |wanted| move |found: DevNumber| found == device(wanted);
    assert_eq!(slots(&Assembly::of(&raid1(), only(1)).unwrap()), [1]);
    let reason = Assembly::of(&raid1(), only(7)).unwrap_err();
    assert!(reason.contains("no member in slot 0 or 1"), "{reason}");
    let mut facts = raid0();
    facts.members[1].states = vec!["faulty".into()];
    let reason = Assembly::of(&facts, whichever).unwrap_err();
    assert!(reason.contains("no member in slot 1"), "{reason}");
}

type Change = fn(&mut ArrayFacts);

#[test]
fn what_cannot_be_put_together_is_refused() {
    let broken: [(&str, Change); 9] = [
        ("state", |facts| facts.state = "broken".into()),
        ("resync", |facts| facts.action = Some("resync".into())),
        ("waits for a resync", |facts| {
            facts.resync_start = Some("4096".into());
        }),
        ("reshaped", |facts| {
            facts.reshape_position = Some("0".into());
        }),
        ("metadata", |facts| facts.metadata = "external:imsm".into()),
        ("not supported", |facts| facts.level = "raid5".into()),
        ("layout", |facts| facts.layout = 0x201),
        ("layout", |facts| facts.slots = 5),
        ("add up to", |facts| facts.sectors += 1),
    ];
    for (part, breaks) in broken {
        let mut facts = raid10();
        breaks(&mut facts);
        let reason = Assembly::of(&facts, whichever).unwrap_err();
        assert!(reason.contains(part), "{part}: {reason}");
    }
    // zones
    let mut facts = raid0();
    facts.members[1].sectors = 2048;
    facts.sectors = 9216;
    let reason = Assembly::of(&facts, whichever).unwrap_err();
    assert!(reason.contains("of one size"), "{reason}");
    let mut empty = raid1();
    (empty.slots, empty.members) = (0, Vec::new());
    assert!(Assembly::of(&empty, whichever).is_err());
}

#[test]
fn a_check_and_a_rebuilt_member_are_no_hindrance() {
    for action in ["check", "recover", "frozen"] {
        let mut facts = raid10();
        facts.action = Some(action.into());
        facts.state = "active".into();
        assert!(Assembly::of(&facts, whichever).is_ok(), "{action}");
    }
}

#[test]
fn what_has_changed_is_seen() {
    let assembly = Assembly::of(&raid10(), whichever).unwrap();
    assembly.holds(&raid10()).unwrap();
    // Not one of those that were chosen.
    let mut other = raid10();
    other.members[1].states = vec!["faulty".into()];
    assembly.holds(&other).unwrap();
    let changed: [Change; 6] = [
        |facts| facts.members[0].states = vec!["faulty".into()],
        |facts| facts.members[2].bad_blocks = true,
        |facts| facts.members[2].offset += 8,
        |facts| facts.members[0].device = device(9),
        |facts| facts.action = Some("resync".into()),
        |facts| facts.sectors *= 2,
    ];
    for change in changed {
        let mut facts = raid10();
        change(&mut facts);
        assert!(assembly.holds(&facts).is_err(), "{facts:?}");
    }
}

/// Where the kernel's raid10 puts a sector of the array: member and sector in it (`drivers/md/raid10.c`, `__raid10_find_phys`, the first near copy).
fn find_phys(facts: &ArrayFacts, sector: u64) -> (u32, u64) {
    let near = u64::try_from(facts.layout & 0xff).unwrap();
    let (chunk, disks) = (facts.chunk, u64::from(facts.slots));
    let chunks = sector / chunk * near;
    let (stripe, disk) = (chunks / disks, chunks % disks);
    (
        u32::try_from(disk).unwrap(),
        stripe * chunk + sector % chunk,
    )
}

proptest! {
    /// Device-mapper's striped target (`drivers/md/dm-stripe.c`, `stripe_map_sector`) finds each sector where md put it.
    #[test]
    fn sectors_are_where_md_put_them(groups in 2u32..5, near in 1u32..4, chunks in 1u64..6, seed in any::<u64>()) {
        let slots = groups * near;
        let mut facts = match near {
            1 => array("raid0", -1, slots, 0),
            _ => array("raid10", 0x100 | i32::try_from(near).unwrap(), slots, 0),
        };
        facts.chunk = 8;
        facts.sectors = chunks * 8 * u64::from(groups);
        let assembly = Assembly::of(&facts, |_| true).unwrap();
        let sector = seed % facts.sectors;
        let (stripes, chunk) = (u64::from(groups), sector / 8);
        let (stripe, within) = (chunk % stripes, chunk / stripes * 8 + sector % 8);
        let (slot, offset) = match near {
            1 => (u32::try_from(stripe).unwrap(), within),
            _ => find_phys(&facts, sector),
        };
        prop_assert_eq!(assembly.members[usize::try_from(stripe).unwrap()].slot, slot);
        prop_assert_eq!(within, offset);
    }
}
