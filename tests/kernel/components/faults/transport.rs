//! The real socket with faults before and after it.

use std::collections::VecDeque;

use netlink_ipvs::{Header, KernelError, KernelTransport, Socket, Subsystem, Transport, messages};
use rustix::io::Errno;

use super::kind::Kind;
use super::script::{How, Shared};

/// `NLM_F_ACK`
const ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR`
const INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`
const CAPPED: u16 = 0x100;
/// What netlink itself uses; families of generic netlink are numbered from here on.
const FIRST_FAMILY: u16 = 0x11;
/// `CTRL_ATTR_FAMILY_ID` with its length.
const FAMILY_ID: [u8; 4] = [6, 0, 1, 0];
/// Room for a datagram: small, so that even short dumps come in several.
const PAGE: usize = 4 << 10;
/// Room for the one that is larger.
const LARGEST: usize = 64 << 10;

/// A real socket that follows a script.
#[derive(Debug)]
pub(super) struct Faulty {
    socket: KernelTransport,
    protocol: Subsystem,
    script: Shared,
    /// The kernel's number of the IPVS family.
    family: u16,
    /// What is still to be received.
    queue: VecDeque<Result<Vec<u8>, Errno>>,
}

/// Opens a socket that follows a script.
pub(super) fn open(protocol: Subsystem, script: &Shared) -> Result<Socket, KernelError> {
    let script = script.clone();
    let socket = KernelTransport::open(protocol)?;
    Ok(Socket::over(Faulty { socket, protocol, script, family: 0, queue: VecDeque::new() }))
}

/// What has been made of the requests of a send.
#[derive(Default)]
struct Sent {
    /// What the kernel gets.
    passed: Vec<u8>,
    /// The first number.
    base: u32,
    /// Requests that are answered without the kernel, or instead of it; `None` says that all is
    /// well.
    errors: Vec<(Header, Option<Errno>)>,
    /// Requests whose answers are changed.
    answers: Vec<(u32, How)>,
}

impl Faulty {
    /// Splits a send into requests and lets happen to each what the script says.
    fn follow(&self, requests: &[u8]) -> Result<Sent, Errno> {
        let mut script = self.script.lock();
        let mut sent = Sent::default();
        let mut is_transaction = false;
        let mut refuses = false;
        let mut is_cut = false;
        let mut acknowledged = None;
        let mut at = 0;
        for (index, (mut header, payload)) in messages(requests).enumerate() {
            let end = (at + Header::LENGTH + payload.len()).next_multiple_of(4);
            let mut request = requests[at..end].to_vec();
            at = end;
            if index == 0 {
                sent.base = header.sequence;
            }
            let kind = Kind::of(self.protocol, header, payload);
            is_transaction |= kind == Kind::Transaction;
            if header.flags & ACK != 0 {
                acknowledged = Some(header);
            }
            let mut how = script.take(kind, payload);
            if self.protocol == Subsystem::Generic && header.kind >= FIRST_FAMILY {
                if header.kind == self.family + script.family_shift {
                    header.kind = self.family;
                    request[4..6].copy_from_slice(&header.kind.to_ne_bytes());
                } else {
                    how = Some(How::Refused(Errno::NOENT));
                }
            }
            match how {
                Some(How::Refused(errno)) => {
                    refuses = true;
                    sent.errors.push((header, Some(errno)));
                    // Of a transaction that is refused as such, nothing else is told.
                    if kind == Kind::Transaction {
                        sent.passed.clear();
                        return Ok(sent);
                    }
                    continue;
                }
                Some(How::Belied(errno)) => {
                    sent.errors.push((header, Some(errno)));
                    sent.answers.push((header.sequence, How::Belied(errno)));
                }
                Some(How::Unsent(errno)) => return Err(errno),
                Some(How::Cut) => is_cut = true,
                Some(how) => sent.answers.push((header.sequence, how)),
                None => {}
            }
            if !is_cut {
                sent.passed.extend(request);
            }
        }
        if is_transaction && refuses {
            // None of it is done. What is to be acknowledged was looked at all the same.
            sent.passed.clear();
            let is_told = |header: &Header| sent.errors.iter().any(|(told, _)| told == header);
            if let Some(header) = acknowledged.filter(|header| !is_told(header)) {
                sent.errors.push((header, None));
            }
        }
        Ok(sent)
    }

    /// Takes all that the real socket has.
    fn drain(&mut self) -> Vec<Result<Vec<u8>, Errno>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; LARGEST];
        loop {
            match self.socket.receive(&mut buffer[..PAGE]) {
                Ok(length) if length > PAGE => all.push(Err(Errno::MSGSIZE)),
                Ok(length) => all.push(Ok(buffer[..length].to_vec())),
                Err(Errno::AGAIN) => return all,
                Err(errno) => all.push(Err(errno)),
            }
            let interference = self.script.lock().interference.take();
            if let Some(mut interference) = interference {
                interference();
                self.script.lock().interference.get_or_insert(interference);
            }
        }
    }

    /// Learns the number of the IPVS family from an answer, and writes another in its place.
    fn renumber(&mut self, datagram: &mut [u8]) {
        let is_number = |part: &[u8]| part.starts_with(&FAMILY_ID);
        if let Some(at) = datagram.windows(6).position(is_number) {
            let number = &mut datagram[at + 4..at + 6];
            self.family = u16::from_ne_bytes([number[0], number[1]]);
            let shown = self.family + self.script.lock().family_shift;
            number.copy_from_slice(&shown.to_ne_bytes());
        }
    }
}

