//! The little YAML that rules and their tests are made of.

use crate::text::wrap;

/// A paragraph as comment lines; none where there is nothing to say.
pub fn comment(paragraph: &str, indent: &str) -> String {
    let start = format!("{indent}# ");
    if paragraph.is_empty() { String::new() } else { wrap(paragraph, &start, &start) }
}

/// `key`, and a paragraph that is broken where it must be and read as one line.
pub fn folded(key: &str, paragraph: &str, indent: &str) -> String {
    let inner = format!("{indent}  ");
    format!("{indent}{key}: >-\n{}", wrap(paragraph, &inner, &inner))
}

/// `key`, and lines as they are.
pub fn block(key: &str, lines: &str, indent: &str) -> String {
    let lines: String = lines.trim().lines().map(|line| format!("{indent}  {line}\n")).collect();
    format!("{indent}{key}: |-\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_indented_below_their_key() {
        assert_eq!(block("expr", "\n(\n  a\n)", "  "), "  expr: |-\n    (\n      a\n    )\n");
        assert_eq!(folded("text", "a  b", ""), "text: >-\n  a b\n");
        assert_eq!(comment("", "  "), "");
        assert_eq!(comment("why", "  "), "  # why\n");
    }
}
