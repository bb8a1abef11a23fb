//! The running kernel's own description of its types, read without help: where a member lies, and what
//! a function takes. (Documentation/bpf/btf.rst has the format.)
//!
//! It indexes structs and functions by name in one pass and decodes nothing else until it is asked: a
//! kernel has some 150,000 types, and the daemon needs forty.

use std::collections::HashMap;

/// The kernel's BTF, where it has one.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const TRACEPOINT: &[u8] = b"btf_trace_";
const HEADER_LEN: usize = 24;
/// Chains of typedefs beyond this are taken for damage.
const DEPTH: usize = 32;
/// Anonymous structs and unions looked through for one member; beyond it the types are taken for damage.
const ANONYMOUS: usize = 256;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("this is not BTF: {0}")]
    Malformed(&'static str),
    #[error("BTF type {0} is of kind {1}, which this version does not know")]
    Kind(u32, u32),
    #[error("the kernel has two different `struct {name}`, and `{path}` lies differently in them")]
    Ambiguous { name: String, path: String },
}

/// Where a member lies in the outermost struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the struct; for a bitfield, to the byte that holds its first bit.
    pub offset: u32,
    /// For a bitfield: the shift within that byte, and the width, in bits.
    pub bits: Option<(u32, u32)>,
    kind: u32,
}

/// One parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// For a pointer to a struct: its name.
    pub points_to: Option<String>,
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    /// The size, or the id of another type, by kind.
    size_or_type: u32,
    /// Where the data after the common header begins.
    body: usize,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn len(self) -> usize {
        (self.info & 0xffff) as usize
    }

    fn is_aggregate(self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }
}

/// `BTF_KIND_*` of include/uapi/linux/btf.h.
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// A kernel's BTF, indexed.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    strings_end: usize,
    /// By type id; 0 is `void`.
    types: Vec<usize>,
    structs: HashMap<Vec<u8>, Vec<u32>>,
    functions: HashMap<Vec<u8>, Vec<u32>>,
    /// The typedefs of the tracepoints, `btf_trace_NAME`.
    tracepoints: HashMap<Vec<u8>, Vec<u32>>,
}

