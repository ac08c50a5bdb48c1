//! Bodies: of one piece, of a watch, and broken off.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::answer::failure;
use super::protobuf::Form;
use super::selector::Selector;
use super::state::{Shared, State};
use super::store::Entry;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

pub fn body(text: Bytes) -> Body {
    Full::new(text).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// The body, counted as it is sent.
pub fn counted(body: Body, shared: Arc<Shared>) -> Body {
    let count = move |frame: Frame<Bytes>| {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        shared.note(|state| state.sent += bytes);
        frame
    };
    body.map_frame(count).boxed_unsync()
}

/// The body up to a length; there the connection breaks.
pub fn cut(body: Body, limit: usize) -> Body {
    let frames =
        stream::unfold((BodyStream::new(body), Some(limit)), |(mut body, left)| async move {
            let Some(left) = left else {
                // What came before must be under way: a server that fails drops what it has not sent.
                sleep(Duration::from_millis(10)).await;
                return Some((Err(io::Error::other("cut")), (body, None)));
            };
            let data = body.next().await?.ok()?.into_data().ok()?;
            let rest = (data.len() < left).then(|| left - data.len());
            let data = data.slice(..data.len().min(left));
            Some((Ok(Frame::data(data)), (body, rest)))
        });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// A watch.
pub struct Watch {
    pub form: Form,
    pub path: String,
    pub selector: Selector,
    /// What the client has seen.
    pub version: u64,
    /// Whether it is told everything there is first,
    pub begins_with_all: bool,
    /// and that this was all.
    pub ends_list: bool,
    pub is_gone: bool,
    pub has_bookmarks: bool,
    pub seconds: u64,
}

impl Watch {
    pub fn body(self, shared: Arc<Shared>) -> Body {
        let changes = shared.changes();
        let until = Instant::now() + Duration::from_secs(self.seconds);
        let (position, lines) = shared.note(|state| {
            *state.watches.entry(self.path.clone()).or_default() += 1;
            self.begin(state)
        });
        let ends = self.is_gone;
        let open = Open { watch: self, shared, changes, position, lines, ends, until };
        let frames = stream::unfold(open, |mut open| async move {
            let line = open.next().await?;
            Some((Ok(Frame::data(open.watch.form.event(&line).into())), open))
        });
        BodyExt::boxed_unsync(StreamBody::new(frames))
    }

    /// What is told first, and where it goes on.
    fn begin(&self, state: &State) -> (usize, VecDeque<Value>) {
        let store = &state.store;
        if self.is_gone {
            let status = failure(410, "Expired", "too old resource version");
            return (store.end(), [json!({ "type": "ERROR", "object": status })].into());
        }
        if !self.begins_with_all {
            return (store.position_after(self.version), VecDeque::new());
        }
        let all = store.all(&self.path).into_iter().filter(|object| self.selector.matches(object));
        let mut lines: VecDeque<_> =
            all.map(|object| json!({ "type": "ADDED", "object": object })).collect();
        if self.ends_list {
            let mut bookmark = bookmark(store.version());
            bookmark["object"]["metadata"]["annotations"] =
                json!({ "k8s.io/initial-events-end": "true" });
            lines.push_back(bookmark);
        }
        (store.end(), lines)
    }

    /// What an entry says to this watch. An object that begins or ceases to match is told as one
    /// that was added or deleted.
    fn line(&self, entry: &Entry) -> Option<Value> {
        match entry {
            Entry::Change { collection, .. } if *collection != self.path => None,
            // As in the real server, even a version that it never had: nothing up to it is told.
            Entry::Change { version, .. } | Entry::Bookmark { version }
                if *version <= self.version =>
            {
                None
            }
            Entry::Change { version, old, new, .. } => {
                let matching = |object: &Option<Value>| {
                    object.clone().filter(|object| self.selector.matches(object))
                };
                match (matching(old), matching(new)) {
                    (None, None) => None,
                    (None, Some(new)) => Some(json!({ "type": "ADDED", "object": new })),
                    (Some(_), Some(new)) => Some(json!({ "type": "MODIFIED", "object": new })),
                    (Some(mut old), None) => {
                        // A deletion is a version of its own.
                        if let Some(Value::Object(metadata)) = old.get_mut("metadata") {
                            metadata
                                .insert("resourceVersion".to_owned(), version.to_string().into());
                        }
                        Some(json!({ "type": "DELETED", "object": old }))
                    }
                }
            }
            Entry::Bookmark { version } => self.has_bookmarks.then(|| bookmark(*version)),
            Entry::Failure { code, message } => {
                let status = failure(*code, "Failure", message);
                Some(json!({ "type": "ERROR", "object": status }))
            }
        }
    }
}

fn bookmark(version: u64) -> Value {
    let metadata = json!({ "resourceVersion": version.to_string(), "creationTimestamp": null });
    json!({ "type": "BOOKMARK", "object": { "kind": "Any", "apiVersion": "v1", "metadata": metadata } })
}

/// A watch that goes on.
struct Open {
    watch: Watch,
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    position: usize,
    lines: VecDeque<Value>,
    /// Whether nothing comes after the lines.
    ends: bool,
    until: Instant,
}

impl Open {
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            let is_ended =
                self.shared.read(|state| state.faults.ended.as_ref() == Some(&self.watch.path));
            if self.ends || is_ended {
                return None;
            }
            self.changes.borrow_and_update();
            let (told, position) = self.shared.read(|state| {
                let entries = state.store.entries_from(self.position);
                (entries.to_vec(), self.position + entries.len())
            });
            self.position = position;
            for entry in &told {
                self.lines.extend(self.watch.line(entry));
                if matches!(entry, Entry::Failure { .. }) {
                    self.ends = true;
                    break;
                }
            }
            if self.lines.is_empty() {
                timeout_at(self.until, self.changes.changed()).await.ok()?.ok()?;
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.note(|state| {
            if let Some(count) = state.watches.get_mut(&self.watch.path) {
                *count -= 1;
            }
        });
    }
}
