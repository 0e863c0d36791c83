use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{Datelike, NaiveDate, NaiveTime, TimeDelta, Weekday};
use serde::Serialize;

use super::words::counted;
use super::{MarkDifference, differences};
use crate::model::{OutOfSchool, Record, Registration, SessionMark, time_text};
use crate::rules::{PmRule, Register, ResolveError, Resolver, Rules, Scope, Window};

/// Finds out which PM start fits a school. It tries the time rule with each likely start, and compares the result with the
/// flags of the registration periods.
///
/// Use it before a school goes live, and after each change to its timetable. It takes the records of a window in any
/// order and holds them until [`finish`](Self::finish), which resolves them once for each start. The starts are noon,
/// the one in force, and the 24 register times between 11:00 and 15:00 that occur on most dates.
///
/// ```
/// use rollmark::explain::PmAuditor;
/// use rollmark::rules::{Rules, SyncWindow};
/// use rollmark::testing::FakeSchool;
///
/// let today = "2026-11-20".parse()?;
/// let mut auditor = PmAuditor::new(Rules::new("Europe/London".parse()?), SyncWindow::default().ending(today));
/// auditor.extend(FakeSchool::demo(today).records());
/// let audit = auditor.finish()?;
/// assert_eq!(audit.best, Some("13:30:00".parse()?));
/// println!("{audit}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PmAuditor {
    rules: Rules,
    window: Window,
    records: Vec<Record>,
}

/// The result of an audit. `Display` is a table for people, with a verdict at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PmAudit {
    /// The audited dates.
    pub window: Window,
    /// What the starts are compared with: the period rule if periods have flags, or else the rules in force.
    pub compared_with: PmRule,
    /// How many marks that rule makes.
    pub marks: u64,
    /// The rule in force.
    pub in_force: PmRule,
    /// The starts that were tried, the earliest first.
    pub starts: Vec<StartAudit>,
    /// The start that agrees best with the flags, or the latest of several that agree equally well. `None` if no period has
    /// a flag.
    pub best: Option<NaiveTime>,
    /// The marks that the best start would change, compared with the rules in force; sorted by student, date, session.
    pub would_change: Vec<MarkDifference>,
    /// The dates on which a weekday's registers changed: a new term, a new timetable.
    pub changes: Vec<PatternChange>,
    /// Whether records have codes but no code table was read. The marks then have no letters, and every code counts as
    /// an absence.
    #[serde(skip)]
    pub lacks_code_table: bool,
    /// Whether the records are session marks, which say themselves which session they are for, so that no start matters.
    #[serde(skip)]
    pub has_session_marks: bool,
}

/// The time rule with one start.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StartAudit {
    /// The PM start, in school time, included.
    pub pm_start: NaiveTime,
    /// How many marks are different.
    pub differing: u64,
    /// Where the marks are different, by weekday and register: at most the 50 entries with the most marks.
    pub cells: Vec<Cell>,
}

/// The marks of one weekday and register that are different.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cell {
    /// The weekday.
    pub weekday: Weekday,
    /// The time of the register that this start picks, in school time; `None` if it picks none.
    pub register: Option<NaiveTime>,
    /// How many marks are different.
    pub differing: u64,
}

/// A date from which a weekday has different registers than before.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PatternChange {
    /// The first such date.
    pub date: NaiveDate,
    /// The times of the registers before, in school time: of those with a session flag, or of all if none has one.
    pub before: BTreeSet<NaiveTime>,
    /// The times of the registers from that date on.
    pub after: BTreeSet<NaiveTime>,
}

type RegisterTimes = BTreeMap<NaiveDate, BTreeSet<NaiveTime>>;

/// The most register times that are tried as starts; a school has fewer in the middle of its day.
const MOST_STARTS: usize = 24;
/// The most weekdays and registers that are kept for each start.
const MOST_CELLS: usize = 50;
/// The most times in one line of the report.
const MOST_IN_LINE: usize = 12;

impl PmAuditor {
    /// An audit of these dates. The zone and the tie-break are taken from the rules.
    pub fn new(rules: Rules, window: Window) -> Self {
        Self { rules, window, records: Vec::new() }
    }

