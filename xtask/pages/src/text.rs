//! Turning the product's sentences into Markdown and YAML.

/// As wide as the other pages.
pub const WIDTH: usize = 110;

/// Breaks a paragraph into lines; those after the first start with `indent`.
pub fn wrap(paragraph: &str, first: &str, indent: &str) -> String {
    let mut lines = vec![first.to_owned()];
    let mut fresh = true;
    for word in paragraph.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if !fresh && line + 1 + word.chars().count() > WIDTH {
            lines.push(indent.to_owned());
            fresh = true;
        }
        if let Some(line) = lines.last_mut() {
            if !fresh {
                line.push(' ');
            }
            line.push_str(word);
        }
        fresh = false;
    }
    lines.join("\n") + "\n"
}

/// Marks what is the kernel's or C's as code. What has backticks already is left as it is.
pub fn code(sentence: &str) -> String {
    if sentence.contains('`') {
        return sentence.to_owned();
    }
    let words = sentence.split(' ').map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        if bare.contains('_') || bare.contains("->") || bare.contains("::") {
            word.replacen(bare, &format!("`{bare}`"), 1)
        } else {
            word.to_owned()
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_kernel_become_code() {
        assert_eq!(code("judged under group->mutex: no index"), "judged under `group->mutex`: no index");
        assert_eq!(code("(struct device) of the core"), "(struct device) of the core");
        assert_eq!(code("echo 1 to `remove` in pasid_array"), "echo 1 to `remove` in pasid_array");
    }

    #[test]
    fn a_long_paragraph_is_broken_at_its_words() {
        let text = wrap(&"word ".repeat(40), "- ", "  ");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("  word")), "{text}");
        assert_eq!(text.split_whitespace().filter(|word| *word == "word").count(), 40);
    }
}
