//! One frame in one block, written outside a writer's life: by a repair, or as
//! the beginning of a log.

use corewal_format::{
    BLOCK_LEN, Epoch, FRAME_HEADER_LEN, FrameFields, Opening, Record, SegmentIdentity, Sequence, TimestampNs,
    finish_frame,
};
use corewal_io::{AlignedBuf, Storage};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::scan::{LogIdentity, Place};

/// What such a frame says of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoneFrame {
    pub(crate) epoch: Epoch,
    pub(crate) sequence: Sequence,
    pub(crate) timestamp: TimestampNs,
    pub(crate) opening: Opening,
    pub(crate) sealed: bool,
}

impl LoneFrame {
    /// Writes the frame at `place` of `file`, durably. After an error it stands
    /// there or not.
    pub(crate) fn write<S: Storage>(
        self,
        layout: &Layout<S>,
        log: LogIdentity,
        file: &S::File,
        place: Place,
        records: &[Record<'_>],
    ) -> Result<()> {
        let path = layout.segment(log.core, place.segment);
        let failed = |error| Error::io("write", &path, error);
        let mut buffer = AlignedBuf::new(BLOCK_LEN);
        let mut len = FRAME_HEADER_LEN;
        for record in records {
            len += record.encode(&mut buffer.as_mut_slice()[len..]);
        }
        let identity =
            SegmentIdentity { log_id: log.log_id, core: log.core, segment: place.segment, base_lsn: place.base_lsn };
        let Self { epoch, sequence, timestamp, opening, sealed } = self;
        let lsn = place.lsn();
        let fields = FrameFields { lsn, durable_lsn: lsn, epoch, sequence, timestamp, opening, sealed };
        let count = u32::try_from(records.len()).expect("a few records");
        let seed = layout.checksum_seed(&identity);
        finish_frame(&mut buffer.as_mut_slice()[..len], count, &fields, seed);
        layout.storage.write_at(file, place.offset, &buffer, 0..BLOCK_LEN).map_err(failed)?;
        layout.storage.settle(file, place.offset).map_err(failed)
    }
}
