//! A network that is cut: nothing arrives, and nobody is told.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Stands before an address and passes on what comes, while it is not cut.
pub(crate) struct Cut {
    address: String,
    cut: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
}

impl Cut {
    pub(crate) fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let (cut, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let found = Self { address: own, cut: Arc::clone(&cut), end: Arc::clone(&end) };
        let address = address.to_owned();
        thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((near, _)) => {
                        // Whoever is not there yet is called again.
                        let Ok(far) = TcpStream::connect(&address) else { continue };
                        near.set_nonblocking(false).unwrap();
                        for (from, to) in [(&near, &far), (&far, &near)] {
                            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                            let (cut, end) = (Arc::clone(&cut), Arc::clone(&end));
                            thread::spawn(move || pass(from, to, &cut, &end));
                        }
                    }
                    Err(_) => thread::sleep(LOOK),
                }
            }
        });
        found
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool, end: &AtomicBool) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    while !end.load(Ordering::Relaxed) {
        if cut.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
