//! Follows one resource: a complete list, then what changes, for ever.

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

/// Nobody listens any more.
pub(super) struct Closed;

/// How a watch that was going on came to an end.
enum End {
    /// In order: goes on from where it was.
    Closed,
    /// Nothing came for long, not even a bookmark.
    Silent,
    /// The version to go on from is too old: only a new list helps.
    Expired,
    /// Anything else.
    Failed(ResponseError),
}

/// Follows one resource.
pub(super) struct Reflector<'a, R, D, N> {
    resource: &'a R,
    clients: &'a Clients,
    patience: &'a Timeouts,
    deliver: D,
    note: N,
    judge: ObjectReader,
    backoff: Backoff,
    /// Whether the server may know lists that come as a watch.
    streams: bool,
    has_listed: bool,
    /// The failure told last, until something works again.
    trouble: Option<ResponseError>,
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
        patience: &'a Timeouts,
        deliver: D,
        note: N,
    ) -> Self {
        Self {
            resource,
            clients,
            patience,
            deliver,
            note,
            judge: ObjectReader::default(),
            backoff: Backoff::new(patience.first_wait, patience.longest_wait),
            streams: true,
            has_listed: false,
            trouble: None,
        }
    }

    /// Returns when nobody listens any more.
    pub(super) async fn run(mut self) -> Closed {
        let mut freshness = ResourceVersionMatch::Any;
        let mut told_absent = false;
        loop {
            match self.list(&freshness).await {
                Ok((values, listed)) => {
                    (self.note)(R::KIND, WatchRequest::List);
                    self.works();
                    self.has_listed = true;
                    if !(self.deliver)(R::replace(values)) {
                        return Closed;
                    }
                    match self.watch(listed).await {
                        ControlFlow::Break(unheard) => return unheard,
                        ControlFlow::Continue(version) => {
                            freshness = ResourceVersionMatch::NotOlderThan(version);
                            sleep(self.backoff.next()).await;
                        }
                    }
                }
                Err(failure) if R::IS_OPTIONAL && !self.has_listed && failure.is_absent() => {
                    if !told_absent {
                        told_absent = true;
                        info!("{} objects are left out: {failure}", R::KIND);
                        if !(self.deliver)(R::replace(Vec::new())) {
                            return Closed;
                        }
                    }
                    sleep(jittered(self.patience.absent_wait)).await;
                }
                Err(failure) => {
                    if failure.is_gone() || failure.is_ahead() {
                        freshness = ResourceVersionMatch::Latest;
                    }
                    sleep(self.fails(failure)).await;
                }
            }
        }
    }

    /// Gets the complete list. What came of one that broke off is dropped.
    async fn list(
        &mut self,
        freshness: &ResourceVersionMatch,
    ) -> Result<(Vec<R::Value>, ListResult), ResponseError> {
        let collection = Collection::new(self.clients, self.resource, self.patience);
        if self.streams {
            let mut found = self.judge.list();
            if let Some(listed) = collection.stream(freshness, &mut found).await? {
                return Ok((found.finish(), listed));
            }
            debug!("{}: the API server streams no lists", R::KIND);
            self.streams = false;
        }
        let mut found = self.judge.list();
        let listed = collection.list(freshness, &mut found).await?;
        Ok((found.finish(), listed))
    }

    /// Watches, one connection after the other, until a new list is needed: one that is not older
    /// than the version returned.
    async fn watch(&mut self, listed: ListResult) -> ControlFlow<Closed, String> {
        let ListResult { mut version, mut watch } = listed;
        // How often nothing came of it: an event is never understood, or nothing is said to a version
        // that the server will never reach again. Then only a list goes on.
        let mut in_vain = 0;
        loop {
            let (began, from) = (Instant::now(), version.clone());
            let end = match self.hear(watch.take(), &mut version).await {
                ControlFlow::Break(unheard) => return ControlFlow::Break(unheard),
                ControlFlow::Continue(end) => end,
            };
            in_vain = match end {
                End::Silent | End::Failed(ResponseError::Malformed(_)) if version == from => {
                    in_vain + 1
                }
                _ => 0,
            };
            // A server, or something before it, may take watches only to end them at once.
            let worked = version != from || began.elapsed() >= self.patience.first_wait;
            match end {
                End::Expired => return ControlFlow::Continue(version),
                End::Closed | End::Silent if worked => self.works(),
                End::Closed | End::Silent => sleep(self.backoff.next()).await,
                End::Failed(failure) => {
                    if worked {
                        self.works();
                    }
                    sleep(self.fails(failure)).await;
                }
            }
            if in_vain > 1 {
                return ControlFlow::Continue(version);
            }
        }
    }

    /// Hears one connection out.
    async fn hear(
        &mut self,
        watch: Option<Answer>,
        version: &mut String,
    ) -> ControlFlow<Closed, End> {
        let mut watch = match watch {
            Some(watch) => watch,
            None => {
                let collection = Collection::new(self.clients, self.resource, self.patience);
                match collection.watch(version).await {
                    Ok(watch) => {
                        (self.note)(R::KIND, WatchRequest::Watch);
                        watch
                    }
                    Err(failure) if failure.is_gone() => {
                        return ControlFlow::Continue(End::Expired);
                    }
                    Err(failure) => return ControlFlow::Continue(End::Failed(failure)),
                }
            }
        };
        loop {
            let seen = match watch.event::<R>().await {
                Ok(None) => return ControlFlow::Continue(End::Closed),
                Ok(Some(WatchEvent::Changed(parsed))) => {
                    if !self.change(&parsed) {
                        return ControlFlow::Break(Closed);
                    }
                    parsed.metadata::<R>().resource_version.clone()
                }
                Ok(Some(WatchEvent::Deleted(metadata))) => {
                    self.judge.forget(&metadata);
                    if !(self.deliver)(R::delete(&metadata)) {
                        return ControlFlow::Break(Closed);
                    }
                    metadata.resource_version
                }
                Ok(Some(WatchEvent::Bookmark { version, .. })) => {
                    self.judge.tell();
                    version
                }
                Ok(Some(WatchEvent::Error(failure))) | Err(failure) => {
                    return ControlFlow::Continue(End::of(failure));
                }
            };
            if !seen.is_empty() {
                *version = seen;
            }
        }
    }

    /// Tells of an object that is new or has changed. Says whether anybody listens.
    fn change(&mut self, parsed: &Parsed<R::Object>) -> bool {
        let metadata = parsed.metadata::<R>();
        match self.judge.value::<R>(parsed) {
            Some(value) => (self.deliver)(R::apply(value)),
            None if metadata.name.is_empty() => true,
            None => (self.deliver)(R::delete(metadata)),
        }
    }

    fn works(&mut self) {
        self.backoff.reset();
        if self.trouble.take().is_some() {
            info!("{} objects are followed again", R::KIND);
        }
    }

    /// Notes a failure. Returns how long to wait now.
    fn fails(&mut self, failure: ResponseError) -> Duration {
        (self.note)(R::KIND, WatchRequest::Failure);
        let asked = failure.retry_after().unwrap_or_default().min(self.patience.longest_retry);
        let wait = self.backoff.next();
        if self.trouble.as_ref() == Some(&failure) {
            debug!("{}: {failure}", R::KIND);
        } else {
            warn!("cannot follow {} objects: {failure}; will be tried again", R::KIND);
            self.trouble = Some(failure);
        }
        asked + wait
    }
}

impl End {
    fn of(failure: ResponseError) -> Self {
        match failure {
            failure if failure.is_gone() => Self::Expired,
            ResponseError::Silent(_) => Self::Silent,
            failure => Self::Failed(failure),
        }
    }
}
