//! Requests to the API server and their answers, as a whole or event by event.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{ACCEPT, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use tokio::time::timeout;

use super::client::Clients;
use super::connect_error::reason;
use super::decode::{Encoding, Page, Parsed, WatchEvent};
use crate::source::wire::{ApiStatus, Resource};

/// The longest message of a rejection, in bytes.
const LONGEST_REFUSAL: usize = 64 << 10;
/// The longest event of a watch, in bytes: many times the largest object in etcd. No API server
/// sends a longer event, and it might never end.
const LONGEST_EVENT: usize = 32 << 20;
/// The bytes of a frame's length: big-endian, without itself (`util/framer` of apimachinery).
const FRAME_HEAD: usize = 4;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum ResponseError {
    #[error("the API server refuses ({code}): {message}")]
    Refused {
        code: u16,
        message: String,
        /// The wait that the server asks for.
        retry_after: Option<Duration>,
    },
    /// The connection failed or broke.
    #[error("{0}")]
    Broken(String),
    #[error("the API server has been silent for {0:?}")]
    Silent(Duration),
    /// The answer does not conform to the Kubernetes API.
    #[error("invalid answer: {0}")]
    Malformed(String),
}

impl ResponseError {
    pub(super) fn refused(status: ApiStatus) -> Self {
        let retry_after = status.retry_after_seconds();
        Self::Refused {
            code: u16::try_from(status.code).unwrap_or_default(),
            message: status.message,
            retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Broken(_) | Self::Silent(_) | Self::Malformed(_) => None,
        }
    }

    /// Returns whether the requested resource version is too old.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { code: 410, .. })
    }

    /// Returns whether the server does not have the resource version yet. It may never have it, if
    /// its data was restored from a backup.
    pub(super) fn is_ahead(&self) -> bool {
        matches!(self, Self::Refused { code: 504, .. })
    }

    /// Returns whether the server does not have the resource or denies access to it.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { code: 403 | 404, .. })
    }

    /// Returns whether the server does not support the request.
    pub(super) fn is_misunderstood(&self) -> bool {
        matches!(self, Self::Refused { code: 400 | 405 | 422, .. })
    }
}

pub(super) struct Answer {
    encoding: Encoding,
    body: Body,
    pub(super) silence_limit: Duration,
    /// The received bytes that are not processed yet.
    buffer: BytesMut,
}

impl Answer {
    /// Sends a request. No part of the answer may take longer than `silence_limit`.
    pub(super) async fn to(
        clients: &Clients,
        request: Request<Vec<u8>>,
        silence_limit: Duration,
    ) -> Result<Self, ResponseError> {
        let mut answer = sent(clients, request.clone(), Encoding::ACCEPTED, silence_limit).await?;
        if matches!(
            answer.status(),
            StatusCode::NOT_ACCEPTABLE | StatusCode::UNSUPPORTED_MEDIA_TYPE
        ) {
            answer = sent(clients, request, Encoding::ACCEPTED_AT_LEAST, silence_limit).await?;
        }
        let (head, body) = answer.into_parts();
        let encoding = Encoding::of(&head.headers);
        if head.status.is_success() {
            return Ok(Self { encoding, body, silence_limit, buffer: BytesMut::new() });
        }
        let refusal = timeout(silence_limit, Limited::new(body, LONGEST_REFUSAL).collect()).await;
        let text = refusal.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let text = text.unwrap_or_default();
        let message = encoding.status(text.clone()).map_or_else(
            |_| String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned(),
            |status| status.message,
        );
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|seconds| seconds.trim().parse().ok());
        Err(ResponseError::Refused {
            code: head.status.as_u16(),
            message,
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    pub(super) async fn page<R: Resource>(mut self) -> Result<Page<Parsed<R>>, ResponseError> {
        while self.read().await? {}
        self.encoding.page(self.buffer.freeze())
    }

    /// Reads the next event of a watch; `None` at the end. An incomplete last event is dropped.
    pub(super) async fn event<R: Resource>(
        &mut self,
    ) -> Result<Option<WatchEvent<Parsed<R>>>, ResponseError> {
        let mut searched = 0;
        loop {
            let next = match self.encoding {
                Encoding::Json => self.line(&mut searched),
                Encoding::Protobuf => self.frame()?,
            };
            if let Some(text) = next {
                return self.encoding.event(text).map(Some);
            }
            within_limit(self.buffer.len())?;
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Takes a complete line, without its line break.
    fn line(&mut self, searched: &mut usize) -> Option<Bytes> {
        let rest = self.buffer.get(*searched..).unwrap_or_default();
        let Some(found) = memchr::memchr(b'\n', rest) else {
            *searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(*searched + found).freeze();
        self.buffer.advance(1);
        Some(line)
    }

    /// Takes a complete frame, without its length.
    fn frame(&mut self) -> Result<Option<Bytes>, ResponseError> {
        let Some(length) = self.buffer.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        within_limit(length)?;
        if self.buffer.len() < FRAME_HEAD + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEAD);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Reads more of the body. Returns false at the end.
    async fn read(&mut self) -> Result<bool, ResponseError> {
        let frame = timeout(self.silence_limit, self.body.frame())
            .await
            .map_err(|_| ResponseError::Silent(self.silence_limit))?;
        match frame {
            None => Ok(false),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.buffer.extend_from_slice(data);
                }
                Ok(true)
            }
            Some(Err(error)) => Err(ResponseError::Broken(reason(&error))),
        }
    }
}

async fn sent(
    clients: &Clients,
    mut request: Request<Vec<u8>>,
    accepted: &'static str,
    silence_limit: Duration,
) -> Result<Response<Body>, ResponseError> {
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static(accepted));
    let sent = clients.send(request.map(Body::from), silence_limit).await;
    sent.map_err(|_| ResponseError::Silent(silence_limit))?
        .map_err(|error| ResponseError::Broken(reason(&error)))
}

fn within_limit(length: usize) -> Result<(), ResponseError> {
    if length > LONGEST_EVENT {
        let reason = format!("an event of more than {LONGEST_EVENT} bytes");
        return Err(ResponseError::Malformed(reason));
    }
    Ok(())
}
