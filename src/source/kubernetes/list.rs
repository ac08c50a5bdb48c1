//! Complete lists.

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

/// Objects per page of a list that the server must read from its store.
const PAGE: u32 = 500;

/// How old a list may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ResourceVersionMatch {
    /// Whatever the server has at hand. Costs it nothing: its cache answers.
    Any,
    /// Not older than what was seen last: another server may lag behind.
    NotOlderThan(String),
    /// The latest, whatever was seen before.
    Latest,
}

impl ResourceVersionMatch {
    /// The resource version to ask for.
    fn version(&self) -> &str {
        match self {
            Self::Any => "0",
            Self::NotOlderThan(version) => version,
            Self::Latest => "",
        }
    }
}

/// A complete list.
pub(super) struct ListResult {
    /// What a watch goes on from.
    pub(super) version: String,
    /// The watch that the list came with, if it did.
    pub(super) watch: Option<Answer>,
}

/// Where lists and watches of a resource are asked for.
pub(super) struct Collection<'a, R> {
    clients: &'a Clients,
    resource: &'a R,
    patience: &'a Timeouts,
}

impl<'a, R: Resource> Collection<'a, R> {
    pub(super) fn new(clients: &'a Clients, resource: &'a R, patience: &'a Timeouts) -> Self {
        Self { clients, resource, patience }
    }

    /// Lists by a watch that begins with everything there is: neither side ever holds the list as
    /// one text (KEP-3157). `None` if the server does not know such lists.
    pub(super) async fn stream(
        &self,
        freshness: &ResourceVersionMatch,
        found: &mut ListReader<'_, R>,
    ) -> Result<Option<ListResult>, ResponseError> {
        let limit = self.patience.silence_in_list;
        let mut watch = match self.open(freshness.version(), true, limit).await {
            Err(failure) if failure.is_misunderstood() => return Ok(None),
            opened => opened?,
        };
        loop {
            let next = match watch.event::<R>().await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(ResponseError::Broken("the list ended early".to_owned())),
                // A server that has never heard of such lists takes this for a plain watch: it
                // goes on in silence, or with a bookmark that ends no list.
                Err(ResponseError::Silent(_)) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            match next {
                WatchEvent::Changed(object) => found.add(object),
                WatchEvent::Deleted(metadata) => found.remove(&metadata),
                WatchEvent::Bookmark { version, ends_list: true } => {
                    let watch = Some(watch.with_silence_limit(self.patience.silence));
                    return Ok(Some(ListResult { version, watch }));
                }
                WatchEvent::Bookmark { ends_list: false, .. } => return Ok(None),
                WatchEvent::Error(failure) => return Err(failure),
            }
        }
    }

    /// Lists by asking for a list.
    pub(super) async fn list(
        &self,
        freshness: &ResourceVersionMatch,
        found: &mut ListReader<'_, R>,
    ) -> Result<ListResult, ResponseError> {
        let is_latest = *freshness == ResourceVersionMatch::Latest;
        let mut params = ListParams {
            label_selector: self.resource.labels(),
            field_selector: self.resource.fields(),
            // With a limit, the server would pass over its cache.
            limit: is_latest.then_some(PAGE),
            resource_version: (!is_latest).then(|| freshness.version().to_owned()),
            version_match: (!is_latest).then_some(VersionMatch::NotOlderThan),
            ..ListParams::default()
        };
        loop {
            let request = Request::new(R::PATH).list(&params).map_err(unsayable)?;
            let answer = Answer::to(self.clients, request, self.patience.silence).await?;
            let mut page = answer.page::<R>().await?;
            page.objects.into_iter().for_each(|object| found.add(object));
            params.continue_token = page.metadata.take_next();
            if params.continue_token.is_none() {
                return Ok(ListResult { version: page.metadata.resource_version, watch: None });
            }
        }
    }

    /// Watches from a version on.
    pub(super) async fn watch(&self, version: &str) -> Result<Answer, ResponseError> {
        self.open(version, false, self.patience.silence).await
    }

    async fn open(
        &self,
        version: &str,
        send_initial_events: bool,
        silence_limit: Duration,
    ) -> Result<Answer, ResponseError> {
        let seconds = jittered(self.patience.longest_watch).as_secs().max(1);
        let params = WatchParams {
            label_selector: self.resource.labels(),
            field_selector: self.resource.fields(),
            timeout: u32::try_from(seconds).ok(),
            bookmarks: true,
            send_initial_events,
        };
        let request = Request::new(R::PATH).watch(&params, version).map_err(unsayable)?;
        Answer::to(self.clients, request, silence_limit).await
    }
}

fn unsayable(error: kube::core::request::Error) -> ResponseError {
    ResponseError::Broken(error.to_string())
}
