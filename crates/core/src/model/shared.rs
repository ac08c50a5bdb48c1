//! Immutable values with many owners.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// A value that is cheap to copy. Copies of the same value compare as equal without a look into it;
/// the standard library's `Arc` does this only for sized types.
pub struct Shared<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Shared<T> {
    /// Returns whether both are copies of the same value.
    #[must_use]
    pub fn is_same(one: &Self, other: &Self) -> bool {
        Arc::ptr_eq(&one.0, &other.0)
    }

    /// Returns the number of copies, including this one.
    #[must_use]
    pub fn copies(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Returns whether both lists contain copies of the same values in the same order.
    #[must_use]
    pub fn are_same(one: &[Self], other: &[Self]) -> bool {
        let mut pairs = one.iter().zip(other);
        one.len() == other.len() && pairs.all(|(one, other)| Self::is_same(one, other))
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized + Eq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Self::is_same(self, other) || *self.0 == *other.0
    }
}

impl<T: ?Sized + Eq> Eq for Shared<T> {}

impl<T: ?Sized + Ord> PartialOrd for Shared<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: ?Sized + Ord> Ord for Shared<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T: ?Sized + Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Borrow<T> for Shared<T> {
    fn borrow(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized, V> From<V> for Shared<T>
where
    Arc<T>: From<V>,
{
    fn from(value: V) -> Self {
        Self(value.into())
    }
}

impl<T> FromIterator<T> for Shared<[T]> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl<T: ?Sized> Default for Shared<T>
where
    Arc<T>: Default,
{
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn equal_values_are_equal_wherever_they_are() {
        let one: Shared<str> = "n1".into();
        assert!(Shared::is_same(&one, &one.clone()));
        let other: Shared<str> = String::from("n1").into();
        assert!(!Shared::is_same(&one, &other));
        assert_eq!(one, other);
        assert_ne!(one, "n2".into());
        assert!(one < "n2".into());
        assert!(HashSet::from([one]).contains("n1"));
    }

    #[test]
    fn lists_are_shared_as_a_whole() {
        let list: Shared<[u8]> = [1, 2].into_iter().collect();
        assert_eq!(list, vec![1, 2].into());
        assert!(Shared::<[u8]>::default().is_empty());
    }
}
