//! The page on the daemon's entries in systemd's journal, from the product's own list of fields.

use std::fmt::Write;

use monitor::outlet::journal::{FIELDS, MESSAGE_IDS, OTHERS};

use crate::Page;

pub fn page() -> Page {
    let mut text = String::from(
        "# In the journal\n\nWhere the daemon's stdout is systemd's journal (`JOURNAL_STREAM` names it), and nobody asked for \
         a `--format`, its\nlines become entries with fields. The whole [line](json.md) is one of them.\n\n    \
         journalctl -u iommu-watch -p warning                      # what is wrong, to be read\n    \
         journalctl IOMMU_WATCH_CHECK=pasid-left-on-release        # of one check; with IOMMU_WATCH_GROUP=7, of one group\n    \
         journalctl MESSAGE_ID=",
    );
    let [(_, violation), ..] = MESSAGE_IDS;
    let _ = write!(
        text,
        "{violation} -o json\n    journalctl -u iommu-watch -o cat --output-fields=IOMMU_WATCH_JSON    # the lines\n\n\
         `--format json` in the unit's `ExecStart=` writes the lines as they are, and no fields.\n\n\
         [Bounds](configuration.md#how-much-is-told) and [spool](configuration.md#lines-that-nobody-takes) are those of \
         lines. A journald that is full or away\nisn't waited for; an entry that is too long for a datagram goes as a sealed \
         file in memory.\n\n## Fields\nA field that the line has nothing for isn't there; a list gives one for \
         each of its elements.\n\n| field | is |\n|---|---|\n"
    );
    for (name, is) in OTHERS {
        let _ = writeln!(text, "| `{name}` | {is} |");
    }
    for field in &FIELDS {
        let _ = writeln!(text, "| `{}` | {} |", field.name, field.is);
    }
    text.push_str("\n## Message IDs\nThey never change.\n\n| kind | `MESSAGE_ID` |\n|---|---|\n");
    for (kind, id) in MESSAGE_IDS {
        let _ = writeln!(text, "| [`{kind}`](json.md#{kind}) | `{id}` |");
    }
    text.push_str(
        "\n---\nWritten by `cargo xtask docs` from the fields in `monitor/src/outlet/journal/entry.rs`.\n",
    );
    Page { path: "docs/journal.md".into(), text }
}
