//! What a device has of cache tags in a VT-d domain: whether a flush of the domain reaches the device's own TLB.

use monitor_ebpf::wire::tags;

/// What was read of a device's cache tags on one PASID, or on its RID, in one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// How often the device's own device-TLB tag was assigned; 0: it has none. `None`: the domain's list could not be
    /// read as a whole.
    pub device_tlb: Option<u32>,
    /// The driver has ATS on for the device (`device_domain_info::ats_enabled`); `None`: that could not be read.
    pub ats: Option<bool>,
}

impl Tags {
    /// What a record says.
    pub fn new(record: u32) -> Tags {
        Tags {
            device_tlb: (record & tags::READ != 0).then_some(record >> tags::USERS_SHIFT),
            ats: (record & tags::ATS_READ != 0).then_some(record & tags::ATS != 0),
        }
    }

    /// The device may keep translations of the domain, and no flush of it reaches them.
    pub fn is_missing(&self) -> bool {
        self.ats == Some(true) && self.device_tlb == Some(0)
    }

    /// Flushes of the domain go to the device.
    pub fn is_there(&self) -> bool {
        self.device_tlb.is_some_and(|users| users > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_was_not_read_has_no_tag_missing() {
        let ats = tags::ATS_READ | tags::ATS;
        assert!(Tags::new(ats | tags::READ).is_missing());
        assert!(!Tags::new(ats).is_missing());
        assert!(!Tags::new(tags::READ).is_missing(), "nobody knows whether ATS is on");
        assert!(!Tags::new(tags::READ | tags::ATS_READ).is_missing());
        let two = Tags::new(ats | tags::READ | 2 << tags::USERS_SHIFT);
        assert_eq!((two.device_tlb, two.is_missing(), two.is_there()), (Some(2), false, true));
        assert!(!Tags::new(ats | 1 << tags::USERS_SHIFT).is_there());
    }
}
