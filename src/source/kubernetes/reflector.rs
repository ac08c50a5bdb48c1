//! Watches one resource: a complete list, then its changes, forever.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use kube_ipvs_core::model::Event;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::answer::{Answer, ResponseError};
use super::backoff::{Backoff, jittered};
use super::client::Clients;
use super::decode::{Parsed, WatchEvent};
use super::list::{Collection, ListResult, ResourceVersionMatch};
use super::list_reader::ObjectReader;
use super::resource::Resource;
use super::{Timeouts, WatchRequest};

/// The receiver is gone.
pub(super) struct Closed;

/// The end of an established watch.
enum WatchEnd {
    /// The server closed it: continue from the last version.
    Closed,
    /// The server was silent, without even a bookmark.
    Silent,
    /// The version is too old: a new list is needed.
    Expired,
    Failed(ResponseError),
}

/// Watches one resource.
pub(super) struct Reflector<'a, R, D, N> {
    resource: &'a R,
    clients: &'a Clients,
    timeouts: &'a Timeouts,
    deliver: D,
    note: N,
    reader: ObjectReader,
    backoff: Backoff,
    /// Whether the server may support lists that arrive as a watch.
    streams: bool,
    has_listed: bool,
    /// The last reported failure, until a success.
    last_failure: Option<ResponseError>,
}

