use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

use crate::model::{Mark, Status, Zone, names, setters};

/// Why a mark is not settled yet, in the order in which the reasons are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum UnsettledReason {
    /// The register was not taken.
    NotTaken,
    /// Nobody has said why the student was absent: code N, an absence without a letter, or an unknown code.
    Unexplained,
    /// The record that decides was saved only a short time ago.
    TooFresh,
    /// The data that was read can be older than the register.
    ReplyMayBeOld,
}

names!(UnsettledReason, "a reason", {
    NotTaken => "not_taken",
    Unexplained => "unexplained",
    TooFresh => "too_fresh",
    ReplyMayBeOld => "reply_may_be_old",
});

/// How long a portal waits before it treats a mark as settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlingPolicy {
    zone: Zone,
    unexplained_for: TimeDelta,
    min_age: TimeDelta,
}

setters!(SettlingPolicy {
    /// Sets [`unexplained_for`](Self::unexplained_for). Zero, or less, switches the reason off. The default is 24 hours.
    with_unexplained_for(unexplained_for: TimeDelta) => unexplained_for;
    /// Sets [`min_age`](Self::min_age). Zero, or less, switches the reason off. The default is 20 minutes.
    with_min_age(min_age: TimeDelta) => min_age;
});

impl SettlingPolicy {
    /// The default policy for a school in this time zone.
    pub fn new(zone: Zone) -> Self {
        Self { zone, unexplained_for: TimeDelta::hours(24), min_age: TimeDelta::minutes(20) }
    }

    /// How long after the session's registration time the school's office has to explain an absence.
    pub fn unexplained_for(&self) -> TimeDelta {
        self.unexplained_for
    }

    /// How long ago, at least, the record that decides must have been updated.
    pub fn min_age(&self) -> TimeDelta {
        self.min_age
    }
}

/// Whether a mark can be shown to a parent as it is.
///
/// A mark can be right and still change soon: the register is half taken, or the office has not looked at an absence yet. A
/// portal shows an unsettled mark as "not confirmed yet" or not at all, and sends no message about it.
///
/// ```
/// use chrono::{TimeDelta, Utc};
/// use rollmark::codes::{Settling, SettlingPolicy};
/// # use rollmark::model::{Record, Registration, Session, StudentId};
/// # use rollmark::rules::{Resolver, Rules, Window};
/// # let today = "2026-11-20".parse()?;
/// # let mut resolver = Resolver::new(Rules::new("Europe/London".parse()?), Window::day(today));
/// # resolver.push(Record::Registration(Registration::new("4733683260", "2026-11-20T08:40:00".parse()?)));
/// # let mark = resolver.finish()?.mark(&StudentId::new("4733683260"), today, Session::Am).unwrap();
/// # let now = Utc::now();
/// let policy = SettlingPolicy::new("Europe/London".parse()?).with_min_age(TimeDelta::minutes(10));
/// match Settling::of(&mark, now, now, &policy) {
///     Settling::Settled => println!("{mark}"),
///     Settling::Unsettled { reason, .. } => println!("not confirmed yet ({reason})"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a mark is settled or it is not")]
pub enum Settling {
    /// Nothing speaks against showing it.
    Settled,
    /// Something does.
    Unsettled {
        /// The first reason that fits.
        reason: UnsettledReason,
        /// When the reason no longer fits, if time alone settles the mark. Otherwise a later run does.
        until: Option<DateTime<Utc>>,
    },
}

impl Settling {
    /// Says whether a mark is settled at `now`. `as_of_earliest` is the earliest moment that the mark can show
    /// ([R9](crate::guide::rules#r9)), as given by a store or a run.
    ///
    /// If the student has no registration for the session, an unexplained absence waits from the end of the school date.
    pub fn of(mark: &Mark, as_of_earliest: DateTime<Utc>, now: DateTime<Utc>, policy: &SettlingPolicy) -> Self {
        let unsettled = |reason, until| Self::Unsettled { reason, until };
        if mark.status == Status::NotTaken {
            return unsettled(UnsettledReason::NotTaken, None);
        }
        let registration = mark.decision().registration.as_ref().map(|picked| policy.zone.instant(picked.at));
        let is_unexplained = match mark.status {
            Status::Absent => mark.code.as_deref().is_none_or(|letter| letter == "N"),
            Status::NotRequired => mark.code.as_deref() == Some("N"),
            Status::UnknownCode => true,
            Status::Present | Status::Late | Status::NotTaken => false,
        };
        if is_unexplained {
            let end_of_date =
                || policy.zone.instant(mark.date.succ_opt().unwrap_or(mark.date).and_time(NaiveTime::MIN));
            let until = registration.unwrap_or_else(end_of_date).checked_add_signed(policy.unexplained_for);
            if policy.unexplained_for > TimeDelta::zero() && until.is_none_or(|until| now < until) {
                return unsettled(UnsettledReason::Unexplained, until);
            }
        }
        if let Some(updated) = mark.last_updated()
            && policy.min_age > TimeDelta::zero()
        {
            let until = updated.checked_add_signed(policy.min_age);
            if until.is_none_or(|until| now < until) {
                return unsettled(UnsettledReason::TooFresh, until);
            }
        }
        match registration {
            Some(registration) if as_of_earliest < registration => unsettled(UnsettledReason::ReplyMayBeOld, None),
            _ => Self::Settled,
        }
    }
}
