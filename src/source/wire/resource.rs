//! What the kinds of objects have in common.

use std::fmt::Display;

use kube_ipvs_core::model::{Change, Event, Interner};
use prost::Message;
use serde::de::DeserializeOwned;

use super::{Meta, Rejection, Rejections};

/// A kind of objects: its collection in the API, and the conversion of its objects and their changes
/// to the model.
pub trait Resource: DeserializeOwned + Message + Default {
    type Key: Display;
    type Value;

    /// The kind in rejections.
    const KIND: &'static str;
    const PATH: &'static str;
    const IS_NAMESPACED: bool;
    /// Whether an API server may lack the resource or deny access to it.
    const IS_OPTIONAL: bool = false;

    fn metadata(&self) -> &Meta;

    /// Sets defaults that the API server sets before it stores an object.
    fn set_defaults(&mut self) {}

    /// Converts the object; `None` if it is not served. Invalid values are left out and reported.
    fn value(&self, names: &mut Interner, rejections: &mut Rejections<'_>) -> Option<Self::Value>;

    fn convert(&self, names: &mut Interner) -> (Option<Self::Value>, Vec<Rejection>) {
        let mut rejections = Rejections::of::<Self>(self.metadata());
        let value = self.value(names, &mut rejections);
        (value, rejections.finish())
    }

    fn key(metadata: &Meta) -> Self::Key;

    fn event(change: Change<Self::Key, Self::Value>) -> Event;
}
