//! Several requests in one buffer.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};

use super::{Attributes, Header};

/// Requests that are sent together. A reused batch keeps its buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// The offset of each request.
    starts: Vec<usize>,
    overlong: bool,
}

impl Batch {
    /// Removes all requests.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.overlong = false;
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Returns whether there are no requests.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Returns the requests as they are sent, except for sequence numbers.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a request of the type `kind`; `NLM_F_REQUEST` is added to the flags.
    pub fn push(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        let header = Header { kind, flags: flags | NLM_F_REQUEST, sequence: 0, port: 0 };
        let start = header.open(&mut self.bytes);
        let mut attributes = Attributes::new(&mut self.bytes);
        fill(&mut attributes);
        self.overlong |= attributes.is_overlong();
        Header::close(&mut self.bytes, start);
        self.starts.push(start);
    }

    /// Returns whether an attribute is too long for the kernel.
    pub(super) fn is_overlong(&self) -> bool {
        self.overlong
    }

    /// Numbers the requests from `base` and requests the acknowledgement of one of them.
    pub(super) fn seal(&mut self, base: u32, acknowledged: usize) {
        for (index, start) in self.starts.iter().enumerate() {
            let sequence = base.wrapping_add(index as u32);
            if let Some(field) = self.bytes.get_mut(start + 8..start + 12) {
                field.copy_from_slice(&sequence.to_ne_bytes());
            }
        }
        let start = self.starts.get(acknowledged).copied();
        if let Some(field) = start.and_then(|start| self.bytes.get_mut(start + 6..start + 8)) {
            let flags = field.first_chunk().copied().map_or(0, u16::from_ne_bytes);
            field.copy_from_slice(&(flags | NLM_F_ACK).to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages;

    #[test]
    fn requests_are_numbered_and_one_is_acknowledged() {
        let mut batch = Batch::default();
        for kind in [20, 21, 22] {
            batch.push(kind, 0x400, |message| message.raw(&[1, 0, 0, 0, 9]));
        }
        batch.seal(u32::MAX, 1);
        let headers: Vec<_> = messages(batch.bytes()).map(|(header, _)| header).collect();
        assert_eq!(
            headers,
            [
                Header { kind: 20, flags: 0x401, sequence: u32::MAX, port: 0 },
                Header { kind: 21, flags: 0x405, sequence: 0, port: 0 },
                Header { kind: 22, flags: 0x401, sequence: 1, port: 0 },
            ]
        );
        let payloads: Vec<_> = messages(batch.bytes()).map(|(_, payload)| payload.len()).collect();
        assert_eq!(payloads, [5; 3]);
        assert_eq!(batch.size(), 3 * 24);
    }

    #[test]
    fn attributes_that_are_too_long_are_noticed_until_cleared() {
        let mut batch = Batch::default();
        batch.push(20, 0, |message| message.bytes(1, &[0; 65_531]));
        assert!(!batch.is_overlong());
        batch.push(20, 0, |message| {
            message.nest(1, |nest| {
                nest.bytes(2, &[0; 40_000]);
                nest.bytes(3, &[0; 40_000]);
            });
        });
        assert!(batch.is_overlong());
        batch.clear();
        assert!(!batch.is_overlong());
    }
}
