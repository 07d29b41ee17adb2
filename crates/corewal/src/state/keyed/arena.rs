//! Room for keys and values: large chunks in which they stand one behind the
//! other, so that a new key asks the allocator for nothing.

/// Bytes of a chunk. The unit in which room is taken and given back, so also
/// the most that is moved at once. Tests fill many.
pub(super) const CHUNK_LEN: usize = if cfg!(test) { 1 << 10 } else { 64 << 10 };
/// From this size on an entry gets a chunk of its own, to leave less room
/// unused at the ends of chunks.
const LARGE: usize = CHUNK_LEN / 8;
/// Bytes before an entry's content: its tag and its room.
const HEADER_LEN: usize = 8;
/// Bytes that a processor loads at once, on nearly all of them.
const LINE_LEN: usize = 64;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    chunk: u32,
    offset: u32,
}

/// Entries of any size: a tag, which is its user's, a key and a value.
///
/// An entry keeps its place while its value fits. What was freed is garbage; a
/// chunk that is mostly garbage is due to be emptied, see [`Arena::sparse`].
/// So there is less garbage than there are entries, but for the chunk that is
/// being filled.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// The chunk that new entries go to.
    current: usize,
    /// Numbers of chunks that are no more.
    unused: Vec<u32>,
    /// Chunks that are due to be emptied.
    sparse: Vec<u32>,
    /// Bytes of all chunks, garbage included.
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Bytes of entries that were not freed.
    live: usize,
}

impl Chunk {
    fn is_sparse(&self) -> bool {
        self.live < self.bytes.len() / 2
    }
}

impl Arena {
    /// Adds an entry.
    pub(super) fn add(&mut self, tag: u32, key: &[u8], value: &[u8]) -> Place {
        let room = (key.len() + value.len()).next_multiple_of(HEADER_LEN);
        let at = self.chunk_for(HEADER_LEN + room);
        let chunk = &mut self.chunks[at];
        let offset = chunk.bytes.len();
        chunk.bytes.extend_from_slice(&tag.to_le_bytes());
        chunk.bytes.extend_from_slice(&number(room).to_le_bytes());
        chunk.bytes.extend_from_slice(key);
        chunk.bytes.extend_from_slice(value);
        chunk.bytes.resize(offset + HEADER_LEN + room, 0);
        chunk.live += HEADER_LEN + room;
        self.len += HEADER_LEN + room;
        Place { chunk: number(at), offset: number(offset) }
    }

    /// The first `len` bytes of an entry's content.
    #[inline]
    pub(super) fn content(&self, place: Place, len: usize) -> &[u8] {
        let from = place.offset as usize + HEADER_LEN;
        &self.chunks[place.chunk as usize].bytes[from..from + len]
    }

    /// Sets the value of an entry, unless its room is too small, or far too
    /// large for it.
    #[inline]
    pub(super) fn set(&mut self, place: Place, key_len: usize, value: &[u8]) -> bool {
        let entry = &mut self.chunks[place.chunk as usize].bytes[place.offset as usize..];
        let (room, len) = (room(entry), key_len + value.len());
        let fits = len <= room && room <= 4 * len + 128;
        if fits {
            entry[HEADER_LEN + key_len..HEADER_LEN + len].copy_from_slice(value);
        }
        fits
    }

    /// Gives the room of an entry back.
    pub(super) fn free(&mut self, place: Place) {
        let chunk = &mut self.chunks[place.chunk as usize];
        let was_sparse = chunk.is_sparse();
        chunk.live -= HEADER_LEN + room(&chunk.bytes[place.offset as usize..]);
        if chunk.is_sparse() && !was_sparse && place.chunk as usize != self.current {
            self.sparse.push(place.chunk);
        }
    }

    /// Takes out a chunk of which more than half is garbage, if there is one:
    /// add its live entries again, then [`Arena::retire`] it.
    pub(super) fn sparse(&mut self) -> Option<Emptied> {
        let chunk = self.sparse.pop()?;
        let bytes = std::mem::take(&mut self.chunks[chunk as usize]).bytes;
        self.len -= bytes.len();
        Some(Emptied { chunk, bytes })
    }

    /// The chunk has been emptied: its number, and so its places, may be given
    /// out again.
    pub(super) fn retire(&mut self, emptied: Emptied) {
        self.unused.push(emptied.chunk);
    }

    /// Loads the cache lines of an entry with a content of `len` bytes, but of a
    /// long one only the ends, and gives something that depends on them.
    #[inline]
    pub(super) fn touch(&self, place: Place, len: usize) -> u8 {
        let Some(chunk) = self.chunks.get(place.chunk as usize) else { return 0 };
        let from = place.offset as usize;
        let at = |offset: usize| chunk.bytes.get(offset).copied().unwrap_or(0);
        at(from) ^ at(from + LINE_LEN) ^ at(from + HEADER_LEN + len - 1)
    }

    /// The chunk that takes an entry of `len` bytes.
    fn chunk_for(&mut self, len: usize) -> usize {
        if len >= LARGE {
            return self.new_chunk(Vec::with_capacity(len));
        }
        if self.chunks.get(self.current).is_none_or(|chunk| chunk.bytes.len() + len > CHUNK_LEN) {
            let full = self.current;
            // The first one grows, for states that stay small.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK_LEN };
            self.current = self.new_chunk(Vec::with_capacity(capacity));
            if self.chunks[full].is_sparse() {
                self.sparse.push(number(full));
            }
        }
        self.current
    }

    fn new_chunk(&mut self, bytes: Vec<u8>) -> usize {
        let chunk = Chunk { bytes, live: 0 };
        if let Some(unused) = self.unused.pop() {
            self.chunks[unused as usize] = chunk;
            return unused as usize;
        }
        self.chunks.push(chunk);
        self.chunks.len() - 1
    }

    /// Bytes of all chunks, garbage included.
    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.len, self.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>());
        self.len
    }
}

/// A chunk that was taken out of its arena.
pub(super) struct Emptied {
    chunk: u32,
    bytes: Vec<u8>,
}

impl Emptied {
    /// All its entries, freed ones included: place, tag and content.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Place, u32, &[u8])> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let entry = self.bytes.get(offset..).filter(|entry| !entry.is_empty())?;
            let place = Place { chunk: self.chunk, offset: number(offset) };
            let end = HEADER_LEN + room(entry);
            offset += end;
            Some((place, field(entry, 0), &entry[HEADER_LEN..end]))
        })
    }
}

fn room(entry: &[u8]) -> usize {
    field(entry, 4) as usize
}

fn field(entry: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes"))
}

fn number(of: usize) -> u32 {
    u32::try_from(of).expect("entries are limited, and fewer than 2^32 chunks fit into memory")
}
