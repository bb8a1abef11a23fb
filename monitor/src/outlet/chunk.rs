//! Lines on their way out, of which a part may be written already.

use std::io;

use super::sink::Sink;

/// Lines, and how much of them was written.
#[derive(Default)]
pub struct Chunk {
    pub bytes: Vec<u8>,
    pub written: usize,
}

impl Chunk {
    /// Writes what is taken at once.
    pub fn write(&mut self, sink: &dyn Sink) -> io::Result<()> {
        while !self.is_written() {
            match sink.write_some(&self.bytes[self.written..]) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn is_written(&self) -> bool {
        self.written == self.bytes.len()
    }

    /// Takes out the lines of which nothing was written.
    pub fn untouched(&mut self) -> Vec<u8> {
        let begun = match self.written {
            0 => 0,
            written => {
                let rest = self.bytes[written - 1..].iter().position(|&byte| byte == b'\n');
                rest.map_or(self.bytes.len(), |end| written + end)
            }
        };
        self.bytes.split_off(begun)
    }

    /// Those that are not written, the one that was begun included.
    pub fn lines(&self) -> u64 {
        count(&self.bytes[self.written..])
    }
}

pub fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}