impl<'a, R, D, N> Reflector<'a, R, D, N>
where
    R: Resource,
    D: Fn(Event) -> bool,
    N: Fn(&'static str, WatchRequest),
{
    pub(super) fn new(
        resource: &'a R,
        clients: &'a Clients,
        timeouts: &'a Timeouts,
        deliver: D,
        note: N,
    ) -> Self {
        Self {
            resource,
            clients,
            timeouts,
            deliver,
            note,
            reader: ObjectReader::default(),
            backoff: Backoff::new(timeouts.first_wait, timeouts.longest_wait),
            streams: true,
            has_listed: false,
            last_failure: None,
        }
    }

    /// Returns when the receiver is gone.
    pub(super) async fn run(mut self) -> Closed {
        let mut freshness = ResourceVersionMatch::Any;
        let mut is_absence_reported = false;
        loop {
            match self.list(&freshness).await {
                Ok((values, listed)) => {
                    (self.note)(R::KIND, WatchRequest::List);
                    self.succeeded();
                    self.has_listed = true;
                    if !(self.deliver)(R::replace(values)) {
                        return Closed;
                    }
                    match self.watch(listed).await {
                        ControlFlow::Break(closed) => return closed,
                        ControlFlow::Continue(version) => {
                            freshness = ResourceVersionMatch::NotOlderThan(version);
                            sleep(self.backoff.next()).await;
                        }
                    }
                }
                Err(failure) if R::IS_OPTIONAL && !self.has_listed && failure.is_absent() => {
                    if !is_absence_reported {
                        is_absence_reported = true;
                        info!("{} objects are left out: {failure}", R::KIND);
                        if !(self.deliver)(R::replace(Vec::new())) {
                            return Closed;
                        }
                    }
                    sleep(jittered(self.timeouts.absent_wait)).await;
                }
                Err(failure) => {
                    if failure.is_gone() || failure.is_ahead() {
                        freshness = ResourceVersionMatch::Latest;
                    }
                    sleep(self.failed(failure)).await;
                }
            }
        }
    }

    /// Reads the complete list. The objects of an interrupted list are dropped.
    async fn list(
        &mut self,
        freshness: &ResourceVersionMatch,
    ) -> Result<(Vec<R::Value>, ListResult), ResponseError> {
        let collection = Collection::new(self.clients, self.resource, self.timeouts);
        if self.streams {
            let mut found = self.reader.list();
            if let Some(listed) = collection.stream(freshness, &mut found).await? {
                return Ok((found.finish(), listed));
            }
            debug!("{}: the API server streams no lists", R::KIND);
            self.streams = false;
        }
        let mut found = self.reader.list();
        let listed = collection.list(freshness, &mut found).await?;
        Ok((found.finish(), listed))
    }

    /// Watches with one connection after the other until a new list is needed, which must not be
    /// older than the returned version.
    async fn watch(&mut self, listed: ListResult) -> ControlFlow<Closed, String> {
        let ListResult { mut version, mut watch } = listed;
        // Consecutive watches without progress: an event is always malformed, or the server is
        // silent because it will never access the version. Only a new list helps then.
        let mut fruitless = 0;
        loop {
            let (began, from) = (Instant::now(), version.clone());
            let end = match self.read_watch(watch.take(), &mut version).await {
                ControlFlow::Break(closed) => return ControlFlow::Break(closed),
                ControlFlow::Continue(end) => end,
            };
            fruitless = match end {
                WatchEnd::Silent | WatchEnd::Failed(ResponseError::Malformed(_))
                    if version == from =>
                {
                    fruitless + 1
                }
                _ => 0,
            };
            // A server or a proxy may accept watches only to end them at once.
            let worked = version != from || began.elapsed() >= self.timeouts.first_wait;
            match end {
                WatchEnd::Expired => return ControlFlow::Continue(version),
                WatchEnd::Closed | WatchEnd::Silent if worked => self.succeeded(),
                WatchEnd::Closed | WatchEnd::Silent => sleep(self.backoff.next()).await,
                WatchEnd::Failed(failure) => {
                    if worked {
                        self.succeeded();
                    }
                    sleep(self.failed(failure)).await;
                }
            }
            if fruitless > 1 {
                return ControlFlow::Continue(version);
            }
        }
    }

    /// Reads one connection to its end.
    async fn read_watch(
        &mut self,
        watch: Option<Answer>,
        version: &mut String,
    ) -> ControlFlow<Closed, WatchEnd> {
        let mut watch = match watch {
            Some(watch) => watch,
            None => {
                let collection = Collection::new(self.clients, self.resource, self.timeouts);
                match collection.watch(version).await {
                    Ok(watch) => {
                        (self.note)(R::KIND, WatchRequest::Watch);
                        watch
                    }
                    Err(failure) if failure.is_gone() => {
                        return ControlFlow::Continue(WatchEnd::Expired);
                    }
                    Err(failure) => return ControlFlow::Continue(WatchEnd::Failed(failure)),
                }
            }
        };
        loop {
            let seen = match watch.event::<R>().await {
                Ok(None) => return ControlFlow::Continue(WatchEnd::Closed),
                Ok(Some(WatchEvent::Changed(parsed))) => {
                    if !self.change(&parsed) {
                        return ControlFlow::Break(Closed);
                    }
                    parsed.metadata::<R>().resource_version.clone()
                }
                Ok(Some(WatchEvent::Deleted(metadata))) => {
                    self.reader.forget(&metadata);
                    if !(self.deliver)(R::delete(&metadata)) {
                        return ControlFlow::Break(Closed);
                    }
                    metadata.resource_version
                }
                Ok(Some(WatchEvent::Bookmark { version, .. })) => {
                    self.reader.log();
                    version
                }
                Ok(Some(WatchEvent::Error(failure))) | Err(failure) => {
                    return ControlFlow::Continue(WatchEnd::of(failure));
                }
            };
            if !seen.is_empty() {
                *version = seen;
            }
        }
    }

    /// Delivers a new or changed object. Returns false if the receiver is gone.
    fn change(&mut self, parsed: &Parsed<R::Object>) -> bool {
        let metadata = parsed.metadata::<R>();
        match self.reader.value::<R>(parsed) {
            Some(value) => (self.deliver)(R::apply(value)),
            None if metadata.name.is_empty() => true,
            None => (self.deliver)(R::delete(metadata)),
        }
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        if self.last_failure.take().is_some() {
            info!("{} objects are watched again", R::KIND);
        }
    }

    /// Records a failure and returns the wait before the next attempt.
    fn failed(&mut self, failure: ResponseError) -> Duration {
        (self.note)(R::KIND, WatchRequest::Failure);
        let asked = failure.retry_after().unwrap_or_default().min(self.timeouts.longest_retry);
        let wait = self.backoff.next();
        if self.last_failure.as_ref() == Some(&failure) {
            debug!("{}: {failure}", R::KIND);
        } else {
            warn!("cannot watch {} objects: {failure}; will be retried", R::KIND);
            self.last_failure = Some(failure);
        }
        asked + wait
    }
}

impl WatchEnd {
    fn of(failure: ResponseError) -> Self {
        match failure {
            failure if failure.is_gone() => Self::Expired,
            ResponseError::Silent(_) => Self::Silent,
            failure => Self::Failed(failure),
        }
    }
}
