//! The key ring file: what is read, what is refused, and what a change of it leaves behind.

use super::change::{Lock, RingChange, RingTarget};
use super::*;

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/ring");
    (folder, path)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_new_ring_loads_again_and_belongs_to_its_owner_alone() {
    let (_folder, path) = fresh();
    let made = KeyRing::init(&path).unwrap();
    let loaded = KeyRing::load(&path).unwrap();
    assert_eq!(made.ids(), loaded.ids());
    assert_eq!(made.active().bytes, loaded.active().bytes);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left behind");
}

#[test]
fn an_existing_ring_is_never_overwritten() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(KeyRing::init(&path), Err(KeyRingError::Exists(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_missing_or_exposed_ring_says_what_to_type() {
    let (_folder, path) = fresh();
    assert!(KeyRing::load(&path).unwrap_err().to_string().contains("`tocsin key init`"));
    KeyRing::init(&path).unwrap();
    for mode in [0o604, 0o620, 0o660, 0o602, 0o644, 0o650] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let words = KeyRing::load(&path).unwrap_err().to_string();
        assert!(words.contains(&format!("chmod 600 {}", path.display())), "{words}");
    }
}

#[test]
fn a_ring_that_its_group_may_read_is_taken_with_a_warning() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    assert_eq!(KeyRing::load(&path).unwrap().warning(), None);
    for mode in [0o640, 0o440] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let ring = KeyRing::load(&path).unwrap();
        let warning = ring.warning().unwrap();
        assert!(warning.contains("by its group") && warning.contains(&format!("{mode:03o}")), "{warning}");
    }
}

#[test]
fn a_systemd_credential_may_show_its_access_list() {
    let credential = Path::new("/run/credentials/tocsin.service/ring");
    assert!(!is_exposed(0o440) && !is_shared(credential, 0o440));
    assert!(is_shared(Path::new("/etc/tocsin/ring"), 0o440));
}

#[test]
fn a_damaged_line_is_named_by_its_number_and_never_shown() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap().lines().last().unwrap().to_owned();
    let other = {
        let (_folder, path) = fresh();
        KeyRing::init(&path).unwrap();
        fs::read_to_string(&path).unwrap().lines().last().unwrap().to_owned()
    };
    let words: Vec<&str> = good.split(' ').collect();
    let foreign: Vec<&str> = other.split(' ').collect();
    let altered = {
        let first = if words[2].starts_with('A') { 'B' } else { 'A' };
        format!("{} {} {first}{}", words[0], words[1], &words[2][1..])
    };
    let damaged = [
        format!("{} {}", words[0], words[1]),
        good[..good.len() - 1].to_owned(),
        good[..good.len() - 4].to_owned(),
        altered,
        format!("{} {} {}", words[0], words[1], foreign[2]),
        format!("tocsin-key-2 {} {}", words[1], words[2]),
        format!("{good} more"),
        good.clone(),
    ];
    for line in damaged {
        write(&path, &format!("# a comment\n{good}\n\n{line}\n"));
        let error = KeyRing::load(&path).unwrap_err();
        assert!(matches!(error, KeyRingError::Line { line: 4, .. }), "{line}: {error}");
        assert!(!error.to_string().contains(words[2]) && !format!("{error:?}").contains(words[2]));
    }
    write(&path, "# nothing but a comment\n\n");
    assert!(matches!(KeyRing::load(&path), Err(KeyRingError::Empty(_))));
}

#[test]
fn every_cut_of_the_file_is_refused() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    // Only the last line break may be missing.
    for length in 0..whole.len() - 1 {
        write(&path, &whole[..length]);
        assert!(KeyRing::load(&path).is_err(), "cut after {length} bytes");
    }
}

#[test]
fn printing_a_ring_shows_ids_only() {
    let (_folder, path) = fresh();
    let ring = KeyRing::init(&path).unwrap();
    let encoded = BASE64.encode(ring.active().bytes.as_slice());
    let printed = format!("{ring:?}");
    assert!(printed.contains(&ring.active_id().to_string()) && !printed.contains(&encoded));
}

/// Ids in order, with the next one told apart.
fn roles(ring: &KeyRing) -> (Vec<KeyId>, Option<KeyId>) {
    (ring.ids(), ring.next_id())
}

