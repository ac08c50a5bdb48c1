//! Differences between two versions of a list.

use std::iter::zip;
use std::ops::Range;

/// Returns the range of each list between the common prefix and the common suffix.
#[expect(clippy::indexing_slicing, reason = "what is equal was counted in both")]
pub(super) fn differing<T>(
    one: &[T],
    other: &[T],
    is_equal: impl Fn(&T, &T) -> bool,
) -> [Range<usize>; 2] {
    let most = one.len().min(other.len());
    let is_other = |(a, b): (&T, &T)| !is_equal(a, b);
    let start = zip(one, other).position(is_other).unwrap_or(most);
    let (one_rest, other_rest) = (one[start..].iter().rev(), other[start..].iter().rev());
    let end = zip(one_rest, other_rest).position(is_other).unwrap_or(most - start);
    [start..one.len() - end, start..other.len() - end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_ends_are_left_out_of_a_difference() {
        let differing = |one: &[u8], other: &[u8]| differing(one, other, u8::eq);
        assert_eq!(differing(&[1, 2, 3, 4], &[1, 5, 4]), [1..3, 1..2]);
        assert_eq!(differing(&[1, 2], &[1, 2]), [2..2, 2..2]);
        assert_eq!(differing(&[1, 1], &[1]), [1..2, 1..1]);
        assert_eq!(differing(&[], &[1]), [0..0, 0..1]);
    }
}
