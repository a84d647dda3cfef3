//! The order of the alerts in a message, and several messages as one.

use crate::bulletin::Item;
use pgbosun_core::alert::Notice;
use std::cmp::Reverse;

/// What is news before what is over, the worst before the milder, what explains others before them, the new before the old.
pub(super) fn sort(items: &mut [Item]) {
    let rank = |item: &Item| match item.notice {
        Notice::Opened | Notice::Test => 0,
        Notice::Changed => 1,
        Notice::Reminder => 2,
        Notice::Acknowledged => 3,
        Notice::Resolved | Notice::Report | Notice::Success => 4,
    };
    items.sort_by_key(|item| {
        let over = item.notice == Notice::Resolved;
        (over, Reverse(item.severity()), Reverse(item.alert.reach), rank(item), item.alert.opened_at)
    });
}

/// One item an alert: how it stands last, and as new where that was not told yet.
pub(super) fn together(items: impl Iterator<Item = Item>) -> Vec<Item> {
    let mut together: Vec<Item> = Vec::new();
    for item in items {
        match together.iter_mut().find(|known| known.alert.id == item.alert.id) {
            Some(known) => {
                let still_new = known.notice == Notice::Opened && item.notice != Notice::Resolved;
                *known = if still_new { Item { notice: Notice::Opened, ..item } } else { item };
            }
            None => together.push(item),
        }
    }
    sort(&mut together);
    together
}