impl Btf {
    /// Indexes BTF bytes, which may come from a file of any origin.
    pub fn parse(bytes: Vec<u8>) -> Result<Btf, Error> {
        let half =
            |at: usize| -> Option<u16> { Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)) };
        let word = |at: usize| read_word(&bytes, at);
        if half(0) != Some(MAGIC) {
            return Err(Error::Malformed("no magic, or the wrong byte order"));
        }
        let truncated = Error::Malformed("the header is cut short");
        let (Some(header), Some(types_at), Some(types_len), Some(strings_at), Some(strings_len)) =
            (word(4), word(8), word(12), word(16), word(20))
        else {
            return Err(truncated);
        };
        if (header as usize) < HEADER_LEN {
            return Err(truncated);
        }
        let section = |at: u32, len: u32| -> Option<(usize, usize)> {
            let start = (header as usize).checked_add(at as usize)?;
            let end = start.checked_add(len as usize)?;
            (end <= bytes.len()).then_some((start, end))
        };
        let outside = Error::Malformed("a section reaches beyond the end");
        let Some((types_start, types_end)) = section(types_at, types_len) else { return Err(outside) };
        let Some((strings, strings_end)) = section(strings_at, strings_len) else { return Err(outside) };
        let mut btf = Btf {
            bytes,
            strings,
            strings_end,
            types: vec![0],
            structs: HashMap::new(),
            functions: HashMap::new(),
            tracepoints: HashMap::new(),
        };
        btf.index(types_start, types_end)?;
        Ok(btf)
    }

    fn index(&mut self, start: usize, end: usize) -> Result<(), Error> {
        let mut at = start;
        while at < end {
            let id = self.types.len() as u32;
            let found = self.type_at(at).ok_or(Error::Malformed("a type is cut short"))?;
            let body = match found.kind() {
                kind::PTR
                | kind::FWD
                | kind::TYPEDEF
                | kind::VOLATILE
                | kind::CONST
                | kind::RESTRICT
                | kind::FUNC
                | kind::FLOAT
                | kind::TYPE_TAG => 0,
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => found.len() * 12,
                kind::ENUM | kind::FUNC_PROTO => found.len() * 8,
                other => return Err(Error::Kind(id, other)),
            };
            let name = string(&self.bytes[self.strings..self.strings_end], found.name);
            let names = match found.kind() {
                kind::STRUCT if !name.is_empty() => Some(&mut self.structs),
                kind::FUNC => Some(&mut self.functions),
                kind::TYPEDEF if name.starts_with(TRACEPOINT) => Some(&mut self.tracepoints),
                _ => None,
            };
            if let Some(names) = names {
                names.entry(name.to_vec()).or_default().push(id);
            }
            self.types.push(at);
            at = found.body + body;
        }
        if at == end { Ok(()) } else { Err(Error::Malformed("the last type is cut short")) }
    }

    /// The same BTF with nothing in it but these functions and all tracepoints, under their own ids: all that
    /// a loader needs to attach to them. It looks names up by a walk over all types, for each program
    /// anew, which in the whole BTF costs more than to verify the program.
    pub fn skeleton(&self, functions: &[&str]) -> Vec<u8> {
        let wanted = functions.iter().filter_map(|name| self.functions.get_key_value(name.as_bytes()));
        let mut kept: HashMap<u32, (u32, &[u8])> = HashMap::new();
        for (kind, (name, ids)) in wanted
            .map(|entry| (kind::FUNC, entry))
            .chain(self.tracepoints.iter().map(|entry| (kind::TYPEDEF, entry)))
        {
            kept.extend(ids.iter().map(|&id| (id, (kind, name.as_slice()))));
        }
        let mut types = Vec::with_capacity(self.types.len() * 12);
        let mut strings = vec![0];
        for id in 1..self.types.len() as u32 {
            let (name, kind) = match kept.get(&id) {
                Some(&(kind, name)) => {
                    let at = strings.len() as u32;
                    strings.extend(name);
                    strings.push(0);
                    (at, kind)
                }
                None => (0, kind::FWD),
            };
            for word in [name, kind << 24, 0] {
                types.extend(word.to_le_bytes());
            }
        }
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend([VERSION, 0]);
        let types_len = types.len() as u32;
        for word in [HEADER_LEN as u32, 0, types_len, types_len, strings.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(types);
        out.extend(strings);
        out
    }

    /// The member at `path` (`a.b.c`; anonymous structs and unions are looked through) of a struct.
    /// `None` if the kernel has no such struct or no such member.
    pub fn member(&self, name: &str, path: &str) -> Result<Option<Member>, Error> {
        self.member_with(name, "", path)
    }

    /// As [`Btf::member`], of those structs of a name that also have the member `having`: two drivers may each
    /// have one of the name.
    pub fn member_with(&self, name: &str, having: &str, path: &str) -> Result<Option<Member>, Error> {
        let mut found: Option<Member> = None;
        for &id in self.structs.get(name.as_bytes()).into_iter().flatten() {
            if !having.is_empty() && self.walk(id, having).is_none() {
                continue;
            }
            let Some(member) = self.walk(id, path) else { continue };
            match found {
                Some(first) if (first.offset, first.bits) != (member.offset, member.bits) => {
                    return Err(Error::Ambiguous { name: name.into(), path: path.into() });
                }
                _ => found = Some(member),
            }
        }
        Ok(found)
    }

    /// The size of a struct in bytes; `None` if there is no such struct, or several that differ.
    pub fn size(&self, name: &str) -> Option<u32> {
        let mut sizes = self.structs.get(name.as_bytes())?.iter().map(|&id| Some(self.get(id)?.size_or_type));
        let first = sizes.next()??;
        sizes.all(|size| size == Some(first)).then_some(first)
    }

    /// Whether the kernel has a tracepoint of this name.
    pub fn tracepoint(&self, name: &str) -> bool {
        self.tracepoints.contains_key([TRACEPOINT, name.as_bytes()].concat().as_slice())
    }

    /// Whether there is a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name.as_bytes())
    }

    /// The parameters of a function; `None` if there is no such function, or several that differ.
    pub fn parameters(&self, name: &str) -> Option<Vec<Parameter>> {
        let mut lists = self.functions.get(name.as_bytes())?.iter().map(|&id| self.list(id));
        let first = lists.next()??;
        lists.all(|other| other.as_ref() == Some(&first)).then_some(first)
    }

    fn list(&self, function: u32) -> Option<Vec<Parameter>> {
        let proto = self.get(self.get(function)?.size_or_type)?;
        if proto.kind() != kind::FUNC_PROTO {
            return None;
        }
        (0..proto.len())
            .map(|index| {
                let at = proto.body + index * 8;
                Some(Parameter {
                    name: self.text(read_word(&self.bytes, at)?),
                    points_to: self.pointee(read_word(&self.bytes, at + 4)?),
                })
            })
            .collect()
    }

    /// The name of the struct that a type points to.
    fn pointee(&self, id: u32) -> Option<String> {
        let pointer = self.get(self.plain(id)?)?;
        if pointer.kind() != kind::PTR {
            return None;
        }
        let target = self.get(self.plain(pointer.size_or_type)?)?;
        matches!(target.kind(), kind::STRUCT | kind::UNION | kind::FWD).then(|| self.text(target.name))
    }

    fn walk(&self, id: u32, path: &str) -> Option<Member> {
        let mut offset = 0u32;
        let mut id = id;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let member = self.find(id, part, &mut { ANONYMOUS })?;
            offset = offset.checked_add(member.offset)?;
            if parts.peek().is_none() {
                return Some(Member { offset, ..member });
            }
            id = self.plain(member.kind)?;
        }
        None
    }

    /// A member by name, in a struct or in the anonymous ones inside it.
    fn find(&self, id: u32, name: &str, left: &mut usize) -> Option<Member> {
        let aggregate = self.get(id)?;
        if !aggregate.is_aggregate() {
            return None;
        }
        *left = left.checked_sub(1)?;
        let bitfields = aggregate.info >> 31 != 0;
        for index in 0..aggregate.len() {
            let at = aggregate.body + index * 12;
            let label = read_word(&self.bytes, at)?;
            let kind = read_word(&self.bytes, at + 4)?;
            let place = read_word(&self.bytes, at + 8)?;
            let (bit, width) = if bitfields { (place & 0xff_ffff, place >> 24) } else { (place, 0) };
            let here = Member { offset: bit / 8, bits: (width != 0).then_some((bit % 8, width)), kind };
            if label == 0 {
                if let Some(inner) = self.find(self.plain(kind)?, name, left) {
                    return Some(Member { offset: here.offset.checked_add(inner.offset)?, ..inner });
                }
            } else if self.name(label) == name.as_bytes() {
                return Some(here);
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn plain(&self, id: u32) -> Option<u32> {
        let mut id = id;
        for _ in 0..DEPTH {
            let found = self.get(id)?;
            match found.kind() {
                kind::TYPEDEF | kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.size_or_type;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn get(&self, id: u32) -> Option<Type> {
        if id == 0 {
            return None;
        }
        self.type_at(*self.types.get(id as usize)?)
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        Some(Type {
            name: read_word(&self.bytes, at)?,
            info: read_word(&self.bytes, at + 4)?,
            size_or_type: read_word(&self.bytes, at + 8)?,
            body: at + 12,
        })
    }

    fn name(&self, offset: u32) -> &[u8] {
        string(&self.bytes[self.strings..self.strings_end], offset)
    }

    fn text(&self, offset: u32) -> String {
        String::from_utf8_lossy(self.name(offset)).into_owned()
    }
}

fn read_word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn string(strings: &[u8], offset: u32) -> &[u8] {
    let tail = strings.get(offset as usize..).unwrap_or_default();
    let end = tail.iter().position(|&byte| byte == 0).unwrap_or(tail.len());
    &tail[..end]
}

#[cfg(test)]
mod cut;
#[cfg(test)]
mod tests;
