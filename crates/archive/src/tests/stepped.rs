//! An object store in memory whose every call waits for its turn, and may
//! fail, before or after it took effect, or long after it was given up.

use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A write that its caller has given up and that may still take effect.
#[derive(Debug)]
enum Late {
    Put(Path, PutPayload, PutMode),
    Delete(Path),
}

#[derive(Debug)]
struct State {
    /// Whether the next call may go ahead; `None`: all may.
    turn: Option<bool>,
    random: fastrand::Rng,
    /// Faults in a hundred calls.
    faults: u32,
    late: Vec<Late>,
    /// Puts of keys that hold one of these wait.
    frozen: Vec<String>,
    /// The next write of a key that holds this goes wrong so.
    broken: Vec<(String, Fault)>,
    /// Whether it takes no notice of conditions.
    careless: bool,
    /// Writes that took effect.
    writes: u64,
}

/// How a write goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Before,
    After,
    /// The client tried twice, and the second try found the first.
    Twice,
    Late,
}

/// The store. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Stepped {
    pub(super) inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
}

impl Stepped {
    pub(super) fn new(seed: u64, faults: u32) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let state = State {
            turn: None,
            random,
            faults,
            late: Vec::new(),
            frozen: Vec::new(),
            broken: Vec::new(),
            careless: false,
            writes: 0,
        };
        Self { inner: Arc::new(InMemory::new()), state: Arc::new(Mutex::new(state)) }
    }

    /// From now on each call waits until [`Stepped::grant`].
    pub(super) fn hold(&self) {
        self.state.lock().unwrap().turn = Some(false);
    }

    /// Lets calls go ahead again, without faults.
    pub(super) fn let_go(&self) {
        let mut state = self.state.lock().unwrap();
        state.turn = None;
        state.faults = 0;
    }

    /// Lets one call go ahead.
    pub(super) fn grant(&self) {
        self.state.lock().unwrap().turn = Some(true);
    }

    /// Lets puts of keys that hold `part` wait until [`Stepped::thaw`].
    pub(super) fn freeze(&self, part: &str) {
        self.state.lock().unwrap().frozen.push(part.to_owned());
    }

    pub(super) fn thaw(&self, part: &str) {
        self.state.lock().unwrap().frozen.retain(|frozen| frozen != part);
    }

    /// Lets the next write of a key that holds `part` go wrong.
    pub(super) fn spoil(&self, part: &str, fault: Fault) {
        self.state.lock().unwrap().broken.push((part.to_owned(), fault));
    }

    /// From now on it takes no notice of conditions, like some servers.
    pub(super) fn forget_conditions(&self) {
        self.state.lock().unwrap().careless = true;
    }

    pub(super) fn writes(&self) -> u64 {
        self.state.lock().unwrap().writes
    }

    /// Writes that were given up and have not taken effect.
    pub(super) fn late(&self) -> usize {
        self.state.lock().unwrap().late.len()
    }

    /// Lets one of the writes that were given up take effect after all.
    pub(super) fn land_late(&self, pick: usize) {
        let late = {
            let mut state = self.state.lock().unwrap();
            if state.late.is_empty() {
                return;
            }
            let at = pick % state.late.len();
            state.writes += 1;
            state.late.swap_remove(at)
        };
        match late {
            Late::Put(path, payload, mode) => {
                let _ = self.inner.put_opts(&path, payload, mode.into()).now_or_never().expect("memory is at hand");
            }
            Late::Delete(path) => {
                let _ = self.inner.delete(&path).now_or_never().expect("memory is at hand");
            }
        }
    }

    async fn turn(&self) {
        poll_fn(|context| {
            let mut state = self.state.lock().unwrap();
            match &mut state.turn {
                None => Poll::Ready(()),
                Some(granted) if *granted => {
                    *granted = false;
                    Poll::Ready(())
                }
                Some(_) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        })
        .await;
    }

    fn fault(&self, path: Option<&Path>, create: bool) -> Fault {
        let mut state = self.state.lock().unwrap();
        let asked = path.and_then(|path| state.broken.iter().position(|(part, _)| path.as_ref().contains(part)));
        if let Some(at) = asked {
            return state.broken.remove(at).1;
        }
        if state.random.u32(..100) >= state.faults {
            return Fault::None;
        }
        match state.random.u32(..4) {
            0 => Fault::Before,
            1 => Fault::After,
            2 if create => Fault::Twice,
            _ => Fault::Late,
        }
    }

    fn wrote(&self) {
        self.state.lock().unwrap().writes += 1;
    }

    fn give_up(&self, late: Late) {
        self.state.lock().unwrap().late.push(late);
    }

    async fn delete_one(self, path: Path) -> Result<Path> {
        self.turn().await;
        match self.fault(Some(&path), false) {
            Fault::Before => Err(injected()),
            Fault::Late => {
                self.give_up(Late::Delete(path));
                Err(injected())
            }
            fault => {
                self.wrote();
                self.inner.delete(&path).await?;
                if fault == Fault::None { Ok(path) } else { Err(injected()) }
            }
        }
    }

    async fn read_turn(&self) -> Result<()> {
        self.turn().await;
        if self.fault(None, false) == Fault::None { Ok(()) } else { Err(injected()) }
    }
}

fn injected() -> Error {
    Error::Generic { store: "Stepped", source: "injected".into() }
}

impl fmt::Display for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stepped")
    }
}

#[async_trait]
impl ObjectStore for Stepped {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.turn().await;
        if self.state.lock().unwrap().careless {
            options.mode = PutMode::Overwrite;
        }
        poll_fn(|context| {
            let state = self.state.lock().unwrap();
            if state.frozen.iter().any(|part| path.as_ref().contains(part)) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let fault = self.fault(Some(path), options.mode == PutMode::Create);
        match fault {
            Fault::Before => return Err(injected()),
            Fault::Late => {
                self.give_up(Late::Put(path.clone(), payload, options.mode));
                return Err(injected());
            }
            Fault::None | Fault::After | Fault::Twice => {}
        }
        self.wrote();
        let result = self.inner.put_opts(path, payload, options).await?;
        match fault {
            Fault::Twice => Err(Error::AlreadyExists { path: path.to_string(), source: "injected".into() }),
            Fault::After => Err(injected()),
            _ => Ok(result),
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.read_turn().await?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.read_turn().await?;
        self.inner.get_opts(path, options).await
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.read_turn().await?;
        self.inner.get_ranges(path, ranges).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        paths.and_then(move |path| store.clone().delete_one(path)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            store.read_turn().await?;
            Ok::<_, Error>(store.inner.list(prefix.as_ref()))
        };
        listed.into_stream().try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read_turn().await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read_turn().await?;
        self.inner.copy_opts(from, to, options).await
    }
}
