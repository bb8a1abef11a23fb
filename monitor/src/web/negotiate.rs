//! In which of its two formats a client wants the metrics (`Accept`, RFC 9110).

use hyper::header::{GetAll, HeaderValue};

/// Ranges that are looked at; who sends more gets the format that everybody reads.
const RANGES: usize = 32;

/// Whether OpenMetrics is wanted at least as much as the Prometheus text format, which is what everybody gets who doesn't
/// ask for it by name.
pub fn prefers_open_metrics(accept: GetAll<'_, HeaderValue>) -> bool {
    let (mut open, mut text) = (None, None);
    let ranges = accept.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    for range in ranges.take(RANGES) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let (mut quality, mut version) = (1000, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim() {
                name if name.eq_ignore_ascii_case("q") => quality = thousandths(value),
                name if name.eq_ignore_ascii_case("version") => version = Some(value),
                _ => {}
            }
        }
        let best = if kind.eq_ignore_ascii_case("application/openmetrics-text")
            && matches!(version, None | Some("1.0.0"))
        {
            &mut open
        } else if kind.eq_ignore_ascii_case("text/plain") && matches!(version, None | Some("0.0.4")) {
            &mut text
        } else {
            continue;
        };
        *best = (*best).max(Some(quality));
    }
    open.is_some_and(|open| open > 0 && open >= text.unwrap_or(0))
}

/// A weight of 0 to 1 in thousandths; what is none counts as nothing.
fn thousandths(value: &str) -> u32 {
    match value.parse::<f32>() {
        Ok(weight) if (0.0..=1.0).contains(&weight) => (weight * 1000.0).round() as u32,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::{ACCEPT, HeaderMap};

    use super::*;

    fn prefers(accept: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        prefers_open_metrics(headers.get_all(ACCEPT))
    }

    #[test]
    fn who_does_not_ask_for_it_gets_the_text_format() {
        for accept in [
            &[] as &[&str],
            &["*/*"],
            &["text/html,application/xhtml+xml,*/*;q=0.8"],
            &["text/plain;version=0.0.4"],
        ] {
            assert!(!prefers(accept), "{accept:?}");
        }
    }

    #[test]
    fn prometheus_gets_open_metrics() {
        // Prometheus 2.42, and 3.
        assert!(prefers(&[
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ]));
        assert!(prefers(&[
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;\
             version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ]));
        assert!(prefers(&["text/plain;q=0.5", "Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.5"]));
    }

    #[test]
    fn the_weights_count() {
        assert!(!prefers(&["application/openmetrics-text;q=0.3, text/plain;q=0.4"]));
        assert!(!prefers(&["application/openmetrics-text;q=0"]));
        assert!(!prefers(&["application/openmetrics-text;version=2.0.0"]));
        for nonsense in ["application/openmetrics-text;q=NaN", "application/openmetrics-text;q=7", ";;;,,,=,"]
        {
            assert!(!prefers(&[nonsense]), "{nonsense}");
        }
    }
}
