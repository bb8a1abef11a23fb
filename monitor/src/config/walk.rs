//! Going through a TOML document: values of the wanted kind, and a fault with line and key for all else.

use std::{borrow::Cow, path::PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::Fault;

/// How much of a value is shown.
const SHOWN: usize = 60;

type Key<'i> = Spanned<Cow<'i, str>>;
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A document, and what was found wrong with it so far.
pub(super) struct Walk<'t> {
    text: &'t str,
    pub faults: Vec<Fault>,
}

/// A value, and the keys that lead to it.
#[derive(Clone)]
pub(super) struct Place<'v, 'i> {
    pub path: String,
    pub value: &'v Value<'i>,
}

impl<'t> Walk<'t> {
    pub fn new(text: &'t str) -> Walk<'t> {
        Walk { text, faults: Vec::new() }
    }

    /// Something is wrong, from this byte on.
    pub fn fault(&mut self, at: usize, what: String) {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        self.faults.push(Fault { line: Some(line), what });
    }

    /// A value is not what is allowed.
    pub fn wrong(&mut self, place: &Place<'_, '_>, allowed: &str) {
        let span = place.value.span();
        let written = self.text.get(span.clone()).unwrap_or_default();
        let shown = one_line(written);
        let what = match place.value.get_ref().is_table() || shown.is_empty() {
            true => format!("{}: {allowed}", place.path),
            false => format!("{} = {shown}: {allowed}", place.path),
        };
        self.fault(span.start, what);
    }

    /// A key that there isn't.
    pub fn unknown(&mut self, path: &str, key: &Key<'_>, allowed: &[&str]) {
        let told = format!("{}: no such key; allowed: {}", join(path, key.get_ref()), allowed.join(", "));
        self.fault(key.span().start, told);
    }

    pub fn table<'v, 'i>(&mut self, place: &Place<'v, 'i>) -> Option<&'v DeTable<'i>> {
        let table = place.value.get_ref().as_table();
        if table.is_none() {
            self.wrong(place, &format!("a table, as in [{}]", place.path));
        }
        table
    }

    pub fn flag(&mut self, place: &Place<'_, '_>) -> Option<bool> {
        let flag = place.value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(place, "true or false");
        }
        flag
    }

    /// Words, of which there is one at least.
    pub fn text(&mut self, place: &Place<'_, '_>, allowed: &str) -> Option<String> {
        let text = place.value.get_ref().as_str().filter(|text| !text.trim().is_empty());
        if text.is_none() {
            self.wrong(place, allowed);
        }
        text.map(str::to_owned)
    }

    /// Where a file or a directory is, whatever the daemon's own directory.
    pub fn path(&mut self, place: &Place<'_, '_>, allowed: &str) -> Option<PathBuf> {
        self.word(place, allowed, |text| Some(PathBuf::from(text)).filter(|path| path.is_absolute()))
    }

    /// A string that stands for something.
    pub fn word<T>(
        &mut self,
        place: &Place<'_, '_>,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = place.value.get_ref().as_str().and_then(read);
        if value.is_none() {
            self.wrong(place, allowed);
        }
        value
    }

    /// A whole number within these bounds.
    pub fn number(&mut self, place: &Place<'_, '_>, (least, most): (u64, u64)) -> Option<u64> {
        let written = place.value.get_ref().as_integer();
        let number = written.and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(place, &format!("a whole number from {least} to {most}"));
        }
        number
    }
}

impl<'v, 'i> Place<'v, 'i> {
    pub fn new(path: &str, key: &str, value: &'v Value<'i>) -> Place<'v, 'i> {
        Place { path: join(path, key), value }
    }
}

fn join(path: &str, key: &str) -> String {
    let key = one_line(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// As it was written, but on one line, without what a terminal could take for a command, and not too long.
pub(super) fn one_line(written: &str) -> String {
    let mut shown: String = written
        .chars()
        .take(SHOWN)
        .flat_map(|c| match c.is_control() {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect();
    if written.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
