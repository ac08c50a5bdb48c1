//! What is done with arbitrary bytes: one function for each decoder, which must neither panic nor
//! take long, and asserts what must hold of whatever was read.
//!
//! `fuzz_targets/` hands them to libFuzzer; `tests/it/corpora/` of the main package hands them the
//! checked-in corpora, and mutations of these.

mod kernel;
mod netlink;
mod objects;
pub(crate) mod replay;
mod texts;

/// A decoder's name, which is that of its target and corpus, and what is done with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 18] = [
    ("api", objects::api),
    ("api_protobuf", objects::api_protobuf),
    ("config", texts::config),
    ("conntrack", kernel::conntrack),
    ("firewall", kernel::firewall),
    ("ipvs", kernel::ipvs),
    ("leftovers", netlink::leftovers),
    ("listening", kernel::listening),
    ("manifests", objects::manifests),
    ("netlink", netlink::netlink),
    ("nft", kernel::nft),
    ("notifications", netlink::notifications),
    ("objects", objects::objects),
    ("query", texts::query),
    ("route", kernel::route),
    ("texts", texts::texts),
    ("timestamps", objects::timestamps),
    ("trace", netlink::trace),
];

/// Runs the target of this name.
///
/// # Panics
///
/// If there is none, or if the target finds something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(of, _)| *of == name);
    let (_, target) = target.unwrap_or_else(|| panic!("no fuzz target {name}"));
    target(data);
}
