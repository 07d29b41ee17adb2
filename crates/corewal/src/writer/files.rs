//! The segment files a writer holds: the one it writes to, those whose bytes
//! are not durable yet, and the names of all the others.

use std::collections::VecDeque;

use corewal_format::{Epoch, Lsn, SegmentId, SegmentIdentity};

use crate::scan::SegmentSpan;

/// An open segment.
#[derive(Clone, Debug)]
pub(crate) struct OpenSegment<F> {
    pub(crate) identity: SegmentIdentity,
    pub(crate) file: F,
    /// Bytes of the file that were written before, with zeros or with an
    /// earlier life; a write beyond would grow it.
    pub(crate) capacity: u64,
}

impl<F> OpenSegment<F> {
    /// Where the segment behind this one begins: no position is given to both,
    /// however much of this one is used.
    pub(crate) fn next_base(&self) -> Lsn {
        self.identity.base_lsn.plus(self.capacity)
    }
}

/// The segments of a log under a writer.
#[derive(Debug)]
pub(crate) struct Files<F> {
    /// All segments of the log, oldest first.
    spans: VecDeque<SegmentSpan>,
    /// Those with bytes that may not be durable, oldest first; the last is the
    /// one appended to.
    open: VecDeque<OpenSegment<F>>,
}

impl<F: Clone> Files<F> {
    pub(crate) fn new(spans: Vec<SegmentSpan>, active: OpenSegment<F>) -> Self {
        assert_eq!(spans.last().map(|span| span.id), Some(active.identity.segment));
        Self { spans: spans.into(), open: VecDeque::from([active]) }
    }

    /// The segment that is appended to.
    pub(crate) fn active(&self) -> &OpenSegment<F> {
        self.open.back().expect("there is always a segment")
    }

    /// The segment in which a position that is not durable yet stands.
    pub(crate) fn holding(&self, lsn: Lsn) -> &OpenSegment<F> {
        let holding = self.open.iter().rev().find(|segment| segment.identity.base_lsn < lsn);
        holding.expect("a segment is kept open until all of it is durable")
    }

    pub(crate) fn spans(&self) -> &VecDeque<SegmentSpan> {
        &self.spans
    }

    /// Goes on in `segment`; the one before ends at `end`, where `ended` is the
    /// newest epoch that counts as ended.
    pub(crate) fn push(&mut self, segment: OpenSegment<F>, end: Lsn, ended: Epoch) {
        let SegmentIdentity { segment: id, base_lsn, .. } = segment.identity;
        assert!(end <= base_lsn, "segments follow each other");
        let before = self.spans.back_mut().expect("there is always a segment");
        (before.end, before.ended) = (end, ended);
        self.spans.push_back(SegmentSpan { id, base_lsn, end: base_lsn, ended });
        self.open.push_back(segment);
    }

    /// The files with bytes in `from..to`.
    pub(crate) fn touched(&self, from: Lsn, to: Lsn) -> impl Iterator<Item = &F> {
        let ends = self.open.iter().skip(1).map(|next| next.identity.base_lsn).chain([Lsn(u64::MAX)]);
        let touched = move |(segment, end): &(&OpenSegment<F>, Lsn)| segment.identity.base_lsn < to && from < *end;
        self.open.iter().zip(ends).filter(touched).map(|(segment, _)| &segment.file)
    }

    /// Closes the files that lie wholly below `durable`.
    pub(crate) fn retire(&mut self, durable: Lsn) {
        while self.open.len() > 1 && self.open[1].identity.base_lsn <= durable {
            self.open.pop_front();
        }
    }

    /// The segments wholly below `lsn`, which is never the active one.
    pub(crate) fn wholly_below(&self, lsn: Lsn) -> usize {
        self.spans.iter().skip(1).take_while(|next| next.base_lsn <= lsn).count()
    }

    /// Forgets the oldest `count` segments, which were released.
    pub(crate) fn release_oldest(&mut self, count: usize) -> impl Iterator<Item = SegmentId> {
        assert!(count < self.spans.len(), "the active segment stays");
        self.spans.drain(..count).map(|span| span.id)
    }
}
