//! What runs on a distribution's own kernel, too, where that is emulated and slow.

/// Names of tests.
const NAMES: [&str; 1] = ["the_lab_itself"];

/// Whether a test is one of them.
pub(crate) fn has(name: &str) -> bool {
    NAMES.contains(&name)
}
