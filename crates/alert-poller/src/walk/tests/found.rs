//! Cases that a property found once: each has become a story.

use domain::Ticks;

use super::model::{Links, Model, ModelRow, NOW, rows};
use super::store::{Ended, PLENTY, Store, rules};
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
