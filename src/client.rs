//! A blocking client of the agent that runs on this node, for the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use kube_ipvs_core::question::ConnectionQuestion;
use serde::de::DeserializeOwned;

use crate::agent::api::{
    ConnectionsQuestion, ConnectionsView, ExplainView, NameView, StatusQuestion, StatusView,
};
use crate::agent::http::{connections_path, explain_path, names_path, status_path};
use crate::answer::{LARGEST_ANSWER, LONGEST_ANSWER, split};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the agent lets a question wait.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no answer of the agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(
        "no agent answers at {address}: {source}; is it running, and is this its \
         metricsBindAddress?"
    )]
    Connect { address: SocketAddr, source: io::Error },
    #[error("the agent at {address} does not answer: {source}; see its log")]
    Read { address: SocketAddr, source: io::Error },
    #[error("the agent at {address} answers with status {status}: {message}")]
    Refused { address: SocketAddr, status: u16, message: String },
    /// What answered is not the agent, or an agent of a very different version.
    #[error(
        "what answers at {address} is not this agent: {reason}; is this its metricsBindAddress?"
    )]
    NotOurs { address: SocketAddr, reason: String },
}

/// The running agent, as found at its metrics address.
#[derive(Clone, Copy, Debug)]
pub struct AgentClient {
    address: SocketAddr,
}

impl AgentClient {
    /// The agent that binds its metrics to `address`. An agent that binds to all addresses is asked
    /// at the loopback address.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self { address: SocketAddr::new(ip, address.port()) }
    }

    /// # Errors
    ///
    /// If the agent does not run there or cannot answer.
    pub fn status(&self, question: &StatusQuestion) -> Result<StatusView, AgentError> {
        self.get_json(&status_path(question))
    }

    /// # Errors
    ///
    /// If the agent does not run there, cannot answer, or does not serve the Service.
    pub fn connections(
        &self,
        question: &ConnectionsQuestion,
    ) -> Result<ConnectionsView, AgentError> {
        self.get_json(&connections_path(question))
    }

    /// # Errors
    ///
    /// If the agent does not run there, cannot answer, or does not know a name in the question.
    pub fn explain(&self, question: &ConnectionQuestion) -> Result<Vec<ExplainView>, AgentError> {
        let path = explain_path(question);
        if question.is_one() { Ok(vec![self.get_json(&path)?]) } else { self.get_json(&path) }
    }

    /// Returns the names of the pods at these addresses, and of the agent's node.
    ///
    /// # Errors
    ///
    /// If the agent does not run there or cannot answer.
    pub fn names(
        &self,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<BTreeMap<IpAddr, NameView>, AgentError> {
        self.get_json(&names_path(addresses))
    }

    /// The body of the answer to a path.
    ///
    /// # Errors
    ///
    /// If the agent does not run there, or answers with another status than 200.
    pub fn get(&self, path: &str) -> Result<Vec<u8>, AgentError> {
        let address = self.address;
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
            .map_err(|source| AgentError::Connect { address, source })?;
        let answer = exchange(stream, address, path)
            .map_err(|source| AgentError::Read { address, source })?;
        let not_ours = || AgentError::NotOurs { address, reason: "not an HTTP answer".to_owned() };
        let (status, body) = split(&answer).ok_or_else(not_ours)?;
        match status {
            200 => Ok(body.to_vec()),
            _ => {
                let message = String::from_utf8_lossy(body).trim().to_owned();
                Err(AgentError::Refused { address, status, message })
            }
        }
    }

    fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, AgentError> {
        let body = self.get(path)?;
        serde_json::from_slice(&body).map_err(|error| AgentError::NotOurs {
            address: self.address,
            reason: error.to_string(),
        })
    }
}

/// Asks in HTTP/1.0, whose answers come whole and end with the connection.
fn exchange(mut stream: TcpStream, address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    read_within(&mut stream, READ_TIMEOUT, LONGEST_ANSWER)
}

/// Reads until the connection ends: each part within `each`, the whole within `all`.
fn read_within(stream: &mut TcpStream, each: Duration, all: Duration) -> io::Result<Vec<u8>> {
    let end = Instant::now() + all;
    let mut answer = Vec::new();
    let mut part = vec![0; 64 << 10];
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        if rest.is_zero() || answer.len() > LARGEST_ANSWER {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(rest.min(each)))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(answer),
            Ok(length) => answer.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_that_never_ends_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let dripping = thread::spawn(move || {
            while server.write_all(b".").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let (each, all) = (Duration::from_secs(10), Duration::from_millis(100));
        let error = read_within(&mut stream, each, all).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
        drop(stream);
        dripping.join().unwrap();
    }

    #[test]
    fn all_addresses_are_asked_at_loopback() {
        let asked = |address: &str| {
            address.parse().map(|address| AgentClient::new(address).address.to_string())
        };
        assert_eq!(asked("0.0.0.0:10249").as_deref(), Ok("127.0.0.1:10249"));
        assert_eq!(asked("[::]:10249").as_deref(), Ok("[::1]:10249"));
        assert_eq!(asked("10.0.0.1:9").as_deref(), Ok("10.0.0.1:9"));
    }
}
