//! Short names for kernel objects, stable within a run: an address would undo KASLR.

use std::collections::HashMap;

use crate::event::{Domain, DomainKind, Key};

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
    domains: HashMap<Key, (u64, DomainKind)>,
    next: u64,
}

impl Names {
    /// The name of a domain. An address that comes back with another kind is another domain's.
    pub fn domain(&mut self, domain: Domain) -> DomainName {
        let known = self.domains.get(&domain.key).copied();
        let (number, kind) = match known.filter(|&(_, kind)| may_be_same(kind, domain.kind)) {
            Some((number, DomainKind::Unknown)) => (number, domain.kind),
            Some(known) => known,
            None => {
                self.next += 1;
                (self.next, domain.kind)
            }
        };
        if known.is_none() && self.domains.len() >= MAX_NAMES {
            self.domains.clear();
        }
        self.domains.insert(domain.key, (number, kind));
        DomainName { name: format!("domain#{number}"), kind: domain.kind.name() }
    }
}

fn may_be_same(had: DomainKind, now: DomainKind) -> bool {
    had == now || had == DomainKind::Unknown || now == DomainKind::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(key: u64, kind: DomainKind) -> Domain {
        Domain { key: Key::new(key).expect("an address"), kind }
    }

    #[test]
    fn a_name_is_stable_and_an_address_of_another_kind_has_another() {
        let mut names = Names::default();
        let mut name = |key, kind| names.domain(domain(key, kind)).name;
        assert_eq!(name(1, DomainKind::Dma), "domain#1");
        assert_eq!(name(2, DomainKind::Unknown), "domain#2");
        assert_eq!(name(1, DomainKind::Unknown), "domain#1");
        assert_eq!(name(2, DomainKind::Sva), "domain#2");
        assert_eq!(name(2, DomainKind::Dma), "domain#3");
        assert_eq!(name(1, DomainKind::Dma), "domain#1");
    }

    #[test]
    fn names_are_bounded_and_no_number_is_given_twice() {
        let mut names = Names::default();
        for key in 1..=2 * MAX_NAMES as u64 {
            assert_eq!(names.domain(domain(key, DomainKind::Sva)).name, format!("domain#{key}"));
        }
        assert!(names.domains.len() <= MAX_NAMES);
        assert_ne!(names.domain(domain(1, DomainKind::Sva)).name, "domain#1");
    }
}
