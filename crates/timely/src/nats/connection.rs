//! A connection on a thread of its own, and how long it is tried to have one.

use std::future::Future;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{ContextBuilder, RequestErrorKind};
use async_nats::jetstream::{self, Context};
use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::runtime::Builder;
use tokio::sync::watch;

use super::broker::{Broker, Login};
use crate::source::BoxError;

/// The longest wait for an answer of the server.
const ANSWER: Duration = Duration::from_secs(5);

/// A connection that says nothing is asked this often whether it is there; not
/// answering twice, it is lost.
const PING: Duration = Duration::from_secs(5);

/// Waits between tries: the first, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs what is to be done on a thread of its own.
pub(super) fn on_a_thread(work: impl Future<Output = ()> + Send + 'static) -> Result<(), BoxError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        runtime.block_on(work);
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
    };
    thread::Builder::new().name("corewal-nats".to_owned()).spawn(work)?;
    Ok(())
}

/// What keeps a thread from its work.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may be gone in a while.
    Passing(String),
    /// Trying again won't help.
    Lasting(String),
}

/// A connection that ends when it is lost: the client would make it anew, but
/// messages that were under way are gone then, and only a new beginning tells.
#[derive(Debug)]
pub(super) struct Connection {
    context: Context,
    lost: watch::Receiver<bool>,
}

impl Connection {
    pub(super) async fn open(broker: &Broker) -> Result<Self, Trouble> {
        let mut servers = Vec::new();
        for url in broker.url.split(',') {
            let server: ServerAddr =
                url.trim().parse().map_err(|error| Trouble::Lasting(format!("{broker} is no NATS URL: {error}")))?;
            if !matches!(server.scheme(), "nats" | "tls") {
                return Err(Trouble::Lasting(format!("{broker} is no NATS URL: it begins with nats:// or tls://")));
            }
            if server.username().is_some() || server.password().is_some() {
                let told = "is told by `Broker::user` or `Broker::token`, not in the URL";
                return Err(Trouble::Lasting(format!("who connects to {broker} {told}")));
            }
            servers.push(server);
        }
        // If the program has named one before, its choice stands.
        let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
        let (losing, lost) = watch::channel(false);
        let losing = Arc::new(losing);
        let mut options = ConnectOptions::new()
            .name("corewal-timely")
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            .ping_interval(PING)
            .ignore_discovered_servers()
            .max_reconnects(servers.len())
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    losing.send_replace(true);
                }
                std::future::ready(())
            });
        options = match &broker.login {
            Login::Nobody => options,
            Login::User(name, password) => options.user_and_password(name.clone(), password.clone()),
            Login::Token(token) => options.token(token.clone()),
        };
        if let Some(file) = &broker.root_certificates {
            options = options.add_root_certificates(file.clone()).require_tls(true);
        }
        let client = options.connect(servers).await.map_err(|error| {
            let why = format!("{broker} can't be reached: {error}");
            match error.kind() {
                ConnectErrorKind::ServerParse
                | ConnectErrorKind::Authentication
                | ConnectErrorKind::AuthorizationViolation => Trouble::Lasting(why),
                _ => Trouble::Passing(why),
            }
        })?;
        Ok(Self { context: ContextBuilder::new().timeout(ANSWER).build(client), lost })
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Returns once it is lost.
    pub(super) async fn lost(&self) {
        // A client that is gone without a word is lost too.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }

    /// Does something that takes the connection, unless it is lost before.
    pub(super) async fn unless_lost<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.lost() => Err(Trouble::Passing("the connection to the broker was lost".to_owned())),
        }
    }
}

/// Sorts what JetStream itself says: what it can't do at the moment passes, what
/// it won't do doesn't.
pub(super) fn answered(doing: &str, error: &jetstream::Error) -> Trouble {
    let why = format!("{doing}: {error}");
    match error.code() {
        408 | 429 | 500.. => Trouble::Passing(why),
        _ => Trouble::Lasting(why),
    }
}

/// A request that JetStream has not answered.
pub(super) fn unanswered(doing: &str, error: &jetstream::context::RequestError) -> Trouble {
    let why = match error.kind() {
        RequestErrorKind::NoResponders => format!("{doing}: the broker has no JetStream"),
        _ => format!("{doing}: {error}"),
    };
    Trouble::Passing(why)
}

/// How long something is tried.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    /// The first failure of those since something has last succeeded.
    since: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, pause: FIRST_PAUSE }
    }

    /// Something has succeeded.
    pub(super) fn renew(&mut self) {
        (self.since, self.pause) = (None, FIRST_PAUSE);
    }

    /// Waits for the time of the next try, or is at its end: then it says why,
    /// with what the last try has come to.
    pub(super) async fn wait(&mut self, why: String) -> Result<(), String> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let left = self.limit.saturating_sub(waited);
        if left.is_zero() {
            return Err(format!("{why} (tried for {:.1} s)", waited.as_secs_f64()));
        }
        tokio::time::sleep(self.pause.min(left)).await;
        self.pause = LONGEST_PAUSE.min(self.pause * 2);
        Ok(())
    }
}
