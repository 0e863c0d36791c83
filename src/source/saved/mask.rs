//! Replaces the ids and texts of pupils in masked replies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use rand::seq::SliceRandom;

use crate::model::{PeriodId, RawCode, Record, RecordId, Session, StudentId, compare_ids};

/// The masked id of each student.
pub(super) type Masks = Arc<Mutex<BTreeMap<StudentId, StudentId>>>;

/// The ids and texts of one student's records. They decide ties between records of one student (R1.4, R4, R6.2), so their
/// order is kept within a student; across students it would show the order of the roll.
#[derive(Default)]
struct Held {
    ids: BTreeSet<RecordId>,
    texts: BTreeSet<Box<str>>,
}

/// The replacements in one student's records.
struct Own {
    ids: BTreeMap<RecordId, RecordId>,
    texts: BTreeMap<Box<str>, Box<str>>,
}

/// The replacements in all records.
pub(super) struct Mask {
    students: BTreeMap<StudentId, StudentId>,
    own: BTreeMap<StudentId, Own>,
    periods: BTreeMap<PeriodId, PeriodId>,
    period_names: BTreeMap<Box<str>, Box<str>>,
    code_names: BTreeMap<Box<str>, Box<str>>,
    flags: BTreeMap<Box<str>, Box<str>>,
    codes: BTreeMap<Box<str>, Box<str>>,
}

impl Mask {
    /// The masked records in an order that reveals nothing, and the masked id of each student.
    pub(super) fn apply_to(mut records: Vec<Record>) -> (Vec<Record>, BTreeMap<StudentId, StudentId>) {
        // A mask would make a text of an empty one, which is a missing one.
        records.iter_mut().for_each(Record::drop_empty_texts);
        let mask = Self::of(&records);
        let mut masked: Vec<Record> = records.into_iter().map(|record| mask.apply(record)).collect();
        masked.shuffle(&mut rand::rng());
        // Codes and periods come first, as sources send them.
        masked.sort_by_key(|record| !matches!(record, Record::Code(_) | Record::Period(_)));
        (masked, mask.students)
    }

