//! A network that fails at the worst moment.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use corewal_timely::nats::Broker;

use crate::server::{LONG, Server};

/// When it fails.
#[derive(Clone, Copy)]
pub(crate) enum Cut {
    /// Once so many messages have been published: the last one gets to the
    /// server, and no answer back.
    Published(usize),
    /// Once so many bytes have come from the server, wherever that is in a message.
    Received(usize),
}

/// Stands between a client and a server. Each connection fails in its turn.
pub(crate) struct Proxy {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn start(server: &Server, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = server.port();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        // It ends with the tests.
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let counted = Arc::clone(&counted);
                thread::spawn(move || connection(&client, &server, cut, &counted));
            }
        });
        Self { port, cuts }
    }

    pub(crate) fn broker(&self) -> Broker {
        Broker::new(format!("nats://127.0.0.1:{}", self.port)).patience(LONG)
    }

    /// How many connections have failed.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

fn connection(client: &TcpStream, server: &TcpStream, cut: Cut, cuts: &AtomicUsize) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut published = 0;
            forward(client, server, |bytes| {
                let Cut::Published(most) = cut else { return Some(bytes.len()) };
                published += bytes.windows(5).filter(|window| window == b"HPUB ").count();
                if published < most {
                    return Some(bytes.len());
                }
                // What the server answers from now on is lost.
                cuts.fetch_add(1, Ordering::Relaxed);
                let _ = client.shutdown(Shutdown::Write);
                let mut server = server;
                let _ = server.write_all(bytes);
                thread::sleep(Duration::from_millis(30));
                None
            });
        });
        let mut left = if let Cut::Received(bytes) = cut { bytes } else { usize::MAX };
        forward(server, client, |bytes| {
            let some = bytes.len().min(left);
            left -= some;
            if left == 0 {
                cuts.fetch_add(1, Ordering::Relaxed);
                let mut client = client;
                let _ = client.write_all(&bytes[..some]);
                return None;
            }
            Some(some)
        });
    });
}

/// Forwards until one of them is closed, or it is told to stop: then both are.
fn forward(mut from: &TcpStream, mut to: &TcpStream, mut passes: impl FnMut(&[u8]) -> Option<usize>) {
    let mut buffer = [0; 1 << 14];
    while let Ok(length @ 1..) = from.read(&mut buffer)
        && let Some(passing) = passes(&buffer[..length])
        && to.write_all(&buffer[..passing]).is_ok()
    {}
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
