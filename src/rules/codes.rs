use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Code, CodeId, RawCode};

/// The code table of one fetch: every distinct record of each id, the greatest by content counts (R1.5).
#[derive(Clone, Debug, Default)]
pub(super) struct CodeTable {
    by_id: BTreeMap<CodeId, BTreeSet<Code>>,
}

impl CodeTable {
    pub(super) fn insert(&mut self, code: Code) {
        self.by_id.entry(code.id.clone()).or_default().insert(code);
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
            let mut with_letter = self
                .by_id
                .values()
                .filter_map(BTreeSet::last)
                .filter(|code| code.letter.as_deref() == Some(raw.as_str()));
            with_letter.next().filter(|_| with_letter.next().is_none())
        })
    }
}
