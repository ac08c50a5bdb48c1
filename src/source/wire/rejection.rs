//! What cannot be used of an object, and why.

use std::fmt;

/// A field, or a whole object, that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// `Kind namespace/name`, or the file and document.
    pub object: String,
    /// The path of the field; empty for the whole.
    pub field: String,
    /// What is wrong with it and what becomes of it.
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

/// Collects the rejections of one object. Most have none: nothing is written out before there is one.
#[derive(Debug)]
pub struct Rejections<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    all: Vec<Rejection>,
}

impl<'a> Rejections<'a> {
    /// None yet of this object.
    #[must_use]
    pub fn of(kind: &'static str, namespace: &'a str, name: &'a str) -> Self {
        Self { kind, namespace, name, all: Vec::new() }
    }

    /// Notes one.
    pub fn add(&mut self, field: impl fmt::Display, reason: impl fmt::Display) {
        let Self { kind, namespace, name, .. } = self;
        let object = match *namespace {
            "" => format!("{kind} {name}"),
            namespace => format!("{kind} {namespace}/{name}"),
        };
        let (field, reason) = (field.to_string(), reason.to_string());
        self.all.push(Rejection { object, field, reason });
    }

    /// The value of a field, or a rejection.
    pub(super) fn accept<T>(
        &mut self,
        field: impl fmt::Display,
        value: Result<T, String>,
    ) -> Option<T> {
        value.map_err(|reason| self.add(field, reason)).ok()
    }

    /// Those noted.
    #[must_use]
    pub fn finish(self) -> Vec<Rejection> {
        self.all
    }
}
