//! `plants`: every fault that the test modules plant is one, by something that is not the product.

use super::Report;

/// The script tells each claim as `ok: …` or `FAILED: …`, and ends with 0 if none failed.
pub fn proven(report: &Report) -> Result<(), String> {
    let failed: Vec<&str> = report.text.lines().filter(|line| line.starts_with("FAILED: ")).collect();
    if !failed.is_empty() {
        return Err(failed.join("\n"));
    }
    report.exits_with(&[0])?;
    report.says("\nok: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Series;

    fn judged(text: &str, exit: i32) -> Result<(), String> {
        proven(&Report { series: Series::V7, exit, text: text.into() })
    }

    #[test]
    fn a_claim_that_fails_is_told() {
        judged("x\nok: one\n", 0).unwrap();
        assert_eq!(judged("x\nok: one\nFAILED: two\n", 1).unwrap_err(), "FAILED: two");
        judged("x\nok: one\n", 1).unwrap_err();
        judged("x\n", 0).unwrap_err();
    }
}
