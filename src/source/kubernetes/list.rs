//! Complete lists of a resource.

use std::time::Duration;

use kube::core::Request;
use kube::core::params::{ListParams, VersionMatch, WatchParams};

use super::Timeouts;
use super::answer::{Answer, ResponseError};
use super::backoff::jittered;
use super::client::Clients;
use super::decode::WatchEvent;
use super::list_reader::ListReader;
use super::resource::Resource;

/// Objects per page of a list that the server reads from its store.
const PAGE: u32 = 500;

/// The required age of a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ResourceVersionMatch {
    /// Any version. The server answers cheaply from its cache.
    Any,
    /// Not older than the last seen version: another server may lag behind.
    NotOlderThan(String),
    /// The latest version, whatever was seen before.
    Latest,
}

impl ResourceVersionMatch {
    fn version(&self) -> &str {
        match self {
            Self::Any => "0",
            Self::NotOlderThan(version) => version,
            Self::Latest => "",
        }
    }
}

pub(super) struct ListResult {
    /// The version from which a watch continues.
    pub(super) version: String,
    /// The watch that delivered the list, if any.
    pub(super) watch: Option<Answer>,
}

/// Lists and watches a resource.
pub(super) struct Collection<'a, R> {
    clients: &'a Clients,
    resource: &'a R,
    timeouts: &'a Timeouts,
}

impl<'a, R: Resource> Collection<'a, R> {
    pub(super) fn new(clients: &'a Clients, resource: &'a R, timeouts: &'a Timeouts) -> Self {
        Self { clients, resource, timeouts }
    }

    /// Lists with a watch that starts with all objects, so that neither side holds the list as one
    /// text (KEP-3157). `None` if the server does not support this.
    pub(super) async fn stream(
        &self,
        freshness: &ResourceVersionMatch,
        found: &mut ListReader<'_, R>,
    ) -> Result<Option<ListResult>, ResponseError> {
        let limit = self.timeouts.silence_in_list;
        let mut watch = match self.open(freshness.version(), true, limit).await {
            Err(failure) if failure.is_misunderstood() => return Ok(None),
            opened => opened?,
        };
        loop {
            let next = match watch.event::<R>().await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(ResponseError::Broken("the list ended early".to_owned())),
                // A server without this feature takes it for a plain watch: it stays silent, or
                // sends a bookmark that does not end a list.
                Err(ResponseError::Silent(_)) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            match next {
                WatchEvent::Changed(object) => found.add(object),
                WatchEvent::Deleted(metadata) => found.remove(&metadata),
                WatchEvent::Bookmark { version, ends_list: true } => {
                    let watch = Some(watch.with_silence_limit(self.timeouts.silence));
                    return Ok(Some(ListResult { version, watch }));
                }
                WatchEvent::Bookmark { ends_list: false, .. } => return Ok(None),
                WatchEvent::Error(failure) => return Err(failure),
            }
        }
    }

    pub(super) async fn list(
        &self,
        freshness: &ResourceVersionMatch,
        found: &mut ListReader<'_, R>,
    ) -> Result<ListResult, ResponseError> {
        let is_latest = *freshness == ResourceVersionMatch::Latest;
        let mut params = ListParams {
            label_selector: self.resource.labels(),
            field_selector: self.resource.fields(),
            // With a limit, the server would bypass its cache.
            limit: is_latest.then_some(PAGE),
            resource_version: (!is_latest).then(|| freshness.version().to_owned()),
            version_match: (!is_latest).then_some(VersionMatch::NotOlderThan),
            ..ListParams::default()
        };
        loop {
            let request = Request::new(R::PATH).list(&params).map_err(invalid_request)?;
            let answer = Answer::to(self.clients, request, self.timeouts.silence).await?;
            let mut page = answer.page::<R>().await?;
            page.objects.into_iter().for_each(|object| found.add(object));
            params.continue_token = page.metadata.take_next();
            if params.continue_token.is_none() {
                return Ok(ListResult { version: page.metadata.resource_version, watch: None });
            }
        }
    }

    pub(super) async fn watch(&self, version: &str) -> Result<Answer, ResponseError> {
        self.open(version, false, self.timeouts.silence).await
    }

    async fn open(
        &self,
        version: &str,
        send_initial_events: bool,
        silence_limit: Duration,
    ) -> Result<Answer, ResponseError> {
        let seconds = jittered(self.timeouts.longest_watch).as_secs().max(1);
        let params = WatchParams {
            label_selector: self.resource.labels(),
            field_selector: self.resource.fields(),
            timeout: u32::try_from(seconds).ok(),
            bookmarks: true,
            send_initial_events,
        };
        let request = Request::new(R::PATH).watch(&params, version).map_err(invalid_request)?;
        Answer::to(self.clients, request, silence_limit).await
    }
}

fn invalid_request(error: kube::core::request::Error) -> ResponseError {
    ResponseError::Broken(error.to_string())
}
