//! The archive for callers: blocking calls on a thread of its own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use corewal_format::{Epoch, LogId};
use futures_util::future::{Either, select};
use object_store::ObjectStore;

use crate::bucket::Bucket;
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::list::{self, Overview};
use crate::numbered::Numbered;
use crate::options::Options;
use crate::owner::{Pushed, Tenure};
use crate::place;
use crate::plan::Target;
use crate::restore::{self, Restored};
use crate::sweep::{self, Collected};
use crate::types::{Lineage, Takeover, Term};
use crate::verify::{self, Verified};
use crate::worker::Worker;

/// A place where stores are archived.
///
/// Every call blocks, for as long as its requests take; each request is
/// bounded by [`Options::request_timeout`]. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Archive {
    bucket: Bucket,
    options: Options,
    worker: Arc<Worker>,
}

impl Archive {
    /// Opens a place: a path or `file://` URL of a directory, which is made if
    /// it is absent, or `s3://bucket/prefix` with what the `AWS_*` environment
    /// variables say. Nothing is asked of the network yet.
    ///
    /// # Errors
    /// [`Error::Place`] if the URL or the variables can't be understood,
    /// [`Error::File`] if the directory can't be made.
    pub fn open(url: &str, options: Options) -> Result<Self> {
        // A variable that is no text is none of ours.
        let vars =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::open_with_vars(url, options, vars)
    }

    /// Opens a place with variables given instead of those of the environment.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_with_vars(
        url: &str,
        options: Options,
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let (store, prefix) = place::open(url, vars, options.request_timeout)?;
        Self::with_store(store, prefix.as_ref(), options)
    }

    /// An archive in an object store of the caller's, below a prefix. The store
    /// must put conditionally ([`object_store::PutMode::Create`]), at once and
    /// for all to see.
    ///
    /// # Errors
    /// [`Error::Stopped`] if no thread can be started, [`Error::Place`] if the
    /// prefix is none.
    pub fn with_store(store: Arc<dyn ObjectStore>, prefix: &str, options: Options) -> Result<Self> {
        let wrong =
            |error: object_store::path::Error| Error::Place { url: prefix.to_owned(), detail: error.to_string() };
        let prefix = object_store::path::Path::parse(prefix).map_err(wrong)?;
        let bucket = Bucket::new(store, prefix, options.request_timeout);
        Ok(Self { bucket, options, worker: Arc::new(Worker::start()?) })
    }

    /// Numbered objects below a directory of this place, beside the stores.
    #[must_use]
    pub fn numbered(&self, dir: &str) -> Numbered {
        Numbered::new(self.bucket.clone(), dir, Arc::clone(&self.worker))
    }

    /// The stores that have something in this archive, in order.
    ///
    /// # Errors
    /// Those of the object store.
    pub fn stores(&self) -> Result<Vec<LogId>> {
        let bucket = self.bucket.clone();
        self.worker.run(async move || {
            let mut stores: Vec<LogId> = bucket.top().await?.iter().filter_map(|name| LogId::parse(name)).collect();
            stores.sort();
            Ok(stores)
        })
    }

    /// Takes the archive of a store over. From now on no push of an owner
    /// before is acknowledged.
    ///
    /// The caller writes [`Owner::lineage`] down, durably, before it pushes.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the archive is not what `takeover` expects: then
    /// nothing was changed; [`Error::Damaged`] if its newest index is damaged
    /// and the take-over is not forced; [`Error::Fenced`] if somebody else took
    /// over at the same time; those of the object store, which may leave a
    /// term taken that nobody holds. Calling again is always possible.
    pub fn own(&self, log: LogId, takeover: Takeover) -> Result<Owner> {
        let (bucket, options) = (self.bucket.clone(), self.options.clone());
        let tenure = self.worker.run(async move || {
            let holder = options.holder.clone();
            Tenure::begin(bucket, options, log, &holder, &takeover).await
        })?;
        Ok(Owner { term: tenure.term(), lineage: tenure.lineage(), tenure: Some(tenure), worker: self.worker.clone() })
    }

    /// What the archive of a store holds.
    ///
    /// # Errors
    /// [`Error::NoArchive`], [`Error::Damaged`] if no index can be read, those
    /// of the object store.
    pub fn list(&self, log: LogId) -> Result<Overview> {
        let bucket = self.bucket.clone();
        self.worker.run(async move || list::list(&bucket, log).await)
    }

    /// Reads all that counts of a store's archive and tells what is wrong.
    ///
    /// # Errors
    /// [`Error::NoArchive`] if there is nothing of the store, and those of the
    /// object store. Damage is no error but a finding.
    pub fn verify(&self, log: LogId) -> Result<Verified> {
        let (bucket, at_once) = (self.bucket.clone(), self.options.files_at_once);
        self.worker.run(async move || verify::verify(&bucket, log, at_once).await)
    }

    /// Removes what earlier owners left behind and nothing refers to. Anybody
    /// may call it, beside a live owner too.
    ///
    /// # Errors
    /// [`Error::NoArchive`], [`Error::Damaged`] if the newest index is damaged:
    /// then nothing is removed; those of the object store.
    pub fn gc(&self, log: LogId) -> Result<Collected> {
        let (bucket, at_once) = (self.bucket.clone(), self.options.files_at_once);
        self.worker.run(async move || sweep::collect(&bucket, log, at_once.max(1)).await)
    }

    /// Restores a store into a directory that is not there or empty.
    ///
    /// Files come into `DIR.partial`, each checked against its hash. When all
    /// are there and durable, `complete` gets that directory and adds, durably,
    /// what makes it a store; then it is renamed. If anything fails the
    /// directory is not there, and calling again keeps the files that are
    /// whole.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] also if `DIR.partial` is not the work of a restore
    /// of the same store; [`Error::Unrestorable`]; [`Error::Damaged`] or
    /// [`Error::Missing`] for a part that can't be had; [`Error::File`], also
    /// for what `complete` returns; those of the object store.
    pub fn restore(
        &self,
        log: LogId,
        target: Target,
        dir: &Path,
        complete: impl FnOnce(&Path, &Restored) -> io::Result<()> + Send + 'static,
    ) -> Result<Restored> {
        let (bucket, options, dir) = (self.bucket.clone(), self.options.clone(), dir.to_owned());
        self.worker.run(async move || restore::restore(&bucket, &options, log, target, &dir, complete).await)
    }
}

