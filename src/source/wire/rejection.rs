//! The invalid parts of an object.

use std::fmt;

use kube_ipvs_core::model::cut;

use super::{Meta, Resource};

/// The number of rejections per object in the log; the others are counted. An object of a megabyte
/// could have as many as it has bytes.
const MOST: usize = 5;
/// The longest text in a rejection, in bytes: it may contain a value as long as the object.
const LONGEST: usize = 300;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rejection {
    /// `Kind namespace/name`, or the file and document.
    pub object: String,
    /// The path of the field; empty for the whole object.
    pub field: String,
    /// The problem and its consequence.
    pub reason: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, field, reason } = self;
        if field.is_empty() {
            write!(f, "{object}: {reason}")
        } else {
            write!(f, "{object}: {field}: {reason}")
        }
    }
}

/// Collects the rejections of one object. Most objects have none, so nothing is formatted before
/// the first.
#[derive(Debug)]
pub struct Rejections<'a> {
    kind: &'static str,
    /// Empty if the kind has none.
    namespace: &'a str,
    name: &'a str,
    all: Vec<Rejection>,
    more: usize,
}

impl<'a> Rejections<'a> {
    #[must_use]
    pub fn of<R: Resource>(metadata: &'a Meta) -> Self {
        let namespace = if R::IS_NAMESPACED { metadata.namespace() } else { "" };
        Self { kind: R::KIND, namespace, name: &metadata.name, all: Vec::new(), more: 0 }
    }

    pub fn add(&mut self, field: impl fmt::Display, reason: impl fmt::Display) {
        if self.all.len() < MOST {
            self.push(&field.to_string(), &reason.to_string());
        } else {
            self.more += 1;
        }
    }

    fn push(&mut self, field: &str, reason: &str) {
        let Self { kind, namespace, name, .. } = self;
        let object = match *namespace {
            "" => format!("{kind} {name}"),
            namespace => format!("{kind} {namespace}/{name}"),
        };
        let short = |text: &str| match cut(text, LONGEST) {
            all if all == text => all.to_owned(),
            start => format!("{start}…"),
        };
        let (object, field, reason) = (short(&object), short(field), short(reason));
        self.all.push(Rejection { object, field, reason });
    }

    /// Returns the value of a field, or records a rejection.
    pub(super) fn accept<T>(
        &mut self,
        field: impl fmt::Display,
        value: Result<T, String>,
    ) -> Option<T> {
        value.map_err(|reason| self.add(field, reason)).ok()
    }

    /// Returns the values of a list's valid items, and records a rejection of each other.
    pub(super) fn accept_each<T>(
        &mut self,
        field: &str,
        texts: &[String],
        read: fn(&str) -> Result<T, String>,
    ) -> impl Iterator<Item = T> {
        let texts = texts.iter().enumerate();
        texts.filter_map(move |(index, text)| {
            self.accept(format_args!("{field}[{index}]"), read(text))
        })
    }

    /// Returns the first rejections, and the number of the others.
    #[must_use]
    pub fn finish(mut self) -> Vec<Rejection> {
        if self.more > 0 {
            let reason = format!("and {} more invalid values", self.more);
            self.push("", &reason);
        }
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::wire::ServiceObject;

    #[test]
    fn rejections_of_an_object_are_bounded() {
        let megabyte = "x".repeat(1 << 20);
        let mut metadata = Meta::default();
        (metadata.name, metadata.namespace) = (megabyte.clone(), megabyte.clone());
        let mut rejections = Rejections::of::<ServiceObject>(&metadata);
        for index in 0..100_000 {
            rejections.add(format_args!("spec.externalIPs[{index}]"), &megabyte[..index]);
        }
        let all = rejections.finish();
        assert_eq!(all.len(), MOST + 1);
        let longest = all.iter().map(|rejection| rejection.to_string().len()).max();
        assert!(longest < Some(3 * LONGEST + 20), "{longest:?}");
        assert_eq!(all[MOST].reason, "and 99995 more invalid values");
    }
}
