//! Watches one resource: a complete list, then its changes, forever.

use std::ops::ControlFlow::{self, Continue};
use std::time::{Duration, Instant};

use kube::core::params::ListParams;
use kube_ipvs_core::model::{Change, Event};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::WatchStep;
use super::answer::{Answer, ResponseError};
use super::client::Clients;
use super::decode::{Parsed, WatchEvent};
use super::object_reader::ObjectReader;
use super::timeouts::{Timeouts, jittered};
use crate::source::wire::Resource;

/// Watches one resource. `Break` means that the receiver is gone.
pub(super) struct Reflector<'a, R: Resource> {
    pub(super) clients: &'a Clients,
    /// The selectors of the objects.
    pub(super) selected: ListParams,
    pub(super) timeouts: &'a Timeouts,
    deliver: &'a dyn Fn(Event) -> ControlFlow<()>,
    note: &'a dyn Fn(&'static str, WatchStep),
    pub(super) reader: ObjectReader<R>,
    /// Waits since the last success.
    waits: u32,
    /// Whether the server may support lists that arrive as a watch.
    pub(super) streams: bool,
    has_listed: bool,
    /// The last reported failure, until a success.
    last_failure: Option<ResponseError>,
}

impl<'a, R: Resource> Reflector<'a, R> {
    pub(super) fn new(
        selected: ListParams,
        clients: &'a Clients,
        timeouts: &'a Timeouts,
        deliver: &'a dyn Fn(Event) -> ControlFlow<()>,
        note: &'a dyn Fn(&'static str, WatchStep),
    ) -> Self {
        Self {
            clients,
            selected,
            timeouts,
            deliver,
            note,
            reader: ObjectReader::new(),
            waits: 0,
            streams: true,
            has_listed: false,
            last_failure: None,
        }
    }

    /// Breaks when the receiver is gone, and never continues.
    pub(super) async fn run(mut self) -> ControlFlow<()> {
        let mut oldest = Some("0".to_owned());
        let mut is_absence_reported = false;
        loop {
            match self.list(oldest.as_deref()).await {
                Ok((values, version, watch)) => {
                    (self.note)(R::KIND, WatchStep::List);
                    self.succeeded();
                    self.has_listed = true;
                    self.deliver(Change::Replace(values))?;
                    // Another server may lag behind.
                    oldest = Some(self.watch(version, watch).await?);
                    sleep(self.back_off()).await;
                }
                Err(failure) if R::IS_OPTIONAL && !self.has_listed && failure.is_absent() => {
                    if !is_absence_reported {
                        is_absence_reported = true;
                        info!("{} objects are left out: {failure}", R::KIND);
                        self.deliver(Change::Replace(Vec::new()))?;
                    }
                    sleep(jittered(self.timeouts.absent_wait)).await;
                }
                Err(failure) => {
                    if failure.is_gone() || failure.is_ahead() {
                        oldest = None;
                    }
                    sleep(self.failed(failure)).await;
                }
            }
        }
    }

    /// Watches with one connection after the other until a new list is needed, which must not be
    /// older than the returned version.
    async fn watch(
        &mut self,
        mut version: String,
        mut watch: Option<Answer>,
    ) -> ControlFlow<(), String> {
        // Consecutive watches without progress: an event is always malformed, or the server is
        // silent because it will never access the version. Only a new list helps then.
        let mut fruitless = 0;
        while fruitless < 2 {
            let began = Instant::now();
            let opened = match watch.take() {
                Some(watch) => Ok(watch),
                None => self.open(&version, false, self.timeouts.silence).await.inspect(|_| {
                    (self.note)(R::KIND, WatchStep::Watch);
                }),
            };
            let from = version.clone();
            let ended = match opened {
                Ok(watch) => self.read(watch, &mut version).await?,
                Err(failure) if failure.is_gone() => break,
                Err(failure) => {
                    fruitless = 0;
                    sleep(self.failed(failure)).await;
                    continue;
                }
            };
            if ended.is_err() {
                (self.note)(R::KIND, WatchStep::Lost);
            }
            if ended.as_ref().is_err_and(ResponseError::is_gone) {
                break;
            }
            let is_stuck = version == from
                && matches!(ended, Err(ResponseError::Silent(_) | ResponseError::Malformed(_)));
            fruitless = if is_stuck { fruitless + 1 } else { 0 };
            // A server or a proxy may accept watches only to end them at once.
            let worked = version != from || began.elapsed() >= self.timeouts.first_wait;
            if worked {
                self.succeeded();
            }
            match ended {
                Ok(()) | Err(ResponseError::Silent(_)) if worked => {}
                Ok(()) | Err(ResponseError::Silent(_)) => sleep(self.back_off()).await,
                Err(failure) => sleep(self.failed(failure)).await,
            }
        }
        Continue(version)
    }

    /// Reads a watch to its end. The server may close it at any time, or stay silent, without even
    /// a bookmark.
    async fn read(
        &mut self,
        mut watch: Answer,
        version: &mut String,
    ) -> ControlFlow<(), Result<(), ResponseError>> {
        loop {
            let next = watch.event::<R>().await;
            if let Ok(Some(_)) = next {
                (self.note)(R::KIND, WatchStep::Event);
            }
            let object = match next {
                Ok(None) => return Continue(Ok(())),
                Ok(Some(WatchEvent::Changed(object))) => {
                    self.change(&object)?;
                    object
                }
                Ok(Some(WatchEvent::Deleted(object))) => {
                    self.reader.forget(object.metadata());
                    self.deliver(Change::Delete(R::key(object.metadata())))?;
                    object
                }
                Ok(Some(WatchEvent::Bookmark(object))) => {
                    self.reader.log();
                    object
                }
                Ok(Some(WatchEvent::Error(status))) => {
                    return Continue(Err(ResponseError::refused(status)));
                }
                Err(failure) => return Continue(Err(failure)),
            };
            let seen = &object.metadata().resource_version;
            if !seen.is_empty() {
                version.clone_from(seen);
            }
        }
    }

    fn change(&mut self, object: &Parsed<R>) -> ControlFlow<()> {
        let metadata = object.metadata();
        match self.reader.value(object) {
            Some(value) => self.deliver(Change::Apply(value)),
            None if metadata.name.is_empty() => Continue(()),
            None => self.deliver(Change::Delete(R::key(metadata))),
        }
    }

    fn deliver(&self, change: Change<R::Key, R::Value>) -> ControlFlow<()> {
        (self.deliver)(R::event(change))
    }

    fn succeeded(&mut self) {
        self.waits = 0;
        if self.last_failure.take().is_some() {
            info!("{} objects are watched again", R::KIND);
        }
    }

    /// Returns the wait before the next attempt.
    fn back_off(&mut self) -> Duration {
        let wait = self.timeouts.backoff(self.waits);
        self.waits = self.waits.saturating_add(1);
        wait
    }

    /// Records a failure and returns the wait before the next attempt.
    fn failed(&mut self, failure: ResponseError) -> Duration {
        (self.note)(R::KIND, WatchStep::Failure);
        let asked = failure.retry_after().unwrap_or_default().min(self.timeouts.longest_retry);
        let wait = self.back_off();
        if self.last_failure.as_ref() == Some(&failure) {
            debug!("{}: {failure}", R::KIND);
        } else {
            warn!("cannot watch {} objects: {failure}; will be retried", R::KIND);
            self.last_failure = Some(failure);
        }
        asked + wait
    }
}
