//! A set of PASIDs that takes the same little room whatever is in it.

const WORDS: usize = 16;

/// PASIDs that something was seen of, a bit for all that have one remainder: what is not in it surely isn't, and
/// what is may be another.
#[derive(Clone, Debug, Default)]
pub(super) struct Stirred([u64; WORDS]);

impl Stirred {
    /// Of everything something may have been seen.
    pub fn all() -> Stirred {
        Stirred([u64::MAX; WORDS])
    }

    pub fn add(&mut self, pasid: u32) {
        let (word, bit) = place(pasid);
        self.0[word] |= bit;
    }

    pub fn add_all(&mut self) {
        self.0.fill(u64::MAX);
    }

    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    pub fn may_have(&self, pasid: u32) -> bool {
        let (word, bit) = place(pasid);
        self.0[word] & bit != 0
    }
}

fn place(pasid: u32) -> (usize, u64) {
    let bit = pasid as usize % (WORDS * 64);
    (bit / 64, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_added_is_not_there() {
        let mut stirred = Stirred::default();
        stirred.add(5);
        assert!(stirred.may_have(5) && !stirred.may_have(6));
        stirred.add_all();
        assert!(stirred.may_have(6));
        stirred.clear();
        assert!(!stirred.may_have(5));
    }
}
