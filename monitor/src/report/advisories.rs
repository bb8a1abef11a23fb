//! The known defects of a kernel, as text and as JSON.

use serde_json::{Value, json};

use crate::advisory::{Advisories, Verdict};

use super::text::{Block, Style};

/// What the kernel is affected by, in full; what is undecided; with -v all of them.
pub fn text(advisories: Option<&Advisories>, verbose: bool) -> String {
    let Some(Advisories { date, told }) = advisories else { return String::new() };
    let mut block = Block { text: format!("\nadvisories (as of {date})\n"), width: Style::default().width };
    for told in told {
        let shown = matches!(told.verdict, Verdict::Affected | Verdict::Undecided);
        if !shown && !verbose {
            continue;
        }
        block.wrap(2, 6, &format!("{}: {told}", told.id));
        if told.verdict == Verdict::Affected || verbose {
            block.wrap(6, 6, &told.effect);
            block.wrap(6, 6, &format!("To do: {}", told.what_to_do));
        }
    }
    let quiet = |verdict| told.iter().filter(|told| told.verdict == verdict).count();
    let (fixed, absent) = (quiet(Verdict::Fixed), quiet(Verdict::Absent));
    if !verbose && fixed + absent > 0 {
        block.wrap(2, 6, &format!("{fixed} fixed, {absent} not in this kernel; -v lists them"));
    }
    block.text
}

pub fn json(advisories: Option<&Advisories>) -> Value {
    advisories.map_or(
        Value::Null,
        |advisories| json!({ "date": advisories.date.to_string(), "told": advisories.told }),
    )
}
