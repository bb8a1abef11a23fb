//! Short names for kernel objects, stable within a run: an address would undo KASLR.

use std::collections::HashMap;

use crate::event::{Domain, Key};

/// A domain as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainName {
    /// `domain#7`
    pub name: String,
    /// As [`crate::event::DomainKind::name`].
    pub kind: &'static str,
}

/// How many objects have a name at a time; beyond it all names are given anew, with new numbers.
const MAX_NAMES: usize = 65_536;

/// The names that were given. A number is never given twice.
#[derive(Clone, Debug, Default)]
pub struct Names {
    domains: HashMap<Key, u64>,
    next: u64,
}

impl Names {
    pub fn domain(&mut self, domain: Domain) -> DomainName {
        if self.domains.len() >= MAX_NAMES && !self.domains.contains_key(&domain.key) {
            self.domains.clear();
        }
        let number = *self.domains.entry(domain.key).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        DomainName { name: format!("domain#{number}"), kind: domain.kind.name() }
    }
}