#[test]
fn a_rotation_brings_a_key_in_makes_it_the_first_and_takes_the_old_one_out() {
    let (_folder, path) = fresh();
    let old = KeyRing::init(&path).unwrap().active_id();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut change = RingChange::begin(&path).unwrap();
    let key = RingChange::fresh_key().unwrap();
    let new = key.id;
    change.add_next(key, &RingTarget::InPlace).unwrap();
    assert_eq!(roles(&KeyRing::load(&path).unwrap()), (vec![old, new], Some(new)));
    assert_eq!(KeyRing::load(&path).unwrap().active_id(), old, "it does not seal yet");
    change.activate_next(&RingTarget::InPlace).unwrap();
    assert_eq!(roles(&KeyRing::load(&path).unwrap()), (vec![new, old], None));
    change.remove(old, &RingTarget::InPlace).unwrap();
    assert_eq!(roles(&KeyRing::load(&path).unwrap()), (vec![new], None));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "as it was");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left behind");
}

#[test]
fn two_commands_do_not_change_one_ring_and_a_change_by_hand_is_not_lost() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    let mut change = RingChange::begin(&path).unwrap();
    assert!(matches!(RingChange::begin(&path), Err(KeyRingError::Busy(_))));
    let other = path.with_file_name("other");
    KeyRing::init(&other).unwrap();
    fs::copy(&other, &path).unwrap();
    let key = RingChange::fresh_key().unwrap();
    let error = change.add_next(key, &RingTarget::InPlace).unwrap_err().to_string();
    assert!(error.contains("changed by somebody else"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), fs::read(&other).unwrap());
    drop(change);
    let folder = fs::File::open(path.parent().unwrap()).unwrap();
    // What a child has that was forked meanwhile.
    let inherited = folder.try_clone().unwrap();
    folder.lock().unwrap();
    assert!(matches!(RingChange::begin(&path), Err(KeyRingError::Busy(_))));
    drop(Lock(folder));
    assert!(RingChange::begin(&path).is_ok(), "a command that is over locks nobody out");
    drop(inherited);
}

#[test]
fn a_ring_that_cannot_be_written_goes_to_another_file() {
    let (_folder, path) = fresh();
    let old = KeyRing::init(&path).unwrap().active_id();
    let elsewhere = path.with_file_name("to-be-put-in-place");
    let mut change = RingChange::begin(&path).unwrap();
    let target = RingTarget::Elsewhere(elsewhere.clone());
    change.add_next(RingChange::fresh_key().unwrap(), &target).unwrap();
    assert_eq!(KeyRing::load(&path).unwrap().ids(), [old], "the ring itself is as it was");
    assert_eq!(KeyRing::load(&elsewhere).unwrap().ids().len(), 2);
    assert_eq!(fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o777, 0o600);
    let error = change.activate_next(&target).unwrap_err().to_string();
    assert!(error.contains("exists already") && error.contains("put it in the place of"), "{error}");
    let words = KeyRingError::ReadOnly { path, source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem) }.to_string();
    assert!(words.contains("--write-ring FILE") && words.contains("same command again"), "{words}");
}

#[test]
fn a_link_to_the_ring_stays_a_link() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    let link = path.parent().unwrap().parent().unwrap().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut change = RingChange::begin(&link).unwrap();
    change.add_next(RingChange::fresh_key().unwrap(), &RingTarget::InPlace).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(KeyRing::load(&path).unwrap().ids().len(), 2);
}

#[test]
fn drafts_of_a_killed_command_are_cleared_away_and_nothing_else() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    let (draft, other) = (path.with_file_name("ring.0123456789abcdef.new"), path.with_file_name("ring.mine.new"));
    write(&draft, "tocsin-key-1 …");
    write(&other, "");
    drop(RingChange::begin(&path).unwrap());
    assert!(!draft.exists() && other.exists());
}

#[test]
fn next_stands_on_one_key_only_and_never_on_the_first() {
    let (_folder, path) = fresh();
    KeyRing::init(&path).unwrap();
    let mut change = RingChange::begin(&path).unwrap();
    change.add_next(RingChange::fresh_key().unwrap(), &RingTarget::InPlace).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let keys: Vec<&str> = text.lines().filter(|line| line.starts_with(LINE_TAG)).collect();
    for (lines, line) in [
        (vec![keys[1].to_owned(), keys[0].to_owned()], 1),
        (vec![keys[0].to_owned(), keys[1].replace(" next", " nex")], 2),
        (vec![keys[0].to_owned(), format!("{} next", keys[1])], 2),
    ] {
        write(&path, &lines.join("\n"));
        let error = KeyRing::load(&path).unwrap_err();
        assert!(matches!(error, KeyRingError::Line { line: at, .. } if at == line), "{error}");
    }
}
