//! The calls on the object store: keys below a prefix, typed errors, and a
//! bound on every wait.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetResult, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};

use crate::error::{Error, Result};

/// An object in a listing.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its key below the archive's prefix.
    pub(crate) key: String,
    pub(crate) bytes: u64,
}

/// How a conditional put ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Created,
    /// Something is there already: perhaps this very put, tried twice.
    Exists,
}

/// The most bytes of an object that is read into memory as a whole: an index of
/// a million files has less.
const MOST_AT_ONCE: u64 = 1 << 30;

/// An object store, from a prefix on.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    patience: Duration,
}

impl Bucket {
    /// `patience` bounds each request, its retries included.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: Path, patience: Duration) -> Self {
        Self { store, prefix, patience }
    }

    fn path(&self, key: &str) -> Path {
        self.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    fn key(&self, path: &Path) -> String {
        let full = path.as_ref();
        let prefix = self.prefix.as_ref();
        full.strip_prefix(prefix).map_or(full, |rest| rest.trim_start_matches('/')).to_owned()
    }

    /// Waits for a call, but not for ever.
    pub(crate) async fn bounded<T>(
        &self,
        doing: &'static str,
        key: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.patience, call).await {
            Ok(result) => result.map_err(|error| failed(doing, key, error)),
            Err(_) => Err(Error::Timeout { doing, key: key.to_owned(), after: self.patience }),
        }
    }

    /// Puts an object where none is.
    pub(crate) async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<Put> {
        let path = self.path(key);
        let put = self.store.put_opts(&path, PutPayload::from(bytes), PutMode::Create.into());
        let put = async {
            match put.await {
                Ok(_) => Ok(Put::Created),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Exists),
                Err(error) => Err(error),
            }
        };
        self.bounded("put", key, put).await
    }

    /// Puts an object under a key that nobody else writes.
    pub(crate) async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        let path = self.path(key);
        self.bounded("put", key, self.store.put(&path, PutPayload::from(bytes))).await.map(drop)
    }

    /// Begins to put an object in pieces.
    pub(crate) async fn put_in_pieces(&self, key: &str) -> Result<Box<dyn MultipartUpload>> {
        let path = self.path(key);
        self.bounded("put", key, self.store.put_multipart(&path)).await
    }

    /// A whole object; `None` if it is not there.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let Some(object) = self.get(key).await? else { return Ok(None) };
        if object.meta.size > MOST_AT_ONCE {
            let detail =
                format!("it has {} bytes; none that is read at once has more than {MOST_AT_ONCE}", object.meta.size);
            return Err(Error::Damaged { key: key.to_owned(), detail });
        }
        self.bounded("get", key, object.bytes()).await.map(Some)
    }

    /// An object to be read in pieces; `None` if it is not there.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<GetResult>> {
        let path = self.path(key);
        let get = async {
            match self.store.get(&path).await {
                Ok(object) => Ok(Some(object)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.bounded("get", key, get).await
    }

    /// The objects below a directory in the order of their keys, those after
    /// a key only if one is given.
    pub(crate) async fn list(&self, dir: &str, after: Option<&str>) -> Result<Vec<Listed>> {
        let path = self.path(dir);
        let mut stream = match after {
            Some(after) => self.store.list_with_offset(Some(&path), &self.path(after)),
            None => self.store.list(Some(&path)),
        };
        let mut listed = Vec::new();
        while let Some(object) = self.bounded("list", dir, stream.try_next()).await? {
            listed.push(Listed { key: self.key(&object.location), bytes: object.size });
        }
        drop(stream);
        listed.sort_by(|a: &Listed, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// The names of the directories at the prefix.
    pub(crate) async fn top(&self) -> Result<Vec<String>> {
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        let found = self.bounded("list", "", self.store.list_with_delimiter(prefix)).await?;
        Ok(found.common_prefixes.iter().map(|path| self.key(path)).collect())
    }

    /// Removes an object; none there is no error.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        let delete = async {
            match self.store.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        };
        self.bounded("delete", key, delete).await
    }

    /// Removes objects, several at once; gives those that may still be there,
    /// with the first error.
    pub(crate) async fn delete_all(&self, keys: Vec<String>, at_once: usize) -> (Vec<String>, Option<Error>) {
        let mut deletes = futures_util::stream::iter(keys)
            .map(async |key| {
                let result = self.delete(&key).await;
                (key, result)
            })
            .buffer_unordered(at_once);
        let (mut left, mut first) = (Vec::new(), None);
        while let Some((key, result)) = deletes.next().await {
            if let Err(error) = result {
                left.push(key);
                first.get_or_insert(error);
            }
        }
        (left, first)
    }
}

/// An error of the object store, with what was being done.
fn failed(doing: &'static str, key: &str, error: object_store::Error) -> Error {
    Error::Object { doing, key: key.to_owned(), source: Box::new(error) }
}
