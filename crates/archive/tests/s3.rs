//! Round trips to an S3 server over HTTP on this machine. The server's
//! conditional put is not atomic, so nothing races here.

#![allow(clippy::disallowed_methods, reason = "tests are outside the simulated engine")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LOG, Machine, assert_holds, files};
use corewal::{Checkpoints, Commit, Keyed, Reader, Recover};
use corewal_archive::{Archive, Error, Options, Takeover, Target, store};
use corewal_format::Epoch;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

const KEY: &str = "key-of-the-test";
const SECRET: &str = "secret-of-the-test";

/// A server over a directory, on a thread; it ends with this value.
struct Server {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn start(root: &Path) -> Self {
        fs::create_dir_all(root.join("bucket")).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serve = async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let connection = auto::Builder::new(TokioExecutor::new());
                    let _ = connection.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                futures_util::future::select(std::pin::pin!(serve), stopped).await;
            });
            runtime.shutdown_background();
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    fn archive(&self, secret: &str, options: Options) -> Archive {
        let endpoint = format!("http://{}", self.address);
        let vars = [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_PAGER", "of another tool"),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Archive::open_with_vars("s3://bucket/some/stores", options, vars).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn options() -> Options {
    Options { piece_bytes: 5 << 20, request_timeout: Duration::from_secs(20), ..Options::default() }
}

#[test]
fn there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("s3"));
    let archive = server.archive(SECRET, options());
    assert_eq!(archive.stores().unwrap(), []);

    // A file of each: one piece, and several.
    let mut machine = Machine::new(&dir.path().join("machine"), 1, 1, 12_000_001);
    machine.advance();
    machine.size = 9_000;
    machine.checkpoint();
    let mut owner = archive.own(LOG, Takeover::First).unwrap();
    let pushed = owner.push(&machine.inventory()).unwrap();
    assert_eq!((pushed.uploaded, pushed.epoch), (3, Epoch(1)));
    assert_eq!(archive.verify(LOG).unwrap().findings, []);
    assert_eq!(archive.stores().unwrap(), [LOG]);

    // Without the checkpoint the large file is needed.
    machine.checkpoints.clear();
    owner.push(&machine.inventory()).unwrap();
    let to = dir.path().join("restored");
    let restored = archive.restore(LOG, Target::Latest, &to, |_, _| Ok(())).unwrap();
    assert_eq!((restored.reaches, restored.segments.len()), (Epoch(1), 1));
    assert_holds(&to, &machine.inventory());

    // Another machine takes over; the first is told, and what it left goes.
    let mut second = archive.own(LOG, Takeover::Continue(restored.lineage)).unwrap();
    assert!(matches!(owner.push(&machine.inventory()), Err(Error::Fenced { .. })));
    for _ in 0..3 {
        second.push(&machine.inventory()).unwrap();
    }
    let verified = archive.verify(LOG).unwrap();
    assert_eq!((verified.findings.len(), verified.orphans, verified.indexes), (0, 0, 2));
    assert_eq!(archive.list(LOG).unwrap().owners.len(), 2);
    assert_eq!(archive.gc(LOG).unwrap().removed, 0);
}

#[test]
fn damage_on_the_server_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("s3");
    let server = Server::start(&root);
    let archive = server.archive(SECRET, options());
    let mut machine = Machine::new(&dir.path().join("machine"), 1, 1, 5_000);
    machine.advance();
    archive.own(LOG, Takeover::First).unwrap().push(&machine.inventory()).unwrap();
    let listed = files(&root);
    let (name, bytes) = listed.iter().find(|(name, _)| name.contains("/parts/")).unwrap();
    let mut damaged = bytes.clone();
    damaged[2_500] ^= 4;
    fs::write(root.join(name), damaged).unwrap();
    assert_eq!(archive.verify(LOG).unwrap().findings.len(), 1);
    let to = dir.path().join("restored");
    let restored = archive.restore(LOG, Target::Latest, &to, |_, _| Ok(()));
    assert!(matches!(restored, Err(Error::Damaged { .. })), "{restored:?}");
    assert!(!to.exists());
}

