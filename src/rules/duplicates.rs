//! Which row counts of several for one register and student (R4).

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use crate::model::{Registration, Zone, compare_ids};

pub(super) fn is_not_taken(row: &Registration) -> bool {
    !row.registered && row.code.is_none() && row.verdict.is_none_or(|verdict| !verdict.taken && !verdict.out_of_school)
}

pub(super) fn stamp_of(row: &Registration, zone: &Zone) -> Option<DateTime<Utc>> {
    row.last_updated.map(|stamp| stamp.instant(zone))
}

/// The greater wins (R4).
pub(crate) fn compare_duplicates(a: &Registration, b: &Registration, zone: &Zone) -> Ordering {
    (stamp_of(a, zone), !is_not_taken(a))
        .cmp(&(stamp_of(b, zone), !is_not_taken(b)))
        .then_with(|| compare_ids(a.id.as_ref(), b.id.as_ref()))
        .then_with(|| a.cmp(b))
}
