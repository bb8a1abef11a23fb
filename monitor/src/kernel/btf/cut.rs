//! Cutting a kernel's BTF down to what the layouts and the hooks need, so that tests can keep many kernels.

use std::collections::BTreeMap;

use super::{Btf, HEADER_LEN, MAGIC, TRACEPOINT, VERSION, kind, read_word};

/// The cut being made.
#[derive(Default)]
struct Cut {
    types: Vec<u8>,
    count: u32,
    strings: Vec<u8>,
    known: BTreeMap<Vec<u8>, u32>,
}

impl Cut {
    fn string(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(&at) = self.known.get(text) {
            return at;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(text);
        self.strings.push(0);
        self.known.insert(text.to_vec(), at);
        at
    }

    fn add(&mut self, words: &[u32]) -> u32 {
        self.types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self.count += 1;
        self.count
    }
}

impl Btf {
    /// The same BTF with nothing in it but these members (struct and path), these functions and all
    /// tracepoints of `tracepoints`.
    pub fn cut(&self, members: &[(&str, &str)], functions: &[&str], tracepoints: &[&str]) -> Vec<u8> {
        let mut cut = Cut { strings: vec![0], ..Cut::default() };
        let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, path) in members {
            wanted.entry(name).or_default().push(path);
        }
        for (name, paths) in wanted {
            for &id in self.structs.get(name.as_bytes()).into_iter().flatten() {
                self.cut_struct(&mut cut, id, name, &paths);
            }
        }
        for name in functions {
            for &id in self.functions.get(name.as_bytes()).into_iter().flatten() {
                self.cut_function(&mut cut, id, name);
            }
        }
        for name in tracepoints.iter().filter(|name| self.tracepoint(name)) {
            let name = cut.string(&[TRACEPOINT, name.as_bytes()].concat());
            cut.add(&[name, kind::TYPEDEF << 24, 0]);
        }
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([VERSION, 0]);
        let types_len = cut.types.len() as u32;
        for word in [HEADER_LEN as u32, 0, types_len, types_len, cut.strings.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(cut.types);
        out.extend(cut.strings);
        out
    }

    /// A struct with what leads to the paths; what is inside it has no name of its own.
    fn cut_struct(&self, cut: &mut Cut, id: u32, name: &str, paths: &[&str]) -> u32 {
        let whole = self.get(id).expect("a type");
        let mut kept = Vec::new();
        for index in 0..whole.len() {
            let at = whole.body + index * 12;
            let [label, kind, place] =
                [0, 4, 8].map(|more| read_word(&self.bytes, at + more).expect("inside"));
            let text = self.name(label).to_vec();
            let (all, rest): (Vec<&str>, Vec<&str>) = if text.is_empty() {
                // What it holds is as if the outer held it.
                (paths.to_vec(), paths.to_vec())
            } else {
                let split = |path: &&'_ str| {
                    path.split_once('.')
                        .map_or((path.to_string(), None), |(a, b)| (a.to_owned(), Some(b.to_owned())))
                };
                let mine: Vec<&str> =
                    paths.iter().copied().filter(|path| split(path).0.as_bytes() == text).collect();
                let rest = mine.iter().filter_map(|path| Some(path.split_once('.')?.1)).collect();
                (mine, rest)
            };
            if all.is_empty() {
                continue;
            }
            let inner = self.plain(kind).filter(|&id| self.get(id).is_some_and(|inner| inner.is_aggregate()));
            let inner = inner.filter(|_| !rest.is_empty());
            let kind = match inner {
                Some(inner) if rest.iter().any(|path| self.walk(inner, path).is_some()) => {
                    self.cut_struct(cut, inner, "", &rest)
                }
                _ if text.is_empty() => continue,
                _ => 0,
            };
            kept.push([cut.string(&text), kind, place]);
        }
        let info = whole.info & (1 << 31) | whole.kind() << 24 | kept.len() as u32;
        let mut words = vec![cut.string(name.as_bytes()), info, whole.size_or_type];
        words.extend(kept.into_iter().flatten());
        cut.add(&words)
    }

    fn cut_function(&self, cut: &mut Cut, id: u32, name: &str) {
        let parameters = self.list(id).expect("a prototype");
        let mut words = vec![0, kind::FUNC_PROTO << 24 | parameters.len() as u32, 0];
        for parameter in parameters {
            let kind = parameter.points_to.map_or(0, |target| {
                let target = cut.string(target.as_bytes());
                let forward = cut.add(&[target, kind::FWD << 24, 0]);
                cut.add(&[0, kind::PTR << 24, forward])
            });
            words.extend([cut.string(parameter.name.as_bytes()), kind]);
        }
        let proto = cut.add(&words);
        let name = cut.string(name.as_bytes());
        cut.add(&[name, kind::FUNC << 24, proto]);
    }
}
