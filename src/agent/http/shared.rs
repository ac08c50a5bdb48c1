//! Large answers that several clients share.

use std::future::Future;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::query::{AskError, QUERY_TIMEOUT};

/// The number of answers in memory. While clients read one, others may request a newer one.
pub(super) const MOST_ANSWERS: usize = 2;

/// Bounds the large answers that are in memory or under way.
#[derive(Clone, Debug)]
pub(super) struct AnswerPlaces(Arc<Semaphore>);

impl Default for AnswerPlaces {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_ANSWERS)))
    }
}

impl AnswerPlaces {
    /// Waits for a place.
    pub(super) async fn take(&self) -> Result<AnswerPlace, AskError> {
        let permit = timeout(QUERY_TIMEOUT, Arc::clone(&self.0).acquire_owned()).await;
        let permit = permit.map_err(|_| AskError::Crowded)?.map_err(|_| AskError::Stopping)?;
        Ok(AnswerPlace { _permit: permit.into() })
    }
}

/// A place among the answers. It is free once its last clone is dropped.
#[derive(Clone, Debug)]
pub(super) struct AnswerPlace {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl AnswerPlace {
    /// Does what takes long or blocks, such as reading the kernel. The place is taken until the end of
    /// it, even if the client is gone before: it cannot be stopped.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AskError> {
        let place = self.clone();
        let read = spawn_blocking(move || {
            let _place = place;
            read()
        });
        read.await.map_err(|_| AskError::Stopping)
    }

    /// Returns an answer. It keeps the place until the last client has read it or is disconnected.
    pub(super) async fn render(
        self,
        render: impl FnOnce() -> serde_json::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Bytes, AskError> {
        // The answer of a large cluster has megabytes; probes are answered meanwhile.
        let body = self.read(render).await?;
        let body = body.map_err(|error| AskError::Unwritable(error.to_string()))?;
        Ok(Bytes::from_owner(Rendered { body, _place: self }))
    }
}

struct Rendered {
    body: Vec<u8>,
    _place: AnswerPlace,
}

impl AsRef<[u8]> for Rendered {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Shares an answer among the clients that ask before it is begun.
#[derive(Debug, Default)]
pub(super) struct SharedAnswer {
    /// The answer for all clients of the next round.
    next: Mutex<Arc<OnceCell<Result<Bytes, AskError>>>>,
    pub(super) places: AnswerPlaces,
}

impl SharedAnswer {
    /// Returns an answer that was begun after the call. `make` produces it unless another client's does.
    pub(super) async fn get<Made: Future<Output = Result<Bytes, AskError>>>(
        &self,
        make: impl FnOnce(AnswerPlace) -> Made,
    ) -> Result<Bytes, AskError> {
        let round = Arc::clone(&self.next.lock().unwrap_or_else(PoisonError::into_inner));
        let make = async {
            let place = self.places.take().await;
            self.begin(&round);
            make(place?).await
        };
        round.get_or_init(|| make).await.clone()
    }

    /// Later clients wait for the next answer.
    fn begin(&self, round: &Arc<OnceCell<Result<Bytes, AskError>>>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&next, round) {
            mem::take(&mut *next);
        }
    }
}
