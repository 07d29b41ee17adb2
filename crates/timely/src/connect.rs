//! Connections between the processes of a job. Timely's own wait for ever, for
//! whoever calls; these wait as long as they are told, and only for processes
//! of the same job.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Between two looks whether somebody has come.
const LOOK: Duration = Duration::from_millis(10);

/// How long a caller may take to say who it is.
const HELLO: Duration = Duration::from_secs(2);

const MAGIC: &[u8; 8] = b"corewalT";

/// What a process says of itself before anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) job: String,
    pub(crate) process: u16,
    pub(crate) processes: u16,
    pub(crate) workers: u16,
}

impl Hello {
    fn send(&self, mut stream: &TcpStream) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        for number in [self.process, self.processes, self.workers] {
            bytes.extend(number.to_le_bytes());
        }
        send_text(&mut bytes, &self.job);
        stream.write_all(&bytes)
    }

    fn receive(mut stream: &TcpStream) -> io::Result<Self> {
        let mut head = [0; 14];
        stream.read_exact(&mut head)?;
        if head[..8] != *MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no process of a job"));
        }
        let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (process, processes, workers) = (number(8), number(10), number(12));
        Ok(Self { job: receive_text(stream)?, process, processes, workers })
    }
}

fn send_text(bytes: &mut Vec<u8>, text: &str) {
    let length = text.floor_char_boundary(usize::from(u16::MAX));
    bytes.extend(u16::try_from(length).expect("cut to that").to_le_bytes());
    bytes.extend(&text.as_bytes()[..length]);
}

fn receive_text(mut stream: &TcpStream) -> io::Result<String> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut text = vec![0; usize::from(u16::from_le_bytes(length))];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Connects a process with all others: each calls those with lower numbers.
/// Gives the connections by process, none to itself.
///
/// # Errors
/// [`Error::Start`] if that is not done within `patience`, or another process is
/// of another job or shape.
pub(crate) fn connect(own: &Hello, addresses: &[String], patience: Duration) -> Result<Vec<Option<TcpStream>>> {
    let index = usize::from(own.process);
    let fail = |detail: String| Error::Start { detail };
    let listener = TcpListener::bind(&addresses[index])
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| fail(format!("process {index} cannot listen at {}: {error}", addresses[index])))?;
    let mut streams: Vec<Option<TcpStream>> = addresses.iter().map(|_| None).collect();
    let mut said = String::from("nobody calls");
    let began = Instant::now();
    while let Some(missing) = (0..addresses.len()).find(|&other| other != index && streams[other].is_none()) {
        if began.elapsed() > patience {
            let address = &addresses[missing];
            return Err(fail(format!(
                "process {missing} at {address} is not there after {} s: {said}",
                patience.as_secs()
            )));
        }
        for lower in 0..index {
            if streams[lower].is_none() {
                match call(own, &addresses[lower]) {
                    Ok(stream) => streams[lower] = Some(stream),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        return Err(fail(format!("process {lower} at {}: {error}", addresses[lower])));
                    }
                    Err(error) => said = error.to_string(),
                }
            }
        }
        match listener.accept() {
            Ok((stream, _)) => match answer(own, &stream, &streams) {
                Ok(process) => streams[process] = Some(stream),
                Err(error) => said = format!("somebody called, and {error}"),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            Err(error) => return Err(fail(format!("process {index} at {}: {error}", addresses[index]))),
        }
    }
    Ok(streams)
}

/// Calls a process with a lower number.
fn call(own: &Hello, address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    // It answers when it has come to it, which may be a while behind others.
    stream.set_read_timeout(Some(HELLO))?;
    own.send(&stream)?;
    match receive_text(&stream)?.as_str() {
        "" => {
            stream.set_read_timeout(None)?;
            Ok(stream)
        }
        why => Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned())),
    }
}

/// Answers a call: gives the process it comes from, if that is one of this job
/// and not here yet.
fn answer(own: &Hello, mut stream: &TcpStream, streams: &[Option<TcpStream>]) -> io::Result<usize> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO))?;
    let hello = Hello::receive(stream)?;
    let process = usize::from(hello.process);
    let why = if hello.job != own.job {
        format!("this is the job `{}`, and not `{}`", own.job, hello.job)
    } else if (hello.processes, hello.workers) != (own.processes, own.workers) {
        format!(
            "this job has {} process(es) of {} worker(s), not {} of {}",
            own.processes, own.workers, hello.processes, hello.workers
        )
    } else if hello.process <= own.process || streams.get(process).is_none_or(Option::is_some) {
        format!("process {process} is here already")
    } else {
        String::new()
    };
    let mut answer = Vec::new();
    send_text(&mut answer, &why);
    stream.write_all(&answer)?;
    if why.is_empty() {
        stream.set_read_timeout(None)?;
        Ok(process)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(process: u16, processes: u16) -> Hello {
        Hello { job: "counts".into(), process, processes, workers: 2 }
    }

    /// Free a moment ago.
    fn addresses(count: usize) -> Vec<String> {
        let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn each_is_connected_with_each_whoever_comes_first() {
        let addresses = addresses(3);
        std::thread::scope(|scope| {
            let connect = |process: u16| {
                let addresses = &addresses;
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(u64::from(process * 37 % 50)));
                    connect(&hello(process, 3), addresses, PATIENCE).unwrap()
                })
            };
            let processes: Vec<_> = (0..3).map(connect).collect();
            for (process, streams) in processes.into_iter().enumerate() {
                let streams = streams.join().unwrap();
                assert!(streams.iter().enumerate().all(|(other, stream)| stream.is_some() == (other != process)));
            }
        });
    }

    #[test]
    fn strangers_and_other_shapes_are_told_and_do_not_keep_the_others() {
        let addresses = addresses(2);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| connect(&hello(0, 2), &addresses, PATIENCE));
            let other = Hello { job: "sums".into(), ..hello(1, 2) };
            let told = connect(&other, &addresses, PATIENCE).unwrap_err().to_string();
            assert!(told.contains("this is the job `counts`, and not `sums`"), "{told}");
            let other = Hello { workers: 1, ..hello(1, 2) };
            let told = connect(&other, &addresses, PATIENCE).unwrap_err().to_string();
            assert!(told.contains("2 process(es) of 2 worker(s), not 2 of 1"), "{told}");
            TcpStream::connect(&addresses[0]).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            connect(&hello(1, 2), &addresses, PATIENCE).unwrap();
            first.join().unwrap().unwrap();
        });
    }

    #[test]
    fn patience_comes_to_its_end() {
        let addresses = addresses(2);
        for process in [0, 1] {
            let told = connect(&hello(process, 2), &addresses, Duration::from_millis(100)).unwrap_err().to_string();
            assert!(told.contains(&format!("process {} at 127.0.0.1", 1 - process)), "{told}");
        }
    }
}
