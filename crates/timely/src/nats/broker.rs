//! Where the server is, and how to get in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long it is tried to reach the server unless told.
const PATIENCE: Duration = Duration::from_secs(60);

/// A NATS server, or the servers of a cluster.
#[derive(Clone)]
pub struct Broker {
    pub(super) url: String,
    pub(super) login: Login,
    pub(super) root_certificates: Option<PathBuf>,
    pub(super) patience: Duration,
}

/// What the server wants to be told.
#[derive(Clone)]
pub(super) enum Login {
    Nobody,
    User(String, String),
    Token(String),
}

impl Broker {
    /// The server at a URL, such as `nats://localhost:4222`, or `tls://` where
    /// the connection has to be encrypted; several servers of a cluster are
    /// separated by commas. Nothing is connected yet.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), login: Login::Nobody, root_certificates: None, patience: PATIENCE }
    }

    /// The user to connect as, and the password.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Login::User(name.into(), password.into());
        self
    }

    /// The token to connect with.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Login::Token(token.into());
        self
    }

    /// A PEM file with the certificates to trust, instead of those that the
    /// system trusts. The connection has to be encrypted then.
    #[must_use]
    pub fn root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.root_certificates = Some(file.into());
        self
    }

    /// How long it is tried again, when the server can't be reached or doesn't
    /// answer, before that is an error: a minute unless told. It counts from the
    /// first try that failed, and from the start again once something succeeds.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl From<&str> for Broker {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for Broker {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

/// Without what is secret.
impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = match &self.login {
            Login::Nobody => "nobody",
            Login::User(name, _) => name,
            Login::Token(_) => "a token",
        };
        f.debug_struct("Broker")
            .field("url", &self.to_string())
            .field("login", &login)
            .field("root_certificates", &self.root_certificates)
            .field("patience", &self.patience)
            .finish()
    }
}

/// The servers, without what may be before an `@`.
impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, server) in self.url.split(',').enumerate() {
            let server = server.trim();
            let server = server.rsplit_once('@').map_or(server, |(_, server)| server);
            write!(f, "{}{server}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        let broker = Broker::new("nats://me:secret@one:4222, two").user("me", "secret");
        assert_eq!(broker.to_string(), "one:4222, two");
        assert!(!format!("{broker:?}{:?}", broker.clone().token("secret")).contains("secret"));
    }
}
