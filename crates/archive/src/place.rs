//! Where an archive lies: a directory or a bucket.

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use crate::error::{Error, Result};
use crate::private;
use crate::source::file_error;

/// Variables that name the endpoint of an S3 server.
const ENDPOINTS: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

/// Opens the object store behind a URL, and the prefix in it.
pub(crate) fn open(
    url: &str,
    vars: impl IntoIterator<Item = (String, String)>,
    patience: Duration,
) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let wrong = |detail: String| Error::Place { url: url.to_owned(), detail };
    match url.split_once("://") {
        Some(("s3", rest)) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("it names no bucket".to_owned()));
            }
            let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| wrong(error.to_string()))?;
            Ok((s3(bucket, vars, patience).map_err(|error| wrong(error.to_string()))?, prefix))
        }
        Some(("file", _)) => {
            let parsed = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
            let path = parsed.to_file_path().map_err(|()| wrong("it is no path on this machine".to_owned()))?;
            Ok((local(&path)?, Path::default()))
        }
        Some((scheme, _)) => Err(wrong(format!("{scheme}:// is not known; there are s3:// and file://"))),
        None if url.is_empty() => Err(wrong("it is empty".to_owned())),
        None => Ok((local(FilePath::new(url))?, Path::default())),
    }
}

fn local(path: &FilePath) -> Result<Arc<dyn ObjectStore>> {
    // The objects in it have the rights that the umask leaves; nobody else gets to them.
    private::create_dir_all(path).map_err(|error| file_error("create", path, error))?;
    let full = path.canonicalize().map_err(|error| file_error("find", path, error))?;
    // The directory's own name must outlive a power loss too.
    for dir in [Some(full.clone()), full.parent().map(PathBuf::from)].into_iter().flatten() {
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|error| file_error("sync", &dir, error))?;
    }
    let store = LocalFileSystem::new_with_prefix(&full)
        .map_err(|error| Error::Place { url: path.display().to_string(), detail: error.to_string() })?
        .with_fsync(true);
    Ok(Arc::new(store))
}

fn s3(
    bucket: &str,
    vars: impl IntoIterator<Item = (String, String)>,
    patience: Duration,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    // If the program has named one before, its choice stands.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = AmazonS3Builder::new();
    for (name, value) in vars {
        if ENDPOINTS.contains(&name.as_str()) && value.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        // Variables of other tools have names that the builder does not know.
        if name.starts_with("AWS_")
            && let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>()
        {
            builder = builder.with_config(key, value);
        }
    }
    let retry = RetryConfig { retry_timeout: patience.mul_f64(0.8), ..RetryConfig::default() };
    let store = builder
        .with_bucket_name(bucket)
        // Without conditional puts there is no fence.
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .build()?;
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    fn open_plain(url: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
        open(url, [], Duration::from_secs(1))
    }

    #[test]
    fn a_path_and_its_url_are_one_directory_made_if_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b/archive");
        open_plain(path.to_str().unwrap()).unwrap();
        assert!(path.is_dir());
        let url = Url::from_file_path(dir.path().join("c d")).unwrap();
        open_plain(url.as_str()).unwrap();
        assert!(dir.path().join("c d").is_dir());
    }

    #[test]
    fn a_server_named_by_https_is_spoken_to_by_tls() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("https://{}", server.local_addr().unwrap());
        let vars = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_REGION", "here"),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (store, prefix) = open("s3://bucket/a", vars, Duration::from_millis(100)).unwrap();
        let hello = std::thread::spawn(move || {
            let mut first = [0; 3];
            server.accept().unwrap().0.read_exact(&mut first).unwrap();
            first
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(object_store::ObjectStoreExt::head(&*store, &prefix));
        assert!(answer.is_err(), "nobody answers");
        // A handshake, of TLS 1.x: RFC 8446, 5.1.
        assert_eq!(hello.join().unwrap()[..2], [22, 3]);
    }

    #[test]
    fn a_bucket_may_have_a_prefix() {
        let vars = [("AWS_REGION", "here"), ("AWS_ENDPOINT", "http://127.0.0.1:1"), ("AWS_PROFILE", "x")];
        let vars = || vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let prefix = |url| open(url, vars(), Duration::from_secs(1)).map(|(_, prefix)| prefix.to_string());
        assert_eq!(prefix("s3://bucket").unwrap(), "");
        assert_eq!(prefix("s3://bucket/a/b/").unwrap(), "a/b");
        for wrong in ["s3://", "s3:///a", "s3://bucket/a//b", "gs://bucket", "http://host/", "file://host/x", ""] {
            assert!(matches!(prefix(wrong), Err(Error::Place { .. })), "{wrong}");
        }
    }
}
