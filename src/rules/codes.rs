use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Code, CodeId, RawCode};

/// The code table of one fetch: every distinct record of each id, the greatest by content counts (R1.5).
#[derive(Clone, Debug, Default)]
pub(super) struct CodeTable {
    by_id: BTreeMap<CodeId, BTreeSet<Code>>,
    /// The ids whose code has the letter.
    by_letter: BTreeMap<Box<str>, BTreeSet<CodeId>>,
}

impl CodeTable {
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

    /// Every record, for the issues it raises.
    pub(super) fn records(&self) -> impl Iterator<Item = &Code> {
        self.by_id.values().flatten()
    }

    /// The ids that more than one record claims, with how many claim it in vain.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = (&CodeId, usize)> {
        self.by_id.iter().filter(|(_, records)| records.len() > 1).map(|(id, records)| (id, records.len() - 1))
    }

    pub(super) fn by_id(&self, raw: &RawCode) -> Option<&Code> {
        self.by_id.get(&CodeId::new(raw.as_str()))?.last()
    }

    /// By id; if no id fits, by letter where exactly one code has it (R2).
    pub(super) fn find(&self, raw: &RawCode) -> Option<&Code> {
        self.by_id(raw).or_else(|| {
            let ids = self.by_letter.get(raw.as_str()).filter(|ids| ids.len() == 1)?;
            self.by_id.get(ids.first()?)?.last()
        })
    }
}
