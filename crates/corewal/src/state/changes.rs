//! Changes that a state sees at once.

use super::{Change, Pair, State};

/// Changes that a state sees at once, at most.
pub(crate) const TOGETHER: usize = 64;

/// Changes of a frame that are still to be applied: a state may gain from
/// seeing several at once.
pub(crate) struct Changes<'f> {
    changes: [Change<'f>; TOGETHER],
    len: usize,
}

impl<'f> Changes<'f> {
    pub(crate) fn new() -> Self {
        Self { changes: [Change::Payload(&[]); TOGETHER], len: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, change: Change<'f>, state: &mut impl State) {
        self.changes[self.len] = change;
        self.len += 1;
        if self.len == self.changes.len() {
            self.apply(state);
        }
    }

    pub(crate) fn apply(&mut self, state: &mut impl State) {
        state.apply_all(&self.changes[..self.len]);
        self.len = 0;
    }
}

/// Puts keys that a state does not have and that stand still.
pub(crate) fn put_new<'k>(mut pairs: impl Iterator<Item = Pair<'k>>, state: &mut impl State) {
    loop {
        let mut group: [Pair<'k>; TOGETHER] = [(&[], &[]); TOGETHER];
        let mut count = 0;
        for (place, pair) in group.iter_mut().zip(&mut pairs) {
            *place = pair;
            count += 1;
        }
        if count > 0 {
            state.put_new(&group[..count]);
        }
        if count < TOGETHER {
            return;
        }
    }
}
