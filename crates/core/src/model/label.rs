//! Labels of objects, and selectors of them.

use std::fmt;
use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::Name;

/// A label selector. An object must meet every requirement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LabelSelector(pub Box<[LabelRequirement]>);

/// A condition on a label.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabelRequirement {
    pub key: Name,
    /// The values that the label must, or must not, have; without values the label's presence counts.
    pub values: Box<[Name]>,
    /// Reverses the condition. As in Kubernetes, an object without the label then meets it.
    pub is_negated: bool,
}

impl LabelSelector {
    /// Returns whether an object is selected. `has` returns whether it has a label, with this value
    /// or, for `None`, with any.
    #[must_use]
    pub fn selects(&self, has: impl Fn(&str, Option<&str>) -> bool) -> bool {
        self.0.iter().all(|LabelRequirement { key, values, is_negated }| {
            let is_met = match &**values {
                [] => has(key, None),
                values => values.iter().any(|value| has(key, Some(value))),
            };
            is_met != *is_negated
        })
    }
}

/// As `kubectl -l` reads it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, LabelRequirement { key, values, is_negated }) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let not = if *is_negated { "!" } else { "" };
            match &**values {
                [] => write!(f, "{comma}{not}{key}")?,
                [value] => write!(f, "{comma}{key}{not}={value}")?,
                values => {
                    let not = if *is_negated { "not" } else { "" };
                    write!(f, "{comma}{key} {not}in ({})", values.join(","))?;
                }
            }
        }
        Ok(())
    }
}

/// The labels of a Service, which only views select by. They are kept as hashes, because text would
/// take more memory than the rest of the Service. Among a million labels that differ, one selector in
/// 2,000 finds a label that it does not mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LabelHashes(
    /// Of each label's key, and of each key with its value.
    Box<[u32]>,
);

impl LabelHashes {
    #[must_use]
    pub fn new<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let hashes = labels.flat_map(|(key, value)| [hash(key, None), hash(key, Some(value))]);
        Self(hashes.collect())
    }

    /// Returns whether there is a label, with this value or, for `None`, with any.
    #[must_use]
    pub fn has(&self, key: &str, value: Option<&str>) -> bool {
        self.0.contains(&hash(key, value))
    }
}

fn hash(key: &str, value: Option<&str>) -> u32 {
    let mut hasher = FxHasher::default();
    (key, value).hash(&mut hasher);
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_labels_are_found_with_and_without_their_value() {
        let labels = LabelHashes::new([("app", "web"), ("tier", "")].into_iter());
        for (key, value, expected) in [
            ("app", Some("web"), true),
            ("app", None, true),
            ("app", Some("db"), false),
            ("app", Some(""), false),
            ("tier", Some(""), true),
            ("web", None, false),
            ("", None, false),
        ] {
            assert_eq!(labels.has(key, value), expected, "{key}={value:?}");
        }
        assert!(!LabelHashes::default().has("app", None));
    }
}
