//! Cases that a property found once: each has become a story.

use std::time::Duration;

use domain::{Axis, Ticks};

use super::model::{Answers, Links, Model, ModelRow, NOW, rows};
use super::store::{Ended, PLENTY, Store, rules, stretch};
use crate::walk::Learnt;

/// Found by the property: an update shifts the page that a circular link leads back to, which looks as
/// if the link had led on.
#[test]
fn a_circle_that_once_led_on_is_still_a_circle() {
    let stamp = Ticks(NOW.0 - 25_000_000_000_000);
    let mut stamps = vec![stamp; 28];
    stamps[9] = stamp.next();
    let mut model =
        Model { links: Links::Circle, heeds_skip: false, max_skip: 1, updates: [(15, 0)].into(), ..Model::honest(rows(stamps)) };
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    let ended = store.walk(&mut model, rules(1, 1, false), &mut learnt, PLENTY);
    assert_eq!(ended, Ended::Done);
    assert!(store.gaps.contains_key(&stamp), "what cannot be read is said: {:?}", store.gaps);
}

/// Found by the property: an update shifts a known alert onto the page that an end of links leads to,
/// which looks like a circle.
#[test]
fn an_end_of_links_is_no_circle() {
    let stamps = [9, 13, 0, 5, 5, 5, 9, 0, 0, 3, 0, 1, 11, 10, 0, 0, 5, 12, 6, 5, 5, 0, 5, 5, 2, 0, 7, 5, 0, 0, 8, 2, 2];
    let mut all = rows(stamps.map(|tick| Ticks(NOW.0 - 25_000_000_000_000 + tick)));
    all.push(ModelRow::new(500, Ticks(2_534_023_007_999_999_999)));
    let mut model = Model {
        links: Links::Always,
        clamp: 17,
        heeds_skip: false,
        ragged: true,
        max_skip: 1,
        updates: [(15, 2)].into(),
        ..Model::honest(all)
    };
    let (mut store, mut learnt) = (Store::default(), Learnt::default());
    for _ in 0..2 {
        assert_eq!(store.walk(&mut model, rules(36, 1, true), &mut learnt, PLENTY), Ended::Done);
    }
    assert!(store.missing(&model).is_empty());
}

/// Found by the property: the neighbour of a record at fault was given up with it, when an outage ended just after it had
/// been asked for.
#[test]
fn the_neighbour_of_a_record_at_fault_gets_as_many_chances() {
    let tied = NOW.minus(Duration::from_secs(3_000));
    for begin in 1..110 {
        for length in [1, 2, 3, 30] {
            let outages = std::iter::once(begin..begin + length).collect();
            let mut model = Model { failing: [1].into(), outages, ..Model::honest(rows([tied, tied])) };
            let mut store = Store { patience: 100, ..Store::by_windows() };
            assert_eq!(store.walk(&mut model, rules(1000, 500, true), &mut Learnt::default(), PLENTY), Ended::Done);
            assert!(store.records.contains(&(2, tied)), "{begin} {length}");
        }
    }
}

/// Found by the property: a record that moves to the front while a source is read by places pushes the others back, so
/// that a page shows only what was just seen; that was taken for a source that pays no heed to `$skip`.
#[test]
fn a_page_that_was_pushed_back_is_no_end() {
    let created = NOW.minus(Duration::from_secs(86_400));
    for (clamp, max_skip) in [(1, 1), (1, 58), (2, 1)] {
        for question in 1..40 {
            let all = rows((0..12).map(|second| NOW.minus(Duration::from_secs(3_000 + second))));
            let all = all.into_iter().map(|row| ModelRow { created, words: [Some("low"), Some("new"), Some("office")], ..row }).collect();
            let updates = [(question, 11)].into();
            let mut model = Model { answers: Answers::NewestFirst, clamp, max_skip, updates, ..Model::honest(all) };
            let mut store = Store::default();
            let mut reread = stretch(Axis::Creation, Ticks(created.0 - 5), Ticks(created.0 + 5));
            let ended = store.reread(&mut reread, &mut model, rules(23, max_skip, true), &mut Learnt::default(), PLENTY);
            assert_eq!((ended, store.is_kept()), (Ended::Done, Ok(())), "{clamp} {max_skip} {question}");
        }
    }
}
