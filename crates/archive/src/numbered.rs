//! Numbered objects, each put once: what several machines agree by.

use std::sync::Arc;

use crate::bucket::{Bucket, Put};
use crate::error::Result;
use crate::worker::Worker;

/// Objects below a directory that have numbers for names. Of several that put
/// one number, one succeeds. Every call blocks, for as long as its requests
/// take.
#[derive(Clone, Debug)]
pub struct Numbered {
    bucket: Bucket,
    dir: String,
    worker: Arc<Worker>,
}

fn number(name: &str) -> Option<u64> {
    (name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit())).then(|| name.parse().ok()).flatten()
}

impl Numbered {
    pub(crate) fn new(bucket: Bucket, dir: &str, worker: Arc<Worker>) -> Self {
        Self { bucket, dir: dir.to_owned(), worker }
    }

    fn key(&self, number: u64) -> String {
        format!("{}/{number:020}", self.dir)
    }

    /// The numbers there are, in order.
    ///
    /// # Errors
    /// Those of the object store.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let (bucket, dir) = (self.bucket.clone(), self.dir.clone());
        let listed = self.worker.run(async move || bucket.list(&dir, None).await)?;
        Ok(listed.iter().filter_map(|found| number(found.key.rsplit('/').next()?)).collect())
    }

    /// What a number holds; `None` if there is none.
    ///
    /// # Errors
    /// Those of the object store.
    pub fn read(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let (bucket, key) = (self.bucket.clone(), self.key(number));
        self.worker.run(async move || Ok(bucket.read(&key).await?.map(Vec::from)))
    }

    /// Puts a number where there is none; says whether it was this call that
    /// did. A request that is tried again may find what it put itself: so the
    /// bytes have to be such as nobody else puts.
    ///
    /// # Errors
    /// Those of the object store; then it may have been put or not.
    pub fn create(&self, number: u64, bytes: Vec<u8>) -> Result<bool> {
        let (bucket, key) = (self.bucket.clone(), self.key(number));
        self.worker.run(async move || match bucket.create(&key, bytes.clone()).await? {
            Put::Created => Ok(true),
            Put::Exists => Ok(bucket.read(&key).await?.is_some_and(|found| found == bytes)),
        })
    }

    /// Removes a number; none there is no error.
    ///
    /// # Errors
    /// Those of the object store.
    pub fn remove(&self, number: u64) -> Result<()> {
        let (bucket, key) = (self.bucket.clone(), self.key(number));
        self.worker.run(async move || bucket.delete(&key).await)
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use crate::{Archive, Options};

    #[test]
    fn a_number_is_put_once_and_a_second_try_knows_its_own() {
        let archive = Archive::with_store(std::sync::Arc::new(InMemory::new()), "jobs", Options::default()).unwrap();
        let numbered = archive.numbered("counts");
        assert!(numbered.numbers().unwrap().is_empty());
        assert!(numbered.create(2, b"mine".to_vec()).unwrap());
        assert!(numbered.create(2, b"mine".to_vec()).unwrap(), "a request that was tried again");
        assert!(!numbered.create(2, b"theirs".to_vec()).unwrap());
        assert!(numbered.create(1, b"first".to_vec()).unwrap());
        assert_eq!(numbered.numbers().unwrap(), [1, 2]);
        assert_eq!(numbered.read(2).unwrap().as_deref(), Some(&b"mine"[..]));
        numbered.remove(1).unwrap();
        numbered.remove(1).unwrap();
        assert_eq!((numbered.numbers().unwrap(), numbered.read(1).unwrap()), (vec![2], None));
    }
}
