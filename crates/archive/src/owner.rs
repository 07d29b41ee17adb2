//! An owner: taking the archive, pushing to it, and tidying up behind.
//!
//! The order of the steps is the whole argument; it is written out in
//! `docs/ARCHIVE.md`. An owner *claims, then looks for indexes*. A push *puts
//! an index, then looks for claims*. So of a push and a take-over at least one
//! sees the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use corewal_format::{Epoch, LogId};
use futures_util::StreamExt as _;

use crate::bucket::{Bucket, Put};
use crate::claim;
use crate::current::{self, Newest};
use crate::error::{Error, Result};
use crate::index::{Checkpoint, Index, Part, Segment};
use crate::inventory::{Inventory, Wanted};
use crate::key::{self, MAX_NUMBER};
use crate::moment;
use crate::options::Options;
use crate::plan;
use crate::retain::retain;
use crate::sealed::LAYOUT_VERSION;
use crate::source::Outcome;
use crate::sweep::{self, Keep};
use crate::types::{Content, Lineage, Nonce, Takeover, Term};
use crate::upload;

/// Newest indexes that are kept, and all they refer to: a reader finds the
/// second if the first is damaged.
pub(crate) const KEPT_INDEXES: usize = 2;

/// What a push did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The newest epoch that can be restored from the archive now.
    pub epoch: Epoch,
    /// Files that were uploaded.
    pub uploaded: u64,
    /// Their bytes.
    pub uploaded_bytes: u64,
    /// Files that were there already.
    pub kept: u64,
    /// Files that went away before they were read. Checkpoints that need one
    /// of them are not in the archive.
    pub vanished: Vec<String>,
    /// Objects removed.
    pub removed: u64,
    /// Objects that should have been removed and perhaps are not; a later push
    /// tries again.
    pub unremoved: u64,
}

/// A file that is in the archive.
#[derive(Clone, Debug)]
struct Known {
    part: Part,
    stands_at: (u32, u64),
    /// Read by this owner. What was inherited is not, and is compared first.
    seen: bool,
}

/// The state of an owner.
#[derive(Debug)]
pub(crate) struct Tenure {
    bucket: Bucket,
    options: Options,
    log: LogId,
    term: Term,
    nonce: Nonce,
    from: Option<Content>,
    inherited: Option<(Term, u64)>,
    next_index: u64,
    next_upload: u64,
    /// What the next index may refer to without an upload. An index that was
    /// tried, whatever came of it, takes from here all it does not name: once
    /// an object was left out it may be removed by anybody, at any time.
    known: BTreeMap<String, Known>,
    /// The index that was tried last.
    last: Option<Index>,
    /// Indexes that are there, oldest first; [`KEPT_INDEXES`] at most.
    put: VecDeque<Index>,
    /// Numbers of own indexes that may be there.
    tried: BTreeSet<u64>,
    /// Objects to remove once no kept index names them.
    garbage: BTreeSet<String>,
    /// Whether the remains of earlier owners were looked for.
    swept: bool,
    fenced: Option<Term>,
    #[cfg(test)]
    pub(crate) blind: bool,
}

impl Tenure {
    /// Takes the archive of a store.
    pub(crate) async fn begin(
        bucket: Bucket,
        options: Options,
        log: LogId,
        holder: &str,
        takeover: &Takeover,
    ) -> Result<Self> {
        // A look before the claim: who has no right to the archive must not
        // fence the one who has.
        accept(&current::newest(&bucket, log, KEPT_INDEXES).await?, takeover)?;
        let nonce = Nonce::draw().map_err(|error| Error::Object {
            doing: "draw a nonce for",
            key: key::owners(log),
            source: error.into(),
        })?;
        let term = claim::take(&bucket, log, &nonce, holder, moment::now_ns()).await?;

        // Only what is read after the claim counts.
        let found = current::newest(&bucket, log, KEPT_INDEXES).await?;
        accept(&found, takeover)?;
        let mut tenure = Self {
            bucket,
            options,
            log,
            term,
            nonce,
            from: None,
            inherited: None,
            next_index: 1,
            next_upload: 1,
            known: BTreeMap::new(),
            last: None,
            put: VecDeque::new(),
            tried: BTreeSet::new(),
            garbage: BTreeSet::new(),
            swept: false,
            fenced: None,
            #[cfg(test)]
            blind: false,
        };
        if let Some(newest) = found.indexes.into_iter().next() {
            if newest.term > term {
                return Err(Error::Fenced { by: newest.term });
            }
            tenure.inherit(newest).await?;
        }
        tenure.look_for_claims().await?;
        Ok(tenure)
    }