/// The owner of a store's archive, until another takes it.
#[derive(Debug)]
pub struct Owner {
    term: Term,
    lineage: Lineage,
    /// Not there while a push is under way, or after one was given up.
    tenure: Option<Tenure>,
    worker: Arc<Worker>,
}

impl Owner {
    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// What to hand back as [`Takeover::Continue`] the next time.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// The newest epoch that can be restored from the archive, as far as this
    /// owner knows; 0 if none.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.tenure.as_ref().map_or(Epoch(0), Tenure::covered)
    }

    /// Files of an inventory that are still to be read, and their bytes.
    ///
    /// # Errors
    /// [`Error::Inventory`].
    pub fn waiting(&self, inventory: &Inventory) -> Result<(u64, u64)> {
        self.tenure.as_ref().map_or(Err(Error::Stopped), |tenure| tenure.waiting(inventory))
    }

    /// Archives an inventory. When this returns, no later owner goes on
    /// without it. The archive then holds what the inventory names, and what
    /// [`Options::keep_checkpoints`] keeps of before.
    ///
    /// # Errors
    /// [`Error::Fenced`]: this owner is none any more. All others leave it to
    /// the caller to push again; what was uploaded is not uploaded twice.
    pub fn push(&mut self, inventory: &Inventory) -> Result<Pushed> {
        self.push_unless(inventory, std::future::pending())
    }

    /// Pushes, but gives up when `stop` comes first; the owner is then none
    /// any more.
    pub(crate) fn push_unless(
        &mut self,
        inventory: &Inventory,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Pushed> {
        let mut tenure = self.tenure.take().ok_or(Error::Stopped)?;
        let inventory = inventory.clone();
        let (tenure, pushed) = self.worker.run(async move || {
            let stopped = {
                let push = std::pin::pin!(tenure.push(&inventory));
                match select(push, std::pin::pin!(stop)).await {
                    Either::Left((pushed, _)) => Some(pushed),
                    Either::Right(_) => None,
                }
            };
            stopped.map(|pushed| (tenure, pushed)).ok_or(Error::Stopped)
        })?;
        self.tenure = Some(tenure);
        pushed
    }
}
