//! Samples that corpora begin with: what our own encoders write, which is mostly what the kernel tells
//! of it, and what is in manifests and tests.

mod kernel;
mod netlink;
mod texts;

/// A sample: target, name, content.
pub type Sample = (&'static str, String, Vec<u8>);

/// Every sample.
pub fn all() -> Vec<Sample> {
    [kernel::all(), netlink::all(), texts::all()].concat()
}
