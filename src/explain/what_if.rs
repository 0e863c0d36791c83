use std::fmt;

use serde::Serialize;

use crate::model::Mark;
use crate::rules::Register;

/// A mark that two sets of rules or settings decide differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MarkDifference {
    /// The mark by the first rules; `None` if they make none.
    pub before: Option<Mark>,
    /// The mark by the second rules; `None` if they make none.
    pub after: Option<Mark>,
}

impl MarkDifference {
    /// The mark by the second rules, or by the first if the second make none.
    pub fn mark(&self) -> Option<&Mark> {
        self.after.as_ref().or(self.before.as_ref())
    }
}

impl fmt::Display for MarkDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mark) = self.mark() else { return Ok(()) };
        let text = |mark: &Option<Mark>| mark.as_ref().map_or("no mark".to_owned(), ToString::to_string);
        let (before, after) = (text(&self.before), text(&self.after));
        write!(f, "{} {} {}: {before} → {after}", mark.student, mark.date, mark.session)
    }
}

/// "What if?": the marks that two sets of rules decide differently from the same records, sorted by student, date,
/// session.
///
/// Marks are different if a parent sees a difference: in status, minutes or code. The code is its letter, or the raw code if
/// the code table has no letter for it. Rules decide nothing about session marks, so they never differ.
///
/// ```
/// use chrono::NaiveTime;
/// use rollmark::explain::differences;
/// use rollmark::rules::{PmRule, Resolver, Rules, Scope, SyncWindow};
/// use rollmark::testing::FakeSchool;
///
/// let today = "2026-11-20".parse()?;
/// let school = FakeSchool::demo(today);
/// let resolve = |rules| {
///     let mut resolver = Resolver::new(rules, Scope::all(SyncWindow::default().ending(today)));
///     resolver.extend(school.records());
///     resolver.finish()
/// };
/// let noon = Rules::new("Europe/London".parse()?);
/// let eleven = noon.clone().with_pm(PmRule::FirstFrom(NaiveTime::from_hms_opt(11, 0, 0).ok_or("no time")?));
/// for difference in differences(&resolve(noon)?, &resolve(eleven)?) {
///     println!("{difference}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn differences(before: &Register, after: &Register) -> Vec<MarkDifference> {
    let (mut old, mut new) = (before.marks().peekable(), after.marks().peekable());
    let mut differences = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(old), Some(new)) => old.key().cmp(&new.key()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return differences,
        };
        let difference = MarkDifference {
            before: if order.is_le() { old.next() } else { None },
            after: if order.is_ge() { new.next() } else { None },
        };
        if !Mark::look_alike(difference.before.as_ref(), difference.after.as_ref()) {
            differences.push(difference);
        }
    }
}
