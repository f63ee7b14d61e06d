use super::*;
use proptest::prelude::*;

fn directory(n: u32) -> Resource {
    Resource::Directory {
        path: format!("/run/x/{n}").into(),
    }
}

fn written(state: &Path, plans: u32, releases: &[u32]) -> PathBuf {
    let mut journal = Journal::begin(state, RunId::random(), "backup").unwrap();
    let entries = journal.plan((0..plans).map(directory).collect()).unwrap();
    let released: Vec<_> = releases.iter().map(|n| entries[*n as usize]).collect();
    journal.released(&released).unwrap();
    journal.path.clone()
}

#[test]
fn a_live_owner_keeps_its_journal() {
    let state = tempfile::tempdir().unwrap();
    let run = RunId::random();
    let journal = Journal::begin(state.path(), run, "backup").unwrap();
    let path = Journal::path_of(state.path(), run);
    assert!(matches!(
        Journal::take_over(&path),
        Err(JournalError::Alive { .. })
    ));
    drop(journal);
    assert!(Journal::take_over(&path).is_ok());
}

#[test]
fn an_empty_journal_goes_and_a_full_one_stays() {
    let state = tempfile::tempdir().unwrap();
    let path = written(state.path(), 2, &[0]);
    let mut journal = Journal::take_over(&path).unwrap();
    let left: Vec<_> = journal.outstanding().to_vec();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].1, directory(1));
    journal.released(&[left[0].0]).unwrap();
    journal.close().unwrap();
    assert!(!path.exists());
    let path = written(state.path(), 1, &[]);
    Journal::take_over(&path).unwrap().close().unwrap();
    assert!(path.exists());
}

proptest! {
    /// Cut anywhere, the journal names every resource whose record is whole, and can be written on.
    #[test]
    fn a_torn_journal_keeps_its_whole_records(plans in 1u32..6, cut in 0usize..2000) {
        let state = tempfile::tempdir().unwrap();
        let path = written(state.path(), plans, &[]);
        let bytes = std::fs::read(&path).unwrap();
        let first = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        let cut = first + cut % (bytes.len() - first + 1);
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count() - 1;
        let mut journal = Journal::take_over(&path).unwrap();
        prop_assert_eq!(journal.outstanding().len(), whole);
        journal.plan(vec![directory(99)]).unwrap();
        drop(journal);
        let (_, outstanding) = Journal::peek(&path).unwrap();
        prop_assert_eq!(outstanding.last(), Some(&directory(99)));
    }

    #[test]
    fn garbage_is_damage_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }
}

#[test]
fn a_bad_line_in_the_middle_is_damage() {
    let state = tempfile::tempdir().unwrap();
    let path = written(state.path(), 3, &[]);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines[2] = "{";
    std::fs::write(&path, lines.join("\n")).unwrap();
    assert!(matches!(
        Journal::take_over(&path),
        Err(JournalError::Damaged { line: 3, .. })
    ));
}

#[test]
fn a_journal_without_one_whole_record_is_damaged_since_it_has_its_name_only_with_one() {
    let state = tempfile::tempdir().unwrap();
    let path = written(state.path(), 0, &[]);
    let begun = std::fs::read(&path).unwrap();
    for torn in [0, 1, begun.len() - 1] {
        std::fs::write(&path, &begun[..torn]).unwrap();
        assert!(matches!(
            Journal::take_over(&path),
            Err(JournalError::Damaged { line: 1, .. })
        ));
    }
}

#[test]
fn a_last_record_that_was_written_whole_is_damaged_and_not_torn() {
    let state = tempfile::tempdir().unwrap();
    let path = written(state.path(), 2, &[]);
    let whole = std::fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap()
        + 1;
    let changed = |byte: u8| {
        let mut bytes = whole.clone();
        bytes[last + 5] = byte;
        std::fs::write(&path, &bytes).unwrap();
        Journal::take_over(&path)
    };
    assert!(matches!(
        changed(b'~'),
        Err(JournalError::Damaged { line: 3, .. })
    ));
    assert_eq!(changed(0).unwrap().outstanding().len(), 1);
}

#[test]
fn what_can_be_read_of_a_damaged_journal_is_salvaged_unless_its_owner_lives() {
    let state = tempfile::tempdir().unwrap();
    let path = written(state.path(), 3, &[1]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] = b'~';
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        Journal::take_over(&path),
        Err(JournalError::Damaged { line: 1, .. })
    ));
    assert_eq!(Journal::salvage(&path).len(), 2);
    let owner = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
    assert!(Journal::salvage(&path).is_empty());
    drop(owner);
}

#[test]
fn a_journal_has_its_name_only_when_it_says_whose_it_is() {
    let state = tempfile::tempdir().unwrap();
    let folder = Journal::folder(state.path());
    std::fs::create_dir_all(&folder).unwrap();
    let run = RunId::random();
    let named = Journal::path_of(state.path(), run);
    // The name is taken by a directory: the journal cannot get it, and leaves nothing else.
    std::fs::create_dir_all(named.join("x")).unwrap();
    assert!(Journal::begin(state.path(), run, "backup").is_err());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    std::fs::remove_dir_all(&named).unwrap();
    // One that is being made, and one whose run died at it.
    let (alive, dead) = (folder.join("1.unborn"), folder.join("2.unborn"));
    let file = File::create(&alive).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    File::create(&dead).unwrap();
    assert!(Journal::all(state.path()).unwrap().is_empty());
    Journal::sweep_unborn(state.path()).unwrap();
    assert!(alive.exists() && !dead.exists());
    drop(lock);
    Journal::sweep_unborn(state.path()).unwrap();
    assert!(!alive.exists());
}
