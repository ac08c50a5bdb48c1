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

/// Collects the rejections of one object.
#[derive(Debug)]
pub struct Rejections {
    object: String,
    all: Vec<Rejection>,
}

impl Rejections {
    /// None yet of this object.
    #[must_use]
    pub fn of(kind: &str, namespace: &str, name: &str) -> Self {
        let object = match namespace {
            "" => format!("{kind} {name}"),
            namespace => format!("{kind} {namespace}/{name}"),
        };
        Self { object, all: Vec::new() }
    }

    /// Notes one.
    pub fn add(&mut self, field: impl Into<String>, reason: impl fmt::Display) {
        let reason = reason.to_string();
        self.all.push(Rejection { object: self.object.clone(), field: field.into(), reason });
    }

    /// Those noted.
    #[must_use]
    pub fn finish(self) -> Vec<Rejection> {
        self.all
    }
}