    fn of(records: &[Record]) -> Self {
        let mut found: BTreeMap<StudentId, Held> = BTreeMap::new();
        let (mut periods, mut period_names) = (BTreeSet::new(), BTreeSet::new());
        let mut code_names = BTreeSet::new();
        let (mut flags, mut codes, mut known_codes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for record in records {
            match record {
                Record::Registration(row) => {
                    let held = found.entry(row.student.clone()).or_default();
                    held.ids.extend(row.id.clone());
                    held.texts.extend(row.comment.clone());
                    periods.extend(row.period.clone());
                    codes.extend(row.code.as_ref().map(|code| Box::from(code.as_str())));
                }
                Record::OutOfSchool(span) => {
                    let held = found.entry(span.student.clone()).or_default();
                    held.ids.extend(span.id.clone());
                    held.texts.extend(span.reason.clone());
                    codes.extend(span.code.as_ref().map(|code| Box::from(code.as_str())));
                }
                Record::SessionMark(mark) => {
                    let held = found.entry(mark.student.clone()).or_default();
                    held.ids.extend(mark.id.clone());
                    held.texts.extend(mark.comment.clone());
                    codes.extend(mark.code.as_ref().map(|code| Box::from(code.as_str())));
                }
                Record::Period(period) => {
                    periods.insert(period.id.clone());
                    period_names.extend(period.name.clone());
                    flags.extend(period.session.clone());
                }
                Record::Code(code) => {
                    known_codes.insert(code.id.as_str());
                    known_codes.extend(code.letter.as_deref());
                    code_names.extend(code.name.clone());
                }
            }
        }
        let (mut next_id, mut next_text) = (1_u64.., 1_u64..);
        let mut own = BTreeMap::new();
        for (student, Held { ids, texts }) in shuffled(found) {
            let mut ids: Vec<RecordId> = ids.into_iter().collect();
            ids.sort_by(|a, b| compare_ids(Some(a), Some(b)));
            let new_ids = next_id.by_ref().map(|number| RecordId::new(number.to_string()));
            let new_texts = next_text.by_ref().map(|number| format!("text {number:08}").into_boxed_str());
            let ids = pair(ids, new_ids);
            own.insert(student, Own { ids, texts: pair(texts, new_texts) });
        }
        let number = |prefix: &'static str| (1_u64..).map(move |number| format!("{prefix}{number:08}"));
        Self {
            students: mask_students(own.keys()),
            own,
            periods: pair(periods, number("period-").map(PeriodId::new)),
            period_names: pair(period_names, number("name ").map(String::into_boxed_str)),
            code_names: pair(code_names, number("code name ").map(String::into_boxed_str)),
            flags: mask_others(flags, |flag| flag.trim().is_empty() || Session::from_flag(flag).is_some()),
            codes: mask_others(codes, |code| known_codes.contains(code)),
        }
    }

    fn apply(&self, record: Record) -> Record {
        fn masked<K: Ord, V: Clone>(map: Option<&BTreeMap<K, V>>, key: Option<K>) -> Option<V> {
            map?.get(&key?).cloned()
        }
        let student = |id: &StudentId| self.students.get(id).cloned().unwrap_or_else(|| StudentId::new(""));
        let code =
            |code: Option<RawCode>| code.map(|code| self.codes.get(code.as_str()).map_or(code.clone(), RawCode::new));
        match record {
            Record::Registration(mut row) => {
                let own = self.own.get(&row.student);
                row.student = student(&row.student);
                row.id = masked(own.map(|own| &own.ids), row.id);
                row.period = masked(Some(&self.periods), row.period);
                row.comment = masked(own.map(|own| &own.texts), row.comment);
                row.code = code(row.code);
                Record::Registration(row)
            }
            Record::OutOfSchool(mut span) => {
                let own = self.own.get(&span.student);
                span.student = student(&span.student);
                span.id = masked(own.map(|own| &own.ids), span.id);
                span.reason = masked(own.map(|own| &own.texts), span.reason);
                span.code = code(span.code);
                Record::OutOfSchool(span)
            }
            Record::SessionMark(mut mark) => {
                let own = self.own.get(&mark.student);
                mark.student = student(&mark.student);
                mark.id = masked(own.map(|own| &own.ids), mark.id);
                mark.comment = masked(own.map(|own| &own.texts), mark.comment);
                mark.code = code(mark.code);
                Record::SessionMark(mark)
            }
            Record::Period(mut period) => {
                period.id = masked(Some(&self.periods), Some(period.id)).unwrap_or_else(|| PeriodId::new(""));
                period.name = masked(Some(&self.period_names), period.name);
                period.session = period.session.map(|flag| self.flags.get(&flag).cloned().unwrap_or(flag));
                Record::Period(period)
            }
            Record::Code(mut code) => {
                code.name = masked(Some(&self.code_names), code.name);
                Record::Code(code)
            }
        }
    }
}

fn pair<K: Ord, V>(keys: impl IntoIterator<Item = K>, values: impl Iterator<Item = V>) -> BTreeMap<K, V> {
    keys.into_iter().zip(values).collect()
}

fn shuffled<T>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.shuffle(&mut rand::rng());
    items
}

/// Numbers students at random. Ids that differ only in case still differ only in case: `student-00000001-x`,
/// `student-00000001-X` (R1.7).
fn mask_students<'a>(students: impl Iterator<Item = &'a StudentId>) -> BTreeMap<StudentId, StudentId> {
    let mut alike: BTreeMap<String, Vec<StudentId>> = BTreeMap::new();
    for student in students {
        alike.entry(student.as_str().to_lowercase()).or_default().push(student.clone());
    }
    let mut masks = BTreeMap::new();
    for (number, group) in (1_u64..).zip(shuffled(alike.into_values())) {
        // Enough letters to distinguish the group's members by case.
        let letters = usize::BITS - (group.len() - 1).leading_zeros();
        for (member, student) in shuffled(group).into_iter().enumerate() {
            let case = |letter| if member >> letter & 1 == 0 { 'x' } else { 'X' };
            let suffix: String = (0..letters).map(case).collect();
            let separator = if suffix.is_empty() { "" } else { "-" };
            masks.insert(student, StudentId::new(format!("student-{number:08}{separator}{suffix}")));
        }
    }
    masks
}

/// Numbers the texts that must not stay. The order of code points decides between records that are otherwise equal, so each
/// text keeps its place among those that stay: its replacement begins with the text before it.
fn mask_others(texts: BTreeSet<Box<str>>, stays: impl Fn(&str) -> bool) -> BTreeMap<Box<str>, Box<str>> {
    // Two spaces sort before what may follow in a longer text that stays; alone they would be trimmed.
    let mut prefix = "!".to_owned();
    let mut masks = BTreeMap::new();
    for text in texts {
        if stays(&text) {
            prefix = format!("{text}  ");
        } else {
            let masked = format!("{prefix}unknown {:08}", masks.len() + 1);
            masks.insert(text, masked.into());
        }
    }
    masks
}
