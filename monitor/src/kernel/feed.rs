//! Reading what the programs on the command queues have counted.

use aya::maps::{Array, MapData};
use monitor_ebpf::descriptor::{self, Scope};
use monitor_ebpf::wire::{FEED_CPUS, FEED_TYPES, Feed, Hook, LATENCY_BUCKETS, RANGE_VERDICTS, TableKind};

use super::{probes::Probes, ring::Error};
use crate::invalidations::Invalidations;

/// The globals of the programs are one value of a map that the loader calls so.
const MAP: &str = ".bss";

pub struct Counts {
    map: Array<MapData, [u64; Feed::WORDS]>,
    queue: Option<(TableKind, &'static str)>,
    cpus: usize,
    ranges: bool,
    /// Whose I/O page faults are counted.
    faults: Option<&'static str>,
}

/// Whose queue a hook is on. A host has one vendor's.
const QUEUES: [(Hook, TableKind, &str); 3] = [
    (Hook::VtdQueue, TableKind::Vtd, "intel"),
    (Hook::AmdQueue, TableKind::Amd, "amd"),
    (Hook::SmmuQueue, TableKind::SmmuV3, "arm-smmu-v3"),
];

impl Counts {
    pub fn new(probes: &mut Probes) -> Result<Counts, Error> {
        let map = probes.take_map(MAP).ok_or(Error::Missing(MAP))?;
        let map = Array::try_from(map).map_err(|error| Error::Map(MAP, error))?;
        let attached = QUEUES.iter().find(|(hook, ..)| probes.coverage.attached(*hook));
        let cpus = aya::util::nr_cpus().map_or(FEED_CPUS, |cpus| cpus.min(FEED_CPUS));
        let ranges = probes.coverage.attached(Hook::VtdSync);
        let faults = probes.coverage.attached(Hook::IoPageFault).then_some("amd");
        Ok(Counts { map, queue: attached.map(|&(_, queue, driver)| (queue, driver)), cpus, ranges, faults })
    }

    /// Reads the counters. One system call; a counter that is being added to may be read before or after.
    pub fn read(&self) -> Result<Invalidations, Error> {
        let words = self.map.get(&0, 0).map_err(|error| Error::Map(MAP, error))?;
        let mut counted = Invalidations::of_driver(self.queue.map(|(_, driver)| driver));
        counted.faults = self.faults.map(|driver| (driver, 0));
        counted.ranges = self.ranges.then_some([0; RANGE_VERDICTS]);
        let mut latency = [0; LATENCY_BUCKETS];
        latency.copy_from_slice(&words[Feed::LATENCY_AT..Feed::CPUS_AT]);
        counted.set_latency(latency);
        for cpu in words[Feed::CPUS_AT..].chunks_exact(Feed::CPU_WORDS).take(self.cpus) {
            for (kind, &count) in cpu.iter().take(FEED_TYPES).enumerate() {
                let Some((queue, _)) = self.queue else { break };
                let scope = descriptor::counted(queue, kind as u64);
                if let Some(scope) = Scope::ALL.into_iter().find(|known| *known as u64 == scope) {
                    counted.add(scope, count);
                }
            }
            for (count, more) in counted.ranges.iter_mut().flatten().zip(&cpu[Feed::CPU_RANGES_AT..]) {
                *count = count.wrapping_add(*more);
            }
            if let Some((_, count)) = &mut counted.faults {
                *count = count.wrapping_add(cpu[Feed::CPU_FAULTS_AT]);
            }
            counted.latency_ns = counted.latency_ns.wrapping_add(cpu[Feed::CPU_SUM_AT]);
            counted.failed = counted.failed.wrapping_add(cpu[Feed::CPU_FAILED_AT]);
        }
        Ok(counted)
    }
}
