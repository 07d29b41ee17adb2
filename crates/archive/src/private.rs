//! Files and directories that this crate makes and reads on a machine: their
//! owner's alone, and never through a link at the end of a path.
//!
//! A store's own files go by `corewal::io::FileStorage`, which keeps to the same
//! rules; what is restored is not a store yet.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true), path)
}

/// Reads a whole file, of at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    if file.metadata()?.len() > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {most} bytes")));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, most), &mut bytes)?;
    Ok(bytes)
}

/// Creates a file anew: one that is there goes, with whatever rights it had.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    regular(OpenOptions::new().write(true).create_new(true), path)
}

/// Opens a file for appending, or makes it.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().append(true).create(true), path)
}

/// Creates a directory.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    builder().create(path)
}

/// Creates a directory and those above it, as far as they are not there.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    builder().recursive(true).create(path)
}

fn builder() -> DirBuilder {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has modes"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Opens what is a regular file, without waiting for the other end of a pipe.
fn regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let irregular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file (links are not followed)");
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_file() => return Err(irregular()),
        _ => {}
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;

        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.mode(0o600).custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    if file.metadata()?.file_type().is_file() { Ok(file) } else { Err(irregular()) }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_and_pipes_are_refused_and_a_link_is_replaced_where_a_file_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link, pipe) = (dir.path().join("target"), dir.path().join("link"), dir.path().join("pipe"));
        fs::write(&target, "precious").unwrap();
        symlink(&target, &link).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [&link, &pipe] {
            assert_eq!(open(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(append(path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        drop(create(&link).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        let found = fs::symlink_metadata(&link).unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600, "{found:?}");
    }

    #[test]
    fn a_file_longer_than_asked_for_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        fs::write(&path, [b' '; 100]).unwrap();
        assert_eq!(read(&path, 100).unwrap().len(), 100);
        assert_eq!(read(&path, 99).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
