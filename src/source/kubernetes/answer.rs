//! One request to the API server and its answer, as a whole or line by line.

use std::time::Duration;

use http::Request;
use http::header::RETRY_AFTER;
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::core::Status;
use tokio::time::timeout;

use super::client::Clients;

/// The longest message of a refusal that is read.
const LONGEST_REFUSAL: usize = 64 << 10;
/// Longest line of a watch, in bytes: many times the largest object that etcd takes. What is longer
/// comes from no API server, and might never end.
const LONGEST_LINE: usize = 32 << 20;

/// Why a request came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server says no.
    #[error("the API server refuses ({code}): {message}")]
    Refused {
        /// HTTP status code.
        code: u16,
        /// Why.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// There is no connection, or it broke.
    #[error("{0}")]
    Broken(String),
    /// The server has said nothing for that long.
    #[error("the API server has been silent for {0:?}")]
    Silent(Duration),
    /// What came is not what the Kubernetes API answers.
    #[error("the answer is not understood: {0}")]
    Malformed(String),
}

impl Failure {
    pub(super) fn refused(status: Status) -> Self {
        let seconds = status.details.map_or(0, |details| details.retry_after_seconds);
        let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        Self::Refused { code: status.code, message: status.message, retry_after }
    }

    /// How long the server wants to be left alone, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Broken(_) | Self::Silent(_) | Self::Malformed(_) => None,
        }
    }

    /// The resource version asked for is too old to go on from.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { code: 410, .. })
    }

    /// The server does not have the resource version yet, and may never have it: its data may
    /// have been restored from a backup.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(self, Self::Refused { code: 504, .. })
    }

    /// The server does not know such a resource, or does not let us read it.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { code: 403 | 404, .. })
    }

    /// The server does not understand the request.
    pub(super) fn is_misunderstood(&self) -> bool {
        matches!(self, Self::Refused { code: 400 | 405 | 422, .. })
    }
}

/// An answer of which the head has come.
pub(super) struct Answer {
    body: Body,
    silence_limit: Duration,
    /// What has come of the body and is not done with.
    buffer: Vec<u8>,
    /// How many bytes of the buffer have been handed out as lines.
    taken: usize,
}

impl Answer {
    /// Sends a request. No part of the answer may be longer in coming than `silence_limit`.
    pub(super) async fn to(
        clients: &Clients,
        request: Request<Vec<u8>>,
        silence_limit: Duration,
    ) -> Result<Self, Failure> {
        let answer = timeout(silence_limit, clients.send(request.map(Body::from)))
            .await
            .map_err(|_| Failure::Silent(silence_limit))?
            .map_err(|error| Failure::Broken(chain(&error)))?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(Self { body, silence_limit, buffer: Vec::new(), taken: 0 });
        }
        let refusal = timeout(silence_limit, Limited::new(body, LONGEST_REFUSAL).collect()).await;
        let text = refusal.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let text = text.unwrap_or_default();
        let message = serde_json::from_slice::<Status>(&text).map_or_else(
            |_| String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned(),
            |status| status.message,
        );
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|seconds| seconds.trim().parse().ok());
        Err(Failure::Refused {
            code: head.status.as_u16(),
            message,
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    /// The whole body.
    pub(super) async fn whole(mut self) -> Result<Vec<u8>, Failure> {
        while self.read().await? {}
        Ok(self.buffer)
    }

    /// The next line, `None` at the end. A last line without its line break was cut off: it is
    /// left out.
    pub(super) async fn line(&mut self) -> Result<Option<&[u8]>, Failure> {
        let mut searched = self.taken;
        loop {
            let rest = self.buffer.get(searched..).unwrap_or_default();
            if let Some(found) = memchr::memchr(b'\n', rest) {
                let end = searched + found;
                let start = std::mem::replace(&mut self.taken, end + 1);
                return Ok(self.buffer.get(start..end));
            }
            // Moved once per read, not once per line: a proxy may deliver thousands of lines together.
            self.buffer.drain(..self.taken);
            self.taken = 0;
            searched = self.buffer.len();
            if searched > LONGEST_LINE {
                let told = format!("a line of more than {LONGEST_LINE} bytes");
                return Err(Failure::Malformed(told));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Reads on. Says whether anything came before the end.
    async fn read(&mut self) -> Result<bool, Failure> {
        let frame = timeout(self.silence_limit, self.body.frame())
            .await
            .map_err(|_| Failure::Silent(self.silence_limit))?;
        match frame {
            None => Ok(false),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.buffer.extend_from_slice(data);
                }
                Ok(true)
            }
            Some(Err(error)) => Err(Failure::Broken(chain(&error))),
        }
    }

    /// The same answer, with another limit.
    pub(super) fn with_silence_limit(self, silence_limit: Duration) -> Self {
        Self { silence_limit, ..self }
    }
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
