use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Code, CodeId, RawCode};

/// The code table of one fetch: every distinct record of each id, of which the greatest by content counts (R1.5).
#[derive(Clone, Debug, Default)]
pub(super) struct SchoolCodes {
    by_id: BTreeMap<CodeId, BTreeSet<Code>>,
    /// The ids whose code has the letter.
    by_letter: BTreeMap<Box<str>, BTreeSet<CodeId>>,
}

impl SchoolCodes {
    pub(super) fn insert(&mut self, code: Code) {
        let id = code.id.clone();
        let records = self.by_id.entry(id.clone()).or_default();
        let before = records.last().and_then(|code| code.letter.clone());
        records.insert(code);
        let now = records.last().and_then(|code| code.letter.clone());
        if before != now {
            if let Some(ids) = before.and_then(|letter| self.by_letter.get_mut(&letter)) {
                ids.remove(&id);
            }
            if let Some(letter) = now {
                self.by_letter.entry(letter).or_default().insert(id);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The records that count, for the issues that they raise.
    pub(super) fn records(&self) -> impl Iterator<Item = &Code> {
        self.by_id.values().filter_map(BTreeSet::last)
    }

    /// The ids that several records share, with the number of records that do not count.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = (&CodeId, usize)> {
        self.by_id.iter().filter(|(_, records)| records.len() > 1).map(|(id, records)| (id, records.len() - 1))
    }

    pub(super) fn by_id(&self, raw: &RawCode) -> Option<&Code> {
        self.by_id.get(&CodeId::new(raw.as_str()))?.last()
    }

    /// Finds a code by its id; if no id fits, by its letter where exactly one code has it (R2).
    pub(super) fn find(&self, raw: &RawCode) -> Option<&Code> {
        self.by_id(raw).or_else(|| {
            let ids = self.by_letter.get(raw.as_str()).filter(|ids| ids.len() == 1)?;
            self.by_id.get(ids.first()?)?.last()
        })
    }
}
