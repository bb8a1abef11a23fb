//! Short text from the kernel, in place: an event is a few of these and numbers, and costs no allocation.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text of at most `N` bytes. It comes from outside and goes to terminals and logs: what is not UTF-8
/// or not printable was replaced by `?`. It ends at its NUL; behind that the kernel side leaves nothing but NULs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text<N>, D::Error> {
        Ok(Text::new(String::deserialize(from)?.as_bytes()))
    }
}

impl<const N: usize> Text<N> {
    /// The bytes up to their NUL, or as many as fit.
    #[inline]
    pub fn new(from: &[u8]) -> Text<N> {
        match from.first_chunk() {
            Some(bytes) if is_plain(bytes) => Text(*bytes),
            _ => Text::cleaned(from),
        }
    }

    #[cold]
    fn cleaned(from: &[u8]) -> Text<N> {
        let len = len(&from[..from.len().min(N)]);
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&from[..len]);
        replace_unprintable(&mut bytes[..len]);
        Text(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.first().is_none_or(|&byte| byte == 0)
    }

    pub fn as_str(&self) -> &str {
        // It is UTF-8 since it was made.
        std::str::from_utf8(&self.0[..len(&self.0)]).unwrap_or_default()
    }
}

/// Printable ASCII and NULs, as nearly every text of a kernel is: asked of all bytes at once, in a few instructions.
fn is_plain<const N: usize>(bytes: &[u8; N]) -> bool {
    bytes.iter().filter(|byte| matches!(byte, 0 | b' '..=b'~')).count() == N
}

/// The bytes up to their NUL.
fn len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len())
}

/// Leaves as many bytes as there were.
fn replace_unprintable(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let (valid, bad) = match std::str::from_utf8(&bytes[at..]) {
            Ok(rest) => (rest.len(), 0),
            Err(error) => (error.valid_up_to(), error.error_len().unwrap_or(bytes.len())),
        };
        let end = at + valid;
        let unprintable: Vec<(usize, usize)> = std::str::from_utf8(&bytes[at..end])
            .unwrap_or_default()
            .char_indices()
            .filter(|(_, c)| c.is_control())
            .map(|(index, c)| (at + index, c.len_utf8()))
            .collect();
        for (index, len) in unprintable {
            bytes[index..index + len].fill(b'?');
        }
        let next = end.saturating_add(bad).min(bytes.len());
        bytes[end..next].fill(b'?');
        at = next.max(end);
        if bad == 0 {
            return;
        }
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<const N: usize> From<&str> for Text<N> {
    /// As much of it as fits.
    fn from(text: &str) -> Text<N> {
        Text::new(text.as_bytes())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_its_nul_or_where_the_room_does() {
        assert_eq!(&*Text::<16>::new(b"nvme\0junk"), "nvme");
        assert_eq!(&*Text::<4>::new(b"nvme-pci"), "nvme");
        assert_eq!(&*Text::<4>::new(b""), "");
        assert_eq!(&*Text::<4>::new(b"\0\0\0!"), "");
    }

    #[test]
    fn what_can_not_be_printed_is_replaced() {
        assert_eq!(&*Text::<16>::new(b"a\x1b[2Jb"), "a?[2Jb");
        assert_eq!(&*Text::<4>::new(b"abc\x7f"), "abc?");
        assert_eq!(&*Text::<4>::new(b"\x1fbcd"), "?bcd");
        assert_eq!(&*Text::<16>::new(b"\xffa\xc3\x28"), "?a?(");
        assert_eq!(&*Text::<16>::new("größe".as_bytes()), "größe");
        // Cut in the middle of a character.
        assert_eq!(&*Text::<3>::new("grö".as_bytes()), "gr?");
        assert_eq!(&*Text::<16>::new("a\u{85}b".as_bytes()), "a??b");
    }
}
