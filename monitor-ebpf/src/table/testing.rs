//! Memory for the tests: words at addresses, as a test lays them out; a page without any can't be read.

use std::{collections::HashMap, vec::Vec};

use super::{Entry, Memory, Shape, Step, WINDOW, Walk};

const PAGE: u64 = 4096;

#[derive(Default)]
pub struct Ram {
    pages: HashMap<u64, Vec<u64>>,
}

impl Ram {
    /// Makes memory readable: zeroes, unless there is something.
    pub fn zero(&mut self, address: u64, bytes: u64) {
        for page in address / PAGE..(address + bytes).div_ceil(PAGE) {
            self.pages.entry(page).or_insert_with(|| [0; 512].to_vec());
        }
    }

    /// Writes one word; `address` is a multiple of 8.
    pub fn put(&mut self, address: u64, word: u64) {
        self.zero(address, 8);
        let page = self.pages.get_mut(&(address / PAGE)).expect("just made");
        page[(address % PAGE / 8) as usize] = word;
    }

    /// Makes a page unreadable.
    pub fn lose(&mut self, address: u64) {
        self.pages.remove(&(address / PAGE));
    }
}

impl Memory for Ram {
    fn word(&self, address: u64) -> Option<u64> {
        Some(self.pages.get(&(address / PAGE))?[(address % PAGE / 8) as usize])
    }

    fn byte(&self, address: u64) -> Option<u8> {
        Some((self.word(address & !7)? >> (address % 8 * 8)) as u8)
    }

    fn window(&self, address: u64, into: &mut [u64; WINDOW]) -> bool {
        into.iter_mut()
            .enumerate()
            .all(|(index, word)| self.word(address + index as u64 * 8).map(|found| *word = found).is_some())
    }
}

/// What a whole walk found, and whether all could be read.
pub struct Found {
    pub entries: Vec<Entry>,
    pub sound: bool,
    pub steps: usize,
}

pub fn walk(ram: &Ram, shape: &Shape, root: u64) -> Found {
    let mut walk = Walk::default();
    walk.start(shape, root);
    let mut entries = Vec::new();
    for steps in 0.. {
        match walk.step(ram) {
            Step::Next => {}
            Step::Found(entry) => entries.push(entry),
            Step::Done => return Found { entries, sound: walk.sound(), steps },
        }
    }
    unreachable!("the steps of a walk are bounded")
}
