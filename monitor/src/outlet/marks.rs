//! How far what was handed over is out of this process's hands, written or in the spool: only what is need not be told again
//! by the process after this one.

use std::collections::VecDeque;

/// Told that all that comes before this number is out of our hands.
pub type Told = Box<dyn Fn(u64) + Send>;

/// Where the numbers of whoever hands over stand in the stream of bytes.
#[derive(Default)]
pub struct Marks {
    told: Option<Told>,
    /// Bytes that were handed over, and those that are out of our hands, in the same order.
    taken: u64,
    settled: u64,
    /// How many bytes must be settled for what comes before this number to be.
    waiting: VecDeque<(u64, u64)>,
}

impl Marks {
    pub fn new(told: Option<Told>) -> Marks {
        Marks { told, ..Marks::default() }
    }

    pub fn take(&mut self, bytes: usize) {
        self.taken += bytes as u64;
    }

    pub fn settle(&mut self, bytes: usize) {
        self.settled += bytes as u64;
        self.tell();
    }

    /// All that comes before this number was handed over by now, or dropped.
    pub fn set(&mut self, before: u64) {
        if self.told.is_none() {
            return;
        }
        let taken = self.taken;
        match self.waiting.back_mut().filter(|(end, _)| *end == taken) {
            Some((_, last)) => *last = before,
            None => self.waiting.push_back((taken, before)),
        }
        self.tell();
    }

    fn tell(&mut self) {
        let settled = self.settled;
        let mut last = None;
        while let Some((_, before)) = self.waiting.pop_front_if(|(end, _)| *end <= settled) {
            last = Some(before);
        }
        if let (Some(told), Some(before)) = (&self.told, last) {
            told(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_is_out_of_our_hands_is_told_and_no_more() {
        let (send, told) = mpsc::channel();
        let mut marks = Marks::new(Some(Box::new(move |before| send.send(before).expect("it is read"))));
        marks.set(3);
        assert_eq!(told.try_recv(), Ok(3), "there is nothing to write of it");
        marks.take(6);
        marks.set(5);
        marks.set(6);
        marks.settle(5);
        assert!(told.try_recv().is_err(), "a byte is missing");
        marks.settle(1);
        assert_eq!((told.try_recv(), told.try_recv().is_err()), (Ok(6), true));
        // What was dropped is not waited for.
        marks.set(7);
        assert_eq!(told.try_recv(), Ok(7));
    }
}
