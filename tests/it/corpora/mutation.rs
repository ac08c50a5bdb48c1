//! Damage, the same in every run.

use std::path::{Path, PathBuf};

use fastrand::Rng;

const SEED: u64 = 0x6b75_6265_6970_7673;
/// What lengths, numbers and texts do not expect.
const ODD: [&[u8]; 8] = [
    &[0],
    &[0xff],
    &[0; 4],
    &[0xff; 4],
    &[0x7f, 0xff, 0xff, 0xff],
    b"-9223372036854775808",
    b"\"\n- {[&a *a",
    "\u{feff}\u{85}ä".as_bytes(),
];

/// Makes damaged inputs of a corpus.
pub struct Mutator<'a> {
    corpus: &'a [(PathBuf, Vec<u8>)],
    random: Rng,
}

impl<'a> Mutator<'a> {
    pub fn new(corpus: &'a [(PathBuf, Vec<u8>)]) -> Self {
        Self { corpus, random: Rng::with_seed(SEED) }
    }

    /// An input with one to four damages, and what it was.
    pub fn next(&mut self) -> (&'a Path, Vec<u8>) {
        let (path, data) = self.pick();
        let mut data = data.to_vec();
        for _ in 0..self.random.usize(1..=4) {
            self.damage(&mut data);
        }
        (path, data)
    }

    fn pick(&mut self) -> (&'a Path, &'a [u8]) {
        let (path, data) = &self.corpus[self.random.usize(..self.corpus.len())];
        (path, data)
    }

    fn damage(&mut self, data: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.usize(..=data.len());
        match random.u8(..6) {
            0 => data.truncate(at),
            1 | 2 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << random.u8(..8);
                }
            }
            3 => {
                let odd = ODD[random.usize(..ODD.len())];
                let end = (at + odd.len() * random.usize(..2)).min(data.len());
                data.splice(at..end, odd.iter().copied());
            }
            4 => {
                let part = random.usize(at..=data.len());
                let part = data[at..part].to_vec();
                let to = random.usize(..=data.len());
                data.splice(to..to, part);
            }
            _ => {
                let (_, other) = self.pick();
                let from = self.random.usize(..=other.len());
                data.truncate(at);
                data.extend(&other[from..]);
            }
        }
    }
}
