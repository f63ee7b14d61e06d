//! Whether the next backup finds room.

use super::*;

fn with_room(free: Option<u64>, sets: Vec<SetSummary>) -> Standing {
    let mut store = seen(sets);
    if let Some(told) = &mut store.told {
        told.free = free;
    }
    Standing::of(&store, &[], &host(vec![]), &ours(), noon())
}

fn told(standing: &Standing) -> Option<String> {
    let all = judge(standing, &WatchConfig::default()).into_iter();
    let mut room = all.filter(|one| one.check == Check::Room);
    room.next().map(|one| one.detail)
}

#[test]
fn a_folder_that_the_next_backup_does_not_fit_into_is_told_of() {
    let sized = |size| vec![SetSummary { size, ..set(31) }];
    let full = with_room(Some(999), sized(1000));
    assert_eq!(alarming(&full), [Check::Room]);
    let one = with_room(Some(1999), sized(1000));
    assert_eq!(alarms(&one), []);
    assert!(told(&one).unwrap().ends_with("free, for one more backup"));
    let many = with_room(Some(u64::MAX), sized(1000));
    assert!(
        told(&many)
            .unwrap()
            .ends_with("for more than 100 more backups")
    );
    // Of a bucket nobody asks; without a backup nobody knows how much is enough.
    assert_eq!(told(&with_room(None, sized(1000))), None);
    assert_eq!(told(&with_room(Some(0), vec![])).unwrap(), "0 B free");
    let page = text(&full, &WatchConfig::default());
    assert!(
        page.contains("\nfreezeframe_store_free_bytes 999\n"),
        "{page}"
    );
}
