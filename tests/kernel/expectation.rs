//! What a case expects of a request.

use std::collections::BTreeSet;
use std::fmt;

use crate::lab::{Host, Reply};

/// What a request should meet with.
#[derive(Clone, Debug)]
pub(crate) enum Expectation {
    /// Answers.
    Answers(Answers),
    /// The client is rejected at once.
    Refused,
    /// Nothing comes back.
    Silence,
}

/// Every request to come is refused.
pub(crate) struct Refused;

/// No request to come gets anything back.
pub(crate) struct Silent;

/// Who answers, and what they see.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    /// All of these answer, and no other server.
    pub(crate) servers: BTreeSet<Host>,
    /// The port that they listen on, where it matters.
    pub(crate) port: Option<u16>,
    /// Whose address they see as the client's, where it matters.
    pub(crate) client: Option<Host>,
}

impl Answers {
    /// One server answers every request.
    pub(crate) fn from(server: Host) -> Self {
        Self::from_all([server])
    }

    /// Each of the servers answers, in turn.
    pub(crate) fn from_all(servers: impl IntoIterator<Item = Host>) -> Self {
        Self { servers: servers.into_iter().collect(), port: None, client: None }
    }

    /// The servers listen on this port.
    pub(crate) fn on_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The servers see an address of this host.
    pub(crate) fn to(mut self, client: Host) -> Self {
        self.client = Some(client);
        self
    }

    /// Whether a reply is one of these.
    pub(crate) fn accept(&self, reply: &Reply) -> bool {
        self.servers.contains(&reply.server)
            && self.port.is_none_or(|port| port == reply.port)
            && self.client.is_none_or(|host| host.has(reply.client.ip()))
    }
}

impl From<Answers> for Expectation {
    fn from(answers: Answers) -> Self {
        Self::Answers(answers)
    }
}

impl From<Refused> for Expectation {
    fn from(_: Refused) -> Self {
        Self::Refused
    }
}

impl From<Silent> for Expectation {
    fn from(_: Silent) -> Self {
        Self::Silence
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Silence => f.write_str("no answer"),
            Self::Answers(answers) => {
                f.write_str("answers from")?;
                for server in &answers.servers {
                    write!(f, " {server}")?;
                }
                if let Some(port) = answers.port {
                    write!(f, " on port {port}")?;
                }
                match answers.client {
                    Some(client) => write!(f, ", which sees {client}"),
                    None => Ok(()),
                }
            }
        }
    }
}
