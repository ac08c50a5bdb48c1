//! Complete lists of a resource.

use std::time::Duration;

use kube::core::Request;
use kube::core::params::{ListParams, VersionMatch, WatchParams};
use tracing::debug;

use super::answer::{Answer, ResponseError};
use super::decode::{WatchEvent, ends_list};
use super::reflector::Reflector;
use super::timeouts::jittered;
use crate::source::wire::Resource;

/// Objects per page of a list that the server reads from its store.
const PAGE: u32 = 500;

impl<R: Resource> Reflector<'_, R> {
    /// Reads the complete list, not older than a version: `"0"` stands for any, which the server
    /// answers cheaply from its cache, and `None` for the latest. Returns the values, the version
    /// from which a watch continues, and the watch that delivered the list, if any.
    pub(super) async fn list(
        &mut self,
        oldest: Option<&str>,
    ) -> Result<(Vec<R::Value>, String, Option<Answer>), ResponseError> {
        if self.streams {
            self.reader.begin_list();
            if let Some((version, watch)) = self.stream_list(oldest).await? {
                return Ok((self.reader.end_list(), version, Some(watch)));
            }
            debug!("{}: the API server streams no lists", R::KIND);
            self.streams = false;
        }
        self.reader.begin_list();
        let version = self.page_list(oldest).await?;
        Ok((self.reader.end_list(), version, None))
    }

    /// Lists with a watch that starts with all objects, so that neither side holds the list as one
    /// text (KEP-3157). `None` if the server does not support this.
    async fn stream_list(
        &mut self,
        oldest: Option<&str>,
    ) -> Result<Option<(String, Answer)>, ResponseError> {
        let limit = self.timeouts.silence_in_list;
        let mut watch = match self.open(oldest.unwrap_or_default(), true, limit).await {
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
                WatchEvent::Changed(object) => self.reader.add(&object),
                WatchEvent::Deleted(object) => self.reader.remove(object.metadata()),
                WatchEvent::Bookmark(bookmark) if ends_list(bookmark.metadata()) => {
                    watch.silence_limit = self.timeouts.silence;
                    return Ok(Some((bookmark.metadata().resource_version.clone(), watch)));
                }
                WatchEvent::Bookmark(_) => return Ok(None),
                WatchEvent::Error(status) => return Err(ResponseError::refused(status)),
            }
        }
    }

    async fn page_list(&mut self, oldest: Option<&str>) -> Result<String, ResponseError> {
        let mut params = ListParams {
            // With a limit, the server would bypass its cache.
            limit: oldest.is_none().then_some(PAGE),
            resource_version: oldest.map(str::to_owned),
            version_match: oldest.map(|_| VersionMatch::NotOlderThan),
            ..self.selected.clone()
        };
        loop {
            let request = Request::new(R::PATH).list(&params).map_err(invalid_request)?;
            let answer = Answer::to(self.clients, request, self.timeouts.silence).await?;
            let mut page = answer.page::<R>().await?;
            page.items.into_iter().flatten().for_each(|object| self.reader.add(&object));
            params.continue_token = page.metadata.take_next();
            if params.continue_token.is_none() {
                return Ok(page.metadata.resource_version);
            }
        }
    }

    pub(super) async fn open(
        &self,
        version: &str,
        send_initial_events: bool,
        silence_limit: Duration,
    ) -> Result<Answer, ResponseError> {
        let seconds = jittered(self.timeouts.longest_watch).as_secs().max(1);
        let params = WatchParams {
            label_selector: self.selected.label_selector.clone(),
            field_selector: self.selected.field_selector.clone(),
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
