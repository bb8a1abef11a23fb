//! How values on the command line are read.

use std::time::Duration;

use crate::check as registry;

pub fn check_name(name: &str) -> Result<String, String> {
    match registry::find(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err("no such check; `iommu-watch checks` lists them".into()),
    }
}

pub fn opt_in_name(name: &str) -> Result<String, String> {
    match check_name(name)? {
        name if registry::is_on_demand(&name) => Ok(name),
        _ => Err("it is on by default".into()),
    }
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "not a whole number of seconds".into())
}

pub fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) => Err("every invalidation takes some time".into()),
        Ok(number) => Ok(Duration::from_millis(number)),
        Err(_) => Err("not a whole number of milliseconds".into()),
    }
}

/// The smallest size of a file of a recording: what it must begin with has to fit.
const LEAST_SIZE: u64 = 512 << 10;

pub fn size(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.char_indices().last() {
        Some((end, 'K' | 'k')) => (&text[..end], 10),
        Some((end, 'M' | 'm')) => (&text[..end], 20),
        Some((end, 'G' | 'g')) => (&text[..end], 30),
        _ => (text, 0),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        None => Err("not a number of bytes, as in 1048576, 512K, 64M or 1G".into()),
        Some(0..LEAST_SIZE) => Err("less than 512K".into()),
        Some(bytes) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_of_bytes_with_or_without_a_unit() {
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert_eq!(size("512K"), Ok(512 << 10));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1g"), Ok(1 << 30));
        for wrong in ["", "M", "511K", "-1M", "1.5M", "64MiB", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
