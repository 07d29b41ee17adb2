//! The segment files a writer holds: the one it writes to, those whose bytes
//! are not durable yet, and the making of the next.

use std::collections::VecDeque;

use corewal_format::{BLOCK_LEN, Lsn, SegmentHeader, SegmentId, SegmentIdentity};
use corewal_io::Storage;

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::scan::{LogIdentity, SegmentSpan};

/// An open segment.
#[derive(Clone, Debug)]
pub(crate) struct OpenSegment<F> {
    pub(crate) identity: SegmentIdentity,
    pub(crate) file: F,
}

/// Creates a segment and makes it durable: its header first, then its name.
/// After an error the file is gone, or an unfinished one that the next try
/// replaces.
pub(crate) fn create_segment<S: Storage>(
    layout: &Layout<S>,
    log: LogIdentity,
    segment: SegmentId,
    base_lsn: Lsn,
) -> Result<OpenSegment<S::File>> {
    let identity = SegmentIdentity { log_id: log.log_id, core: log.core, segment, base_lsn };
    let mut block = vec![0; BLOCK_LEN];
    SegmentHeader { identity, cores: log.cores }.encode(&mut block);
    let file = layout.create_durable(&layout.segment(log.core, segment), &block)?;
    layout.sync_dir(&layout.core_dir(log.core))?;
    Ok(OpenSegment { identity, file })
}

/// The segments of a log under a writer.
#[derive(Debug)]
pub(crate) struct Files<F> {
    /// All segments of the log, oldest first.
    spans: VecDeque<SegmentSpan>,
    /// Those with bytes that may not be durable, oldest first; the last is the
    /// one written to.
    open: VecDeque<OpenSegment<F>>,
}

impl<F: Clone> Files<F> {
    pub(crate) fn new(spans: Vec<SegmentSpan>, active: OpenSegment<F>) -> Self {
        assert_eq!(spans.last().map(|span| span.id), Some(active.identity.segment));
        Self { spans: spans.into(), open: VecDeque::from([active]) }
    }

    pub(crate) fn active(&self) -> &OpenSegment<F> {
        self.open.back().expect("there is always a segment to write to")
    }

    pub(crate) fn spans(&self) -> &VecDeque<SegmentSpan> {
        &self.spans
    }

    pub(crate) fn push(&mut self, segment: OpenSegment<F>) {
        let SegmentIdentity { segment: id, base_lsn, .. } = segment.identity;
        assert!(self.active().identity.base_lsn < base_lsn, "segments follow each other");
        self.spans.push_back(SegmentSpan { id, base_lsn });
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

    /// Removes the files of the oldest `count` segments, durably. After an
    /// error some are gone; the next open removes the rest.
    pub(crate) fn remove_oldest<S: Storage<File = F>>(
        &mut self,
        layout: &Layout<S>,
        log: LogIdentity,
        count: usize,
    ) -> Result<()> {
        assert!(count < self.spans.len(), "the active segment stays");
        if count == 0 {
            return Ok(());
        }
        for span in self.spans.drain(..count) {
            let path = layout.segment(log.core, span.id);
            layout.storage.remove(&path).map_err(|error| Error::io("remove", &path, error))?;
        }
        layout.sync_dir(&layout.core_dir(log.core))
    }
}
