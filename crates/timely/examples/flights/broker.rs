//! Flights on a broker: each file is a subject of the stream FLIGHTS.

use std::collections::VecDeque;
use std::fs;

use async_nats::jetstream::{self, stream::Config};
use corewal_timely::BoxError;
use corewal_timely::nats::{Broker, JetStream, Message};

/// Publications that are under way at once.
const AT_ONCE: usize = 500;

fn subject(file: usize) -> String {
    format!("flights.{file}")
}

/// The stream as a source, up to where it ends now.
pub(crate) fn flights(url: &str, files: usize) -> JetStream {
    JetStream::new(Broker::new(url), "FLIGHTS").subjects((0..files).map(subject)).until_end(true)
}

/// What a message says.
pub(crate) fn text(message: &Message) -> &str {
    std::str::from_utf8(&message.payload).unwrap_or_default()
}

/// Publishes the lines of files.
pub(crate) fn load(url: &str, files: &[String]) -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let broker = jetstream::new(async_nats::connect(url).await?);
        let subjects = vec!["flights.*".to_owned()];
        broker.get_or_create_stream(Config { name: "FLIGHTS".into(), subjects, ..Config::default() }).await?;
        let (mut under_way, mut count) = (VecDeque::new(), 0);
        for (index, file) in files.iter().enumerate() {
            let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            for line in text.lines().skip(1) {
                under_way.push_back(broker.publish(subject(index), line.to_owned().into()).await?);
                count += 1;
                if under_way.len() == AT_ONCE {
                    under_way.pop_front().expect("there are some").await?;
                }
            }
        }
        for publication in under_way {
            publication.await?;
        }
        println!("{count} flights published to {url}");
        Ok(())
    })
}
