//! Tells once, not with every list, what cannot be used of an object.

use std::collections::HashMap;

use tracing::{info, warn};

use crate::source::wire::Rejection;

/// What has been told, by object.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    told: HashMap<String, Vec<Rejection>>,
    /// Told before the list that is being read.
    before: HashMap<String, Vec<Rejection>>,
}

impl Complaints {
    /// A list begins: what it does not mention again is forgotten.
    pub(super) fn begin_list(&mut self) {
        self.before.extend(std::mem::take(&mut self.told));
    }

    /// The list is complete.
    pub(super) fn end_list(&mut self) {
        self.before.clear();
    }

    /// Takes down what is wrong with an object now, which may be nothing.
    pub(super) fn update(&mut self, object: &str, rejections: Vec<Rejection>) {
        if self.told.is_empty() && self.before.is_empty() && rejections.is_empty() {
            return;
        }
        let known = self.told.remove(object).or_else(|| self.before.remove(object));
        if rejections.is_empty() {
            if known.is_some() {
                info!("{object}: all of it can be used now");
            }
            return;
        }
        if known.as_ref() != Some(&rejections) {
            for rejection in &rejections {
                warn!("{rejection}");
            }
        }
        self.told.insert(object.to_owned(), rejections);
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, object: &str) {
        self.told.remove(object);
    }
}