    /// Resolves the records that were pushed, once for each start.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn finish(self) -> Result<PmAudit, ResolveError> {
        let flagged = self.register_times(true);
        let all = self.register_times(false);
        let compared_with = if flagged.is_empty() { self.rules.pm() } else { PmRule::RegistrationPeriods };
        let base = self.resolve(compared_with)?;
        let mut starts = BTreeSet::from([PmRule::NOON]);
        starts.extend(match self.rules.pm() {
            PmRule::FirstFrom(start) => Some(start),
            PmRule::RegistrationPeriods => None,
        });
        starts.extend(likely_starts(&flagged, &all));
        let audits = starts.into_iter().map(|pm_start| {
            let found = differences(&base, &self.resolve(PmRule::FirstFrom(pm_start))?);
            Ok(StartAudit { pm_start, differing: found.len() as u64, cells: cells(&found) })
        });
        let starts = audits.collect::<Result<Vec<StartAudit>, ResolveError>>()?;
        let best = starts.iter().rev().min_by_key(|start| start.differing).map(|start| start.pm_start);
        let best = best.filter(|_| !flagged.is_empty());
        let would_change = match best.map(PmRule::FirstFrom).filter(|best| *best != self.rules.pm()) {
            Some(best) => differences(&self.resolve(self.rules.pm())?, &self.resolve(best)?),
            None => Vec::new(),
        };
        Ok(PmAudit {
            window: self.window,
            compared_with,
            in_force: self.rules.pm(),
            marks: base.marks().count() as u64,
            best,
            would_change,
            changes: changes(if flagged.is_empty() { &all } else { &flagged }),
            starts,
            lacks_code_table: base.lacks_code_table(),
            has_session_marks: base.has_session_marks(),
        })
    }

    fn resolve(&self, pm_rule: PmRule) -> Result<Register, ResolveError> {
        let mut resolver = Resolver::new(self.rules.clone().with_pm(pm_rule), Scope::all(self.window));
        resolver.extend(self.records.iter().cloned());
        resolver.finish()
    }

    /// The times of each date's registers: of all, or of those with a session flag.
    fn register_times(&self, only_flagged: bool) -> RegisterTimes {
        let mut dates = RegisterTimes::new();
        for record in &self.records {
            let (at, flag) = match record {
                Record::Period(period) => (period.at, period.flag()),
                Record::Registration(row) => (row.at, None),
                _ => continue,
            };
            let at = at.school_time(self.rules.zone());
            if self.window.contains(at.date()) && (flag.is_some() || !only_flagged) {
                dates.entry(at.date()).or_default().insert(at.time());
            }
        }
        dates
    }
}

impl Extend<Record> for PmAuditor {
    fn extend<I: IntoIterator<Item = Record>>(&mut self, records: I) {
        // Free texts make no difference between starts, and every start would hold a copy of them.
        self.records.extend(records.into_iter().map(|record| match record {
            Record::Registration(row) => Record::Registration(Registration { comment: None, ..row }),
            Record::OutOfSchool(span) => Record::OutOfSchool(OutOfSchool { reason: None, ..span }),
            Record::SessionMark(mark) => Record::SessionMark(SessionMark { comment: None, ..mark }),
            other => other,
        }));
    }
}

/// The times at which most dates have a register, those with a session flag first.
fn likely_starts(flagged: &RegisterTimes, all: &RegisterTimes) -> Vec<NaiveTime> {
    // No school's afternoon begins outside these hours.
    let hours = PmRule::NOON - TimeDelta::hours(1)..=PmRule::NOON + TimeDelta::hours(3);
    let mut counts: BTreeMap<NaiveTime, (usize, usize)> = BTreeMap::new();
    for time in all.values().flatten().filter(|time| hours.contains(time)) {
        counts.entry(*time).or_default().1 += 1;
    }
    for time in flagged.values().flatten() {
        if let Some(count) = counts.get_mut(time) {
            count.0 += 1;
        }
    }
    let mut times: Vec<(NaiveTime, (usize, usize))> = counts.into_iter().collect();
    // The sort is stable: of equals, the earlier comes first.
    times.sort_by_key(|(_, count)| Reverse(*count));
    times.into_iter().take(MOST_STARTS).map(|(time, _)| time).collect()
}

