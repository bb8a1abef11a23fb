//! What a kernel's types and symbols answer when advisories ask for known defects.

use std::collections::HashSet;

use crate::advisory::Types;

use super::btf::Btf;

/// A kernel to be asked.
pub struct Kernel<'a> {
    pub types: &'a Btf,
    /// The functions of its list of symbols, where that was read. Its types may leave one out: pahole does, of those that
    /// a compiler has changed.
    pub listed: Option<&'a HashSet<&'a str>>,
}

impl Types for Kernel<'_> {
    fn function(&self, name: &str) -> bool {
        self.types.has_function(name) || self.listed.is_some_and(|listed| listed.contains(name))
    }

    fn parameters(&self, name: &str) -> Option<usize> {
        Some(self.types.parameters(name)?.len())
    }

    fn member(&self, name: &str, path: &str) -> bool {
        // Two structs of the name that differ both have it.
        !matches!(self.types.member(name, path), Ok(None))
    }
}