impl Transport for Faulty {
    fn port(&self) -> u32 {
        self.socket.port()
    }

    fn send(&mut self, requests: &[u8]) -> Result<(), Errno> {
        let sent = self.follow(requests)?;
        let mut answers = Vec::new();
        if !sent.passed.is_empty() {
            self.socket.send(&sent.passed)?;
            answers = self.drain();
        }
        let asks_for_family = self.protocol == Subsystem::Generic
            && messages(requests).any(|(header, _)| header.kind < FIRST_FAMILY);
        for datagram in answers.iter_mut().flatten().filter(|_| asks_for_family) {
            self.renumber(datagram);
        }
        let queue = sent.queue(self.socket.port(), answers);
        self.queue.extend(queue);
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let datagram = self.queue.pop_front().unwrap_or(Err(Errno::AGAIN))?;
        let held = datagram.len().min(buffer.len());
        buffer[..held].copy_from_slice(&datagram[..held]);
        Ok(datagram.len())
    }
}

impl Sent {
    /// What is to be received, from what the kernel has answered.
    fn queue(
        self,
        port: u32,
        mut answers: Vec<Result<Vec<u8>, Errno>>,
    ) -> Vec<Result<Vec<u8>, Errno>> {
        let number = |answer: &Result<Vec<u8>, Errno>| {
            let first = answer.as_ref().ok().and_then(|datagram| messages(datagram).next());
            first.map_or(0, |(header, _)| header.sequence.wrapping_sub(self.base))
        };
        let mut failure = None;
        for (sequence, how) in &self.answers {
            let place = sequence.wrapping_sub(self.base);
            match how {
                How::Belied(_) => answers.retain(|answer| number(answer) != place),
                How::Unheard(errno) => failure = Some(*errno),
                How::Overrun => {
                    answers.retain(|answer| number(answer) < place);
                    failure = Some(Errno::NOBUFS);
                }
                How::Unanswered => answers.retain(|answer| number(answer) < place),
                How::Flagged => {
                    answers.iter_mut().flatten().for_each(|datagram| flag(datagram));
                }
                How::Gap => change_parts(&mut answers, 0),
                How::Doubled => change_parts(&mut answers, 2),
                How::Refused(_) | How::Unsent(_) | How::Cut => {}
            }
        }
        for (header, errno) in &self.errors {
            answers.push(Ok(answer(*header, port, *errno)));
        }
        answers.sort_by_key(number);
        failure.map(Err).into_iter().chain(answers).collect()
    }
}

/// The message that answers a request with an error, or without.
fn answer(request: Header, port: u32, errno: Option<Errno>) -> Vec<u8> {
    let mut message = 36_u32.to_ne_bytes().to_vec();
    message.extend(Header::ERROR.to_ne_bytes());
    message.extend(CAPPED.to_ne_bytes());
    message.extend(request.sequence.to_ne_bytes());
    message.extend(port.to_ne_bytes());
    message.extend((-errno.map_or(0, Errno::raw_os_error)).to_ne_bytes());
    message.extend(16_u32.to_ne_bytes());
    message.extend(request.kind.to_ne_bytes());
    message.extend(request.flags.to_ne_bytes());
    message.extend(request.sequence.to_ne_bytes());
    message.extend(request.port.to_ne_bytes());
    message
}

/// Says in each message of a dump that it was interrupted.
fn flag(datagram: &mut [u8]) {
    let starts: Vec<usize> = messages(datagram)
        .scan(0, |at, (_, payload)| {
            let start = *at;
            *at = (start + Header::LENGTH + payload.len()).next_multiple_of(4);
            Some(start)
        })
        .collect();
    for start in starts {
        let flags = u16::from_ne_bytes([datagram[start + 6], datagram[start + 7]]) | INTERRUPTED;
        datagram[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
    }
}

/// Writes the first part of a dump so many times.
fn change_parts(answers: &mut [Result<Vec<u8>, Errno>], times: usize) {
    for datagram in answers.iter_mut().flatten() {
        let Some((header, payload)) = messages(datagram).next() else { continue };
        if header.kind == Header::DONE || header.kind == Header::ERROR {
            continue;
        }
        let end = (Header::LENGTH + payload.len()).next_multiple_of(4).min(datagram.len());
        let mut changed = datagram[..end].repeat(times);
        changed.extend(&datagram[end..]);
        *datagram = changed;
        return;
    }
}
