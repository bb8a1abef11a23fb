//! Reads what the guest sends over its second serial port: the script's output, with the marks of the
//! guest's init in it.

/// `RS` starts and ends a mark; text rarely holds it.
const RS: u8 = 0x1e;
const MARK: &[u8] = b"\x1etestbed:";
/// Longer than any mark: what doesn't end by then is none.
const LONGEST: usize = 64;

/// Tells marks from output.
#[derive(Debug, Default)]
pub struct Reader {
    pending: Vec<u8>,
    pub booted: bool,
    pub exit: Option<i32>,
}

impl Reader {
    /// Takes `bytes` as they come; returns the output that is complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        let mut output = Vec::new();
        loop {
            let Some(start) = self.pending.iter().position(|&byte| byte == RS) else {
                output.append(&mut self.pending);
                return output;
            };
            output.extend(self.pending.drain(..start));
            let known = self.pending.len().min(MARK.len());
            if self.pending[..known] != MARK[..known] {
                output.push(self.pending.remove(0));
                continue;
            }
            match self.pending[1..].iter().position(|&byte| byte == RS) {
                Some(end) => {
                    let mark: Vec<u8> = self.pending.drain(..end + 2).collect();
                    if !self.take(&mark[MARK.len()..=end]) {
                        output.extend(mark);
                    }
                }
                None if self.pending.len() > LONGEST => output.push(self.pending.remove(0)),
                None => return output,
            }
        }
    }

    fn take(&mut self, mark: &[u8]) -> bool {
        let mark = String::from_utf8_lossy(mark);
        match mark.split_once(' ') {
            None if mark == "booted" => self.booted = true,
            Some(("exit", code)) => self.exit = code.parse().ok(),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &[u8] = b"\x1etestbed:booted\x1eone\ntwo\x1e.\x1etestbed:exit 3\x1e";

    #[test]
    fn marks_are_taken_out_of_the_output() {
        let mut reader = Reader::default();
        assert_eq!(reader.feed(SENT), b"one\ntwo\x1e.");
        assert!(reader.booted);
        assert_eq!(reader.exit, Some(3));
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        for cut in 0..SENT.len() {
            let mut reader = Reader::default();
            let mut output = reader.feed(&SENT[..cut]);
            output.extend(reader.feed(&SENT[cut..]));
            assert_eq!(output, b"one\ntwo\x1e.", "cut at {cut}");
            assert_eq!((reader.booted, reader.exit), (true, Some(3)));
        }
    }

    #[test]
    fn a_mark_of_somebody_else_stays_output() {
        let mut reader = Reader::default();
        assert_eq!(reader.feed(b"\x1etestbed:hello\x1e"), b"\x1etestbed:hello\x1e");
        let long = [MARK, &[b'x'; 100]].concat();
        assert_eq!(reader.feed(&long), long);
    }
}
