//! Text that becomes HTML. Markup comes out of the program's own constants alone; all else is escaped, and none of it is long.

/// How much of one text is shown, in characters.
const SHOWN: usize = 300;

#[derive(Default)]
pub struct Html(String);

impl Html {
    /// Markup.
    pub fn put(&mut self, markup: &'static str) -> &mut Html {
        self.0.push_str(markup);
        self
    }

    /// What somebody else has said: a name, a task's comm, a reason. In an attribute it stands within double quotes.
    pub fn text(&mut self, text: &str) -> &mut Html {
        for (number, character) in text.chars().enumerate() {
            if number == SHOWN {
                self.0.push('…');
                break;
            }
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                character if is_unseen(character) => self.0.push(char::REPLACEMENT_CHARACTER),
                character => self.0.push(character),
            }
        }
        self
    }

    pub fn number(&mut self, number: impl Into<u64>) -> &mut Html {
        self.text(&number.into().to_string())
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

/// What controls a terminal or the direction of text, by which a name could pass for another: no name needs it.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.into_string()
    }

    #[test]
    fn nothing_that_is_said_becomes_markup() {
        assert_eq!(
            escaped("</td><script>alert(\"1\")</script>&'"),
            "&lt;/td&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;"
        );
    }

    #[test]
    fn nothing_that_is_said_is_unseen_or_turns_text_around() {
        assert_eq!(escaped("a\0b\u{202e}c\u{1b}[31m\u{200b}"), "a\u{fffd}b\u{fffd}c\u{fffd}[31m\u{fffd}");
    }

    #[test]
    fn what_is_long_is_cut_and_never_within_an_escape() {
        let long = escaped(&"<".repeat(10_000));
        assert_eq!(long, "&lt;".repeat(SHOWN) + "…");
    }
}