    /// Takes up an index, and repeats it as the own first one.
    async fn inherit(&mut self, newest: Index) -> Result<()> {
        self.from = Some(newest.content.clone());
        self.inherited = Some((newest.term, newest.number));
        for checkpoint in &newest.checkpoints {
            for part in &checkpoint.runs {
                self.known.insert(part.name.clone(), Known { part: part.clone(), stands_at: (0, 0), seen: false });
            }
        }
        for Segment { facts, file } in &newest.segments {
            let stands_at = (facts.generation, facts.base.0);
            self.known.insert(file.name.clone(), Known { part: file.clone(), stands_at, seen: false });
        }
        let repeated = Index {
            term: self.term,
            nonce: self.nonce.clone(),
            number: self.next_index,
            inherited: self.inherited,
            time_ns: moment::now_ns(),
            ..newest.clone()
        };
        self.put.push_back(newest);
        self.try_index(repeated).await
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    pub(crate) fn lineage(&self) -> Lineage {
        Lineage { own: Some(self.nonce.clone()), from: self.from.clone() }
    }

    /// The newest index that is there.
    #[cfg(test)]
    pub(crate) fn index(&self) -> Option<(Term, u64)> {
        self.put.back().map(|index| (index.term, index.number))
    }

    /// The newest epoch that the newest acknowledged index holds.
    pub(crate) fn covered(&self) -> Epoch {
        self.put.back().map_or(Epoch(0), plan::covered)
    }

    /// Files of an inventory that are not in the archive, and their bytes.
    pub(crate) fn waiting(&self, inventory: &Inventory) -> Result<(u64, u64)> {
        let files = inventory.files().map_err(|detail| Error::Inventory { detail })?;
        let missing = files.iter().filter(|(name, wanted)| !self.knows(name, wanted));
        Ok(missing.fold((0, 0), |(files, bytes), (_, wanted)| (files + 1, bytes + wanted.file.bytes)))
    }

    fn knows(&self, name: &str, wanted: &Wanted<'_>) -> bool {
        self.known.get(name).is_some_and(|known| known.seen && known.fits(wanted))
    }

    /// Archives an inventory. When this returns, what it holds is safe: no
    /// later owner goes on without it.
    pub(crate) async fn push(&mut self, inventory: &Inventory) -> Result<Pushed> {
        if let Some(by) = self.fenced {
            return Err(Error::Fenced { by });
        }
        if inventory.log_id != self.log {
            return Err(Error::Inventory { detail: format!("it is of the store {}", inventory.log_id) });
        }
        let files = inventory.files().map_err(|detail| Error::Inventory { detail })?;
        let mut pushed = Pushed::default();
        self.bring(&files, &mut pushed).await?;
        let index = self.compose(inventory);
        let epoch = plan::covered(&index);
        if !pushed.vanished.is_empty() && epoch < self.covered() {
            return Err(Error::Vanished { names: pushed.vanished });
        }
        self.try_index(index).await?;
        self.look_for_claims().await?;
        // From here on the push counts, whatever becomes of the rest.
        pushed.epoch = epoch;
        self.tidy(&mut pushed).await;
        Ok(pushed)
    }

    /// Uploads what is not there.
    async fn bring(&mut self, files: &BTreeMap<&str, Wanted<'_>>, pushed: &mut Pushed) -> Result<()> {
        let missing: Vec<Wanted<'_>> =
            files.iter().filter(|(name, wanted)| !self.knows(name, wanted)).map(|(_, wanted)| *wanted).collect();
        pushed.kept = (files.len() - missing.len()) as u64;
        let mut jobs = Vec::new();
        for wanted in missing {
            let name = &wanted.file.name;
            let inherited = self.known.get(name).filter(|known| known.fits(&wanted)).map(|known| known.part.clone());
            let key = key::part(self.log, self.term, self.next_upload, name);
            if self.next_upload > MAX_NUMBER {
                return Err(Error::Conflict { key });
            }
            self.next_upload += 1;
            // Until it is known to be of use.
            self.garbage.insert(key.clone());
            jobs.push((wanted, inherited, key));
        }
        let (bucket, piece) = (self.bucket.clone(), self.options.piece_bytes);
        let mut under_way = futures_util::stream::iter(jobs)
            .map(async |(wanted, inherited, key)| (wanted, bring_one(&bucket, &wanted, inherited, key, piece).await))
            .buffer_unordered(self.options.files_at_once.max(1));
        while let Some((wanted, brought)) = under_way.next().await {
            match brought? {
                Outcome::Whole((part, uploaded)) => {
                    if uploaded {
                        pushed.uploaded += 1;
                        pushed.uploaded_bytes += part.bytes;
                    } else {
                        pushed.kept += 1;
                    }
                    self.garbage.remove(&part.key);
                    let known = Known { part, stands_at: wanted.stands_at, seen: true };
                    if let Some(old) = self.known.insert(wanted.file.name.clone(), known.clone())
                        && old.part.key != known.part.key
                    {
                        self.garbage.insert(old.part.key);
                    }
                }
                Outcome::Vanished => pushed.vanished.push(wanted.file.name.clone()),
            }
        }
        pushed.vanished.sort();
        Ok(())
    }

    /// The next index: of the inventory what is in the archive, and of the
    /// index before what is to be kept.
    fn compose(&self, inventory: &Inventory) -> Index {
        let part = |name: &str| self.known.get(name).filter(|known| known.seen).map(|known| known.part.clone());
        let mut checkpoints: Vec<Checkpoint> = Vec::new();
        for checkpoint in &inventory.checkpoints {
            let runs: Option<Vec<Part>> = checkpoint.runs.iter().map(|run| part(&run.name)).collect();
            checkpoints.extend(runs.map(|runs| Checkpoint { facts: checkpoint.facts.clone(), runs }));
        }
        let mut segments: Vec<Segment> = Vec::new();
        for segment in &inventory.segments {
            let file = part(&segment.file.name);
            segments.extend(file.map(|file| Segment { facts: segment.facts.clone(), file }));
        }
        if let Some(last) = &self.last {
            retain(last, &mut checkpoints, &mut segments, self.options.keep_checkpoints);
        }
        checkpoints.sort_by_key(|checkpoint| checkpoint.facts.number);
        segments.sort_by_key(Segment::order);
        Index {
            version: LAYOUT_VERSION,
            log_id: self.log,
            term: self.term,
            nonce: self.nonce.clone(),
            number: self.next_index,
            content: Content { maker: self.nonce.clone(), number: self.next_index },
            inherited: self.inherited,
            time_ns: moment::now_ns(),
            generation: inventory.generation,
            cores: inventory.cores,
            complete_epoch: inventory.complete_epoch,
            checkpoints,
            segments,
        }
    }

    /// Puts an index under a number of its own. If that fails it may be there
    /// all the same, now or later; its number is not used again, so it never
    /// gets above one that was acknowledged.
    async fn try_index(&mut self, index: Index) -> Result<()> {
        let key = index.key();
        if index.number > MAX_NUMBER {
            return Err(Error::Conflict { key });
        }
        let bytes = index.encode().map_err(|error| Error::Damaged { key: key.clone(), detail: error.to_string() })?;
        self.next_index += 1;
        self.tried.insert(index.number);
        let named: BTreeSet<String> = index.keys().into_iter().map(str::to_owned).collect();
        self.known.retain(|_, known| {
            let stays = named.contains(&known.part.key);
            if !stays {
                self.garbage.insert(known.part.key.clone());
            }
            stays
        });
        if let Some(last) = &self.last {
            // What was kept from the index before, and is kept no longer.
            self.garbage.extend(last.keys().into_iter().filter(|key| !named.contains(*key)).map(str::to_owned));
        }
        self.last = Some(index.clone());
        match self.bucket.create(&key, bytes.clone()).await? {
            Put::Created => {}
            Put::Exists => match self.bucket.read(&key).await? {
                // The client had tried twice and found its own.
                Some(found) if found == bytes => {}
                _ => return Err(Error::Conflict { key }),
            },
        }
        self.put.push_back(index);
        if self.put.len() > KEPT_INDEXES {
            self.put.pop_front();
        }
        Ok(())
    }

    /// The other half of the fence: whoever claimed before the index was there
    /// may have inherited without it.
    async fn look_for_claims(&mut self) -> Result<()> {
        #[cfg(test)]
        if self.blind {
            return Ok(());
        }
        match claim::later(&self.bucket, self.log, self.term).await? {
            Some(by) => {
                self.fenced = Some(by);
                Err(Error::Fenced { by })
            }
            None => Ok(()),
        }
    }

    /// Removes what the kept indexes do not name. Only ever called when a look
    /// for claims has just found none.
    async fn tidy(&mut self, pushed: &mut Pushed) {
        let mut keep = Keep::of(&self.put);
        let first = self.put.front().map_or(0, |index| if index.term == self.term { index.number } else { 0 });
        let at_once = self.options.files_at_once.max(1);
        if !self.swept && first > 0 {
            // No kept index is of an earlier owner: all of theirs can go that
            // is not named. Own objects are known anyway.
            let found = sweep::unnamed(&self.bucket, self.log, &keep, self.term).await;
            if let Ok(found) = found {
                self.garbage.extend(found.into_iter().map(|object| object.key));
                self.swept = true;
            }
        }
        keep.parts.extend(self.known.values().map(|known| known.part.key.clone()));
        let old: Vec<u64> = self.tried.iter().copied().filter(|number| *number < first).collect();
        let mut remove: Vec<String> = old.iter().map(|number| key::index(self.log, self.term, *number)).collect();
        remove.extend(self.garbage.iter().filter(|key| !keep.parts.contains(*key)).cloned());
        let count = remove.len() as u64;
        let (left, _) = self.bucket.delete_all(remove.clone(), at_once).await;
        let left: BTreeSet<String> = left.into_iter().collect();
        for key in remove.iter().filter(|key| !left.contains(*key)) {
            self.garbage.remove(key);
        }
        self.tried.retain(|number| *number >= first || left.contains(&key::index(self.log, self.term, *number)));
        pushed.unremoved = left.len() as u64;
        pushed.removed = count - pushed.unremoved;
    }
}

impl Known {
    /// Whether it can be what is wanted, going by all but its bytes.
    fn fits(&self, wanted: &Wanted<'_>) -> bool {
        self.stands_at == wanted.stands_at && self.part.bytes == wanted.file.bytes
    }
}

/// The part of a file, and whether it had to be uploaded.
async fn bring_one(
    bucket: &Bucket,
    wanted: &Wanted<'_>,
    inherited: Option<Part>,
    key: String,
    piece: usize,
) -> Result<Outcome<(Part, bool)>> {
    if let Some(part) = inherited {
        match upload::hash(wanted, piece).await? {
            Outcome::Whole(hash) if hash == part.blake3 => return Ok(Outcome::Whole((part, false))),
            Outcome::Whole(_) => {}
            Outcome::Vanished => return Ok(Outcome::Vanished),
        }
    }
    let file = wanted.file;
    Ok(match upload::upload(bucket, &key, wanted, piece).await? {
        Outcome::Whole(blake3) => {
            Outcome::Whole((Part { name: file.name.clone(), key, bytes: file.bytes, blake3 }, true))
        }
        Outcome::Vanished => Outcome::Vanished,
    })
}

/// Whether what is there is what the new owner expects.
fn accept(found: &Newest, takeover: &Takeover) -> Result<()> {
    let newest = match takeover {
        Takeover::Force => return Ok(()),
        Takeover::First | Takeover::Continue(_) => found.intact()?,
    };
    match (takeover, newest) {
        (Takeover::Continue(lineage), Some(newest)) if lineage.has(&newest.content) => Ok(()),
        (_, Some(newest)) => Err(Error::Diverged { archived: Some(Lineage::restored(&newest.content)) }),
        // Nothing was ever pushed; a line that claimed and never came to push
        // is among those.
        (Takeover::Continue(lineage), None) if lineage.from.is_some() => Err(Error::Diverged { archived: None }),
        (_, None) => Ok(()),
    }
}
