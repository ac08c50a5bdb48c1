//! As much of DNS as one TXT question and its answer need (RFC 1035, section 4).

/// Name of the question: `who.lab`, as labels.
const QUESTION: &[u8] = b"\x03who\x03lab\x00\x00\x10\x00\x01";
const HEADER: usize = 12;

/// A query for the TXT record of `who.lab`.
pub(crate) fn query() -> Vec<u8> {
    let mut packet = vec![0x4b, 0x49, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(QUESTION);
    packet
}

/// The answer to such a query, or nothing if the packet is no query.
pub(crate) fn reply(query: &[u8], text: &str) -> Option<Vec<u8>> {
    if query.get(HEADER..)? != QUESTION {
        return None;
    }
    let length = u8::try_from(text.len()).ok()?;
    let mut packet = query.to_vec();
    // Response, authoritative; one answer.
    packet[2] = 0x84;
    packet[7] = 1;
    // The question's name, TXT, IN, no caching, one string.
    packet.extend_from_slice(&[0xc0, 12, 0, 0x10, 0, 1, 0, 0, 0, 0, 0, length + 1, length]);
    packet.extend_from_slice(text.as_bytes());
    Some(packet)
}

/// The text of such an answer.
pub(crate) fn text(packet: &[u8]) -> Option<String> {
    let answer = packet.get(HEADER..)?.strip_prefix(QUESTION)?;
    let text = answer.get(13..)?;
    Some(String::from_utf8_lossy(text).into_owned())
}
