//! Which changes of an alert are events: what people decide about it. No I/O.

use std::borrow::Cow;

use crate::store::{Alert, Event, JUDGED, Offer, Taken};

/// The events of the offers that were taken. First sight of an alert is none, and neither is a body that did not win.
pub(crate) fn events<'a>(alerts: &[Alert<'a>], offers: &[Offer], taken: &[Taken]) -> Vec<Event<'a>> {
    let mut events = Vec::new();
    for Taken { offer, before } in taken {
        let Some(before) = before else { continue };
        let alert = &alerts[offers[*offer].record];
        for ((field, old), new) in JUDGED.into_iter().zip(before).zip(alert.judgement()) {
            let new = new.map(Cow::into_owned);
            if *old != new {
                events.push(Event { alert: alert.id(), field, old: old.clone(), new, changed_at: alert.record.last_update });
            }
        }
    }
    events
}
