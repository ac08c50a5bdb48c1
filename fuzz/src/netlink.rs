//! Messages of the kernel that need no conversation.

use kube_ipvs::kernel::drift;
use kube_ipvs::{migrate, trace as traces};
use netlink_ipvs::{Attribute, Attributes, Header, attributes, messages};

use super::replay::push;

/// Messages and attributes: what was read is within what was given, and reads the same when it is
/// written again.
pub(crate) fn netlink(data: &[u8]) {
    let (mut read, mut written) = (Vec::new(), Vec::new());
    for (header, payload) in messages(data) {
        read.push((header, payload));
        push(&mut written, header, payload);
    }
    let length: usize = read.iter().map(|(_, payload)| Header::LENGTH + payload.len()).sum();
    assert!(length <= data.len());
    assert_eq!(messages(&written).collect::<Vec<_>>(), read);
    attributes_of(data);
    read.into_iter().for_each(|(_, payload)| attributes_of(payload));
}

fn attributes_of(data: &[u8]) {
    let read: Vec<Attribute<'_>> = attributes(data).collect();
    assert!(read.iter().map(|it| 4 + it.value.len()).sum::<usize>() <= data.len());
    let mut written = Vec::new();
    for attribute in &read {
        Attributes::new(&mut written).bytes(attribute.kind, attribute.value);
        let numbers = (attribute.u16(), attribute.u16_be(), attribute.u32(), attribute.u32_be());
        let _ = (numbers, attribute.u64(), attribute.ipv4(), attribute.ipv6());
        assert!(attribute.text().is_none_or(|text| text.len() <= attribute.value.len()));
        assert!(attribute.nested().count() <= attribute.value.len() / 4);
    }
    assert_eq!(attributes(&written).collect::<Vec<_>>(), read);
}

/// Changes that the kernel tells of.
pub(crate) fn notifications(data: &[u8]) {
    let told = drift::is_about_ours(data);
    assert!(messages(data).next().is_some() || told == [false, false]);
}

/// What kube-proxy has left: chains, rules and sets, in whole messages and as it comes.
pub(crate) fn leftovers(data: &[u8]) {
    for payload in messages(data).map(|(_, payload)| payload).chain([data]) {
        assert!(migrate::decode(payload) <= 1 + payload.len() / 4);
    }
}

/// What a traced packet meets, with the chains that it may meet it in.
pub(crate) fn trace(data: &[u8]) {
    // A change of addresses, a rule and the end of the way at most, and the beginning.
    assert!(traces::replay(data) <= 4 * messages(data).count());
}
