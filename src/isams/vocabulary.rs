//! What the Batch API calls its methods, their filters and the containers of their replies, and what these hold.

use crate::source::FetchedKind;

/// A method of the Batch API (verified).
pub(super) struct Method {
    /// Without `Registration_`, which comes before each.
    pub(super) name: &'static str,
    /// The element that filters it by date; without one it takes no dates.
    pub(super) filter: Option<&'static str>,
    /// What rollmark reads of it.
    pub(super) read: Option<Contents>,
}

/// What a method's reply holds.
pub(super) struct Contents {
    pub(super) kind: FetchedKind,
    /// The element around its items. Those of out-of-school records and periods are assumed, so every child counts as an item.
    pub(super) container: &'static str,
    /// How the names of the options for its fields begin.
    pub(super) options: &'static str,
}

const fn contents(kind: FetchedKind, container: &'static str, options: &'static str) -> Option<Contents> {
    Some(Contents { kind, container, options })
}

pub(super) const METHODS: [Method; 6] = [
    Method {
        name: "GetRegistrationStatus",
        filter: Some("RegistrationStatus"),
        read: contents(FetchedKind::Registrations, "RegistrationStatuses", "registration_"),
    },
    Method {
        name: "GetOutOfSchoolPupils",
        filter: Some("OutOfSchoolPupils"),
        read: contents(FetchedKind::OutOfSchool, "OutOfSchoolPupils", "out_of_school_"),
    },
    Method {
        name: "GetRegistrationPeriods",
        filter: Some("RegistrationPeriods"),
        read: contents(FetchedKind::Periods, "RegistrationPeriods", "period_"),
    },
    Method {
        name: "GetRegistrationCodes",
        filter: None,
        read: contents(FetchedKind::Codes, "RegistrationCodes", "code_"),
    },
    Method { name: "GetPresentCodes", filter: None, read: None },
    Method { name: "GetDatesAndTimes", filter: None, read: None },
];

fn all_contents() -> impl Iterator<Item = &'static Contents> {
    METHODS.iter().filter_map(|method| method.read.as_ref())
}

/// The method that gives records of a kind.
pub(super) fn method_of(kind: FetchedKind) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.read.as_ref().is_some_and(|contents| contents.kind == kind))
}

/// What the container of this name holds, in any case.
pub(super) fn contents_of(container: &str) -> Option<&'static Contents> {
    all_contents().find(|contents| contents.container.eq_ignore_ascii_case(container))
}

pub(super) fn container_name(kind: FetchedKind) -> &'static str {
    all_contents().find(|contents| contents.kind == kind).map_or("", |contents| contents.container)
}

/// Whether an element is around the containers (verified).
pub(super) fn is_around(name: &str) -> bool {
    ["iSAMS", "RegistrationManager"].iter().any(|known| known.eq_ignore_ascii_case(name))
}
