//! An answer that is large, and costs its size once, however many ask for it.

use std::future::Future;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::query::{AskError, PATIENCE};

/// How many answers are held at a time. While one is being read, others may ask for a newer one.
pub(super) const MOST_ANSWERS: usize = 2;

/// Gives answers to clients: those who ask before an answer is begun share it.
#[derive(Debug)]
pub(super) struct SharedAnswer {
    next: Mutex<Arc<Round>>,
    places: Arc<Semaphore>,
}

/// An answer and all who wait for it.
type Round = OnceCell<Result<Bytes, AskError>>;

impl Default for SharedAnswer {
    fn default() -> Self {
        Self { next: Mutex::default(), places: Arc::new(Semaphore::new(MOST_ANSWERS)) }
    }
}

/// An answer. Its place is free once the last client has read it, or has been cut off.
struct Rendered {
    body: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Rendered {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl SharedAnswer {
    /// An answer that was begun after it was asked for: `ask` and `render` make it, unless those of
    /// another client do.
    pub(super) async fn get<T: Send + 'static>(
        &self,
        ask: impl Future<Output = Result<T, AskError>>,
        render: impl FnOnce(T) -> serde_json::Result<Vec<u8>> + Send + 'static,
    ) -> Result<Bytes, AskError> {
        let round = Arc::clone(&self.next.lock().unwrap_or_else(PoisonError::into_inner));
        let make = async {
            let place = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
            self.begin(&round);
            let place = place.map_err(|_| AskError::Crowded)?.map_err(|_| AskError::Stopping)?;
            let told = ask.await?;
            // At the end of a large cluster this is megabytes; probes are answered meanwhile.
            let rendered = spawn_blocking(move || {
                let body = render(told)?;
                Ok(Bytes::from_owner(Rendered { body, _place: place }))
            });
            let rendered = rendered.await.map_err(|_| AskError::Stopping)?;
            rendered.map_err(|error: serde_json::Error| AskError::Unwritable(error.to_string()))
        };
        round.get_or_init(|| make).await.clone()
    }

    /// Clients that ask from now on wait for the answer after this one.
    fn begin(&self, round: &Arc<Round>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&next, round) {
            mem::take(&mut *next);
        }
    }
}