#[test]
fn a_server_that_refuses_or_is_gone_is_an_error_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("s3"));
    let wrong = server.archive("another secret", options());
    let refused = wrong.own(LOG, Takeover::First);
    assert!(matches!(refused, Err(Error::Object { .. })), "{refused:?}");
    let archive = server.archive(SECRET, Options { request_timeout: Duration::from_secs(1), ..options() });
    drop(server);
    let gone = archive.list(LOG);
    assert!(matches!(gone, Err(Error::Object { .. } | Error::Timeout { .. })), "{gone:?}");
}

/// A store, and what its state was at the end of each epoch.
struct Told {
    dir: PathBuf,
    random: fastrand::Rng,
    data: BTreeMap<Vec<u8>, Vec<u8>>,
    epochs: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Told {
    /// Puts and deletes over so many epochs, and a checkpoint of the last.
    fn go_on(&mut self, epochs: u64) {
        let checkpoints = Checkpoints::manual().keep(3);
        let options =
            corewal::Options::new().cores(2).buffer_bytes(16 << 10).segment_bytes(64 << 10).checkpoints(checkpoints);
        let mut opened = options.open(&self.dir).unwrap();
        for _ in 0..epochs {
            for _ in 0..400 {
                let key = format!("key-{}", self.random.u32(..300)).into_bytes();
                let shard = &mut opened.shards[opened.store.route(&key).index()];
                if self.random.u8(..) < 40 {
                    shard.delete(&key).unwrap();
                    self.data.remove(&key);
                } else {
                    let value: Vec<u8> = (0..self.random.usize(..200)).map(|_| self.random.u8(..)).collect();
                    shard.put(&key, &value).unwrap();
                    self.data.insert(key, value);
                }
            }
            let ended = opened.store.next_epoch();
            for shard in &mut opened.shards {
                shard.commit(&Commit::new()).unwrap();
                shard.end_epoch(ended).unwrap();
                shard.sync().unwrap();
            }
            self.epochs.push(self.data.clone());
            assert_eq!(opened.store.complete_epoch().get(), self.epochs.len() as u64);
        }
        opened.store.checkpoint().unwrap().unwrap();
    }
}

#[test]
fn a_store_comes_back_from_s3_at_every_epoch_within_reach() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("s3"));
    let (archive, url) = (server.archive(SECRET, options()), "s3://bucket/some/stores");
    let random = fastrand::Rng::with_seed(4);
    let mut told = Told { dir: dir.path().join("store"), random, data: BTreeMap::new(), epochs: Vec::new() };
    let mut log_id = None;
    for _ in 0..3 {
        told.go_on(5);
        let id = Reader::open(&told.dir).unwrap().info().unwrap().log_id;
        let mut owner = store::own(&archive, url, &told.dir, id, false).unwrap();
        let pushed = store::push(&mut owner, url, &told.dir).unwrap();
        assert_eq!(pushed.epoch.get(), told.epochs.len() as u64);
        log_id = Some(id);
    }
    let (log_id, mut within, mut without) = (log_id.unwrap(), 0, 0);
    for (epoch, expected) in (1..).zip(&told.epochs) {
        let to = dir.path().join(format!("restored-{epoch}"));
        match store::restore(&archive, url, log_id, Target::Epoch(Epoch(epoch)), &to) {
            Ok((_, made)) => {
                assert_eq!(made.epoch, Epoch(epoch));
                let views = Reader::open(&to).unwrap().replay(Recover::CompleteEpoch, |_| Keyed::default()).unwrap();
                let found = views.iter().flat_map(|view| view.state.iter());
                let found: BTreeMap<_, _> = found.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
                assert!(found == *expected, "epoch {epoch}");
                within += 1;
            }
            // Its log was released before the first push, or not sealed when the
            // checkpoint behind it was pushed.
            Err(error) => {
                let why = if epoch < 5 { "its oldest checkpoint is of epoch 5" } else { "has no epoch between" };
                assert!(error.to_string().contains(why), "{epoch}: {error}");
                assert!(!to.exists() && !epoch.is_multiple_of(5), "{epoch}");
                without += 1;
            }
        }
    }
    assert!(within >= 8 && within + without == 15, "{within} and {without}");
}