fn cells(found: &[MarkDifference]) -> Vec<Cell> {
    let mut counts: BTreeMap<(u32, Option<NaiveTime>), (Weekday, u64)> = BTreeMap::new();
    for difference in found {
        let Some(mark) = difference.mark() else { continue };
        let weekday = mark.date.weekday();
        let picked = difference.after.as_ref().and_then(|after| after.decision.registration.as_ref());
        let key = (weekday.num_days_from_monday(), picked.map(|picked| picked.at.time()));
        counts.entry(key).or_insert((weekday, 0)).1 += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (_, differing))| Reverse(*differing));
    counts.truncate(MOST_CELLS);
    counts.sort_by_key(|(place, _)| *place);
    let cell = |((_, register), (weekday, differing))| Cell { weekday, register, differing };
    counts.into_iter().map(cell).collect()
}

fn changes(dates: &RegisterTimes) -> Vec<PatternChange> {
    let mut known: BTreeMap<u32, &BTreeSet<NaiveTime>> = BTreeMap::new();
    let mut changes = Vec::new();
    for (date, times) in dates {
        let before = known.insert(date.weekday().num_days_from_monday(), times);
        if let Some(before) = before.filter(|before| *before != times) {
            changes.push(PatternChange { date: *date, before: before.clone(), after: times.clone() });
        }
    }
    changes
}

fn list(times: &BTreeSet<NaiveTime>) -> String {
    let shown = times.iter().take(MOST_IN_LINE).map(|time| time_text(*time)).collect::<Vec<_>>();
    let more = match times.len().saturating_sub(MOST_IN_LINE) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    shown.join(" ") + &more
}

impl PmAudit {
    /// The conclusion of the audit, in a sentence.
    fn verdict(&self) -> String {
        let differing = |start| self.starts.iter().find(|one| one.pm_start == start).map_or(0, |one| one.differing);
        match (self.in_force, self.best) {
            _ if self.has_session_marks => {
                "The source says itself which session a mark is for; nothing to do.".to_owned()
            }
            (PmRule::RegistrationPeriods, Some(_)) => {
                "The session flags decide, and they are there; nothing to do.".to_owned()
            }
            (PmRule::RegistrationPeriods, None) => {
                "The session flags decide, but no period has one: set them, or a PM start.".to_owned()
            }
            (PmRule::FirstFrom(_), None) => {
                "No period has a session flag to compare with: take the time of the PM registration.".to_owned()
            }
            (PmRule::FirstFrom(start), Some(_)) if differing(start) == 0 => {
                format!("Your start of {} fits; nothing to do.", time_text(start))
            }
            (PmRule::FirstFrom(start), Some(best)) if differing(best) < differing(start) => {
                let marks = counted(differing(start) - differing(best), "mark");
                format!(
                    "Set the PM start to {}: {marks} more agree than with your start of {}.",
                    time_text(best),
                    time_text(start)
                )
            }
            (PmRule::FirstFrom(start), Some(_)) => {
                format!(
                    "No start agrees better than your {}; the session flags themselves can decide instead.",
                    time_text(start)
                )
            }
        }
    }
}

impl fmt::Display for PmAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = match self.compared_with {
            PmRule::RegistrationPeriods => "the flags of the registration periods".to_owned(),
            PmRule::FirstFrom(start) => format!("a PM start at {} (no period has a flag)", time_text(start)),
        };
        let marks = counted(self.marks, "mark");
        writeln!(f, "{marks} from {} to {}, by {with}", self.window.from(), self.window.to())?;
        writeln!(f, "PM start  marks that differ")?;
        for start in &self.starts {
            let best = if self.best == Some(start.pm_start) { "  ← agrees best" } else { "" };
            writeln!(f, "{}     {}{best}", time_text(start.pm_start), start.differing)?;
            for cell in &start.cells {
                let register = cell.register.map_or("no register".to_owned(), time_text);
                writeln!(f, "            {} {register}: {}", cell.weekday, cell.differing)?;
            }
        }
        for change in &self.changes {
            let (before, after) = (list(&change.before), list(&change.after));
            let weekday = change.date.weekday();
            writeln!(f, "from {weekday} {} on, the registers are at {after}; before, at {before}", change.date)?;
        }
        write!(f, "{}", self.verdict())
    }
}
