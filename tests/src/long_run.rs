//! The long run: everything at once that may be done to devices behind VT-d, at random, while the daemon watches. Each
//! violation is a find that is written up, or a mistake of the product.
//!
//! `tests/guest/long-run.sh` and `movers.c` do it; [`judge`] reads what they said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use crate::scenario::transcript::is_stray_find;
use crate::{Script, Series, Vm};

/// What the daemon may grow by in the second half, in KiB.
const GROWTH: i64 = 1024;
/// What a violation may take beside, KiB, with its evidence: one that has happened stands for its hold time, and 4,096 at
/// most are open at a time.
const HELD: i64 = 16;

/// Boot, the movers' last actions, the audits: TCG on a busy machine is slow.
const BESIDE: Duration = Duration::from_secs(600);

/// Two more NVMes, another NIC, and a device that does DMA.
const DEVICES: [&str; 6] = [
    "pcie-root-port,id=rp3,bus=pcie.0,chassis=3,slot=3",
    "pcie-root-port,id=rp4,bus=pcie.0,chassis=4,slot=4",
    "nvme,serial=three,bus=rp3",
    "nvme,serial=four,bus=rp4",
    "e1000e,bus=pcie.0",
    "iommu-testdev,bus=pcie.0",
];

/// A violation that stock kernels commit under these movers, and why it is a true one.
struct Explained {
    check: &'static str,
    kernels: &'static [Series],
    /// Where it is written up; what nobody is woken for has its reason here.
    why: &'static str,
    holds: fn(&Value) -> bool,
}

const EXPLAINED: &[Explained] = &[
    Explained {
        check: "ownership-conflict",
        kernels: &Series::ALL,
        why: "a rival holds the group, or wants it: a refusal, told as info",
        holds: |told| told["severity"] == "info",
    },
    Explained {
        check: "capability-off-under-pasids",
        kernels: &[Series::V6_12],
        why: "docs/finds/vtd-ats-off-on-rid-switch.md",
        holds: |told| told["severity"] == "warning",
    },
    // As the driver is seen to break that rule, whose userspace relies on it is told.
    Explained {
        check: "user-pasid-on-nonconforming",
        kernels: &[Series::V6_12],
        why: "docs/finds/vtd-ats-off-on-rid-switch.md",
        holds: |told| {
            let summary = told["summary"].as_str().unwrap_or_default();
            told["severity"] == "info" && summary.ends_with(" which breaks capabilities-stay-on")
        },
    },
    // Of a PASID that is detached while ATS is off so.
    Explained {
        check: "cache-tag-leaked",
        kernels: &[Series::V6_12],
        why: "docs/finds/vtd-cache-tag-left-by-blocked-rid.md",
        holds: |told| {
            let summary = told["summary"].as_str().unwrap_or_default();
            summary.starts_with("PASID ") && summary.ends_with(" and the device-TLB tag stayed")
        },
    },
    Explained {
        check: "invalidation-failed",
        kernels: &[Series::V7],
        why: "docs/finds/vtd-kva-flush-refused.md",
        holds: is_stray_find,
    },
];

/// What a run came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Done, refused, failed, by action.
    actions: BTreeMap<String, [u64; 3]>,
    /// How often, by check and why.
    explained: BTreeMap<(String, &'static str), usize>,
    unexplained: Vec<Value>,
    /// When those were found that stand on, for more than information, in ns.
    held: Vec<u64>,
    /// The daemon's anonymous memory in KiB, by percent of the time.
    memory: BTreeMap<u64, i64>,
    unknown: Option<u64>,
    lost: Option<u64>,
    /// Functions in which the kernel warned.
    warned: Vec<String>,
    /// What the movers ended with, and what each of them complained of.
    movers: Option<u64>,
    complaints: Vec<String>,
}

/// The guest, in which the script is yet to be run.
pub fn vm(series: Series, seconds: u64, seed: u64) -> Result<Vm, std::io::Error> {
    let script = std::fs::read_to_string(crate::vm::guest_scripts().join("long-run.sh"))?;
    let mut vm = Vm::new(series)
        .script(Script::Text(format!("seconds={seconds}\nseed={seed}\n{script}")))
        // Drivers that come and go say more than the kernel keeps of itself.
        .append("log_buf_len=16M")
        .timeout(Duration::from_secs(seconds) + BESIDE);
    for name in ["pasidcap", "caller", "dmadrv"] {
        vm = vm.test_module(name);
    }
    Ok(DEVICES.into_iter().fold(vm, Vm::device))
}

/// Reads what the script wrote.
pub fn judge(series: Series, text: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in text.lines() {
        if let Some(told) = line.strip_prefix("@ ") {
            outcome.told(&told.split_whitespace().collect::<Vec<_>>(), told);
        } else if let Ok(told) = serde_json::from_str::<Value>(line)
            && told["kind"] == "violation"
        {
            outcome.raised(series, told);
        }
    }
    outcome
}

impl Outcome {
    fn told(&mut self, words: &[&str], line: &str) {
        let number = |word: &str| word.parse::<u64>().ok();
        match *words {
            ["action", name, done, refused, failed] => {
                let counts = [done, refused, failed].map(|word| number(word).unwrap_or(0));
                self.actions.insert(name.into(), counts);
            }
            ["memory", percent, kib] => {
                if let (Some(percent), Ok(kib)) = (number(percent), kib.parse()) {
                    self.memory.insert(percent, kib);
                }
            }
            ["unknown", groups] => self.unknown = number(groups),
            ["lost", events] => self.lost = number(events),
            ["warned", ..] => self.warned.push(line["warned ".len()..].into()),
            ["movers", code] => self.movers = number(code),
            ["mover", ..] => self.complaints.push(line.into()),
            _ => {}
        }
    }

    fn raised(&mut self, series: Series, told: Value) {
        if told["severity"] != "info" {
            self.held.extend(told["mono_ns"].as_u64());
        }
        let row = EXPLAINED
            .iter()
            .find(|row| told["check"] == row.check && row.kernels.contains(&series) && (row.holds)(&told));
        match row {
            Some(row) => *self.explained.entry((row.check.into(), row.why)).or_default() += 1,
            None => self.unexplained.push(told),
        }
    }

    /// How many violations were found in the second half of the time in which any were.
    fn held_late(&self) -> i64 {
        let bounds = self.held.iter().min().zip(self.held.iter().max());
        let middle = bounds.map_or(0, |(first, last)| first.midpoint(*last));
        self.held.iter().filter(|&&found| found > middle).count() as i64
    }

    /// All that is wrong with it.
    pub fn errors(&self) -> Vec<String> {
        let mut errors = self.complaints.clone();
        if self.actions.is_empty() || self.movers != Some(0) {
            errors.push(format!("the movers ended with {:?}", self.movers));
        }
        for (name, [done, _, failed]) in &self.actions {
            if *done == 0 {
                errors.push(format!("{name} was never done"));
            }
            if *failed > 0 {
                errors.push(format!("{name} failed {failed} times"));
            }
        }
        errors.extend(self.unexplained.iter().map(|told| format!("unexplained: {told}")));
        if self.unknown != Some(0) {
            errors.push(format!("groups that are unknown at the end: {:?}", self.unknown));
        }
        if self.lost.is_none() {
            errors.push("it isn't told how much was lost".into());
        }
        match (self.memory.get(&50), self.memory.get(&100)) {
            (Some(half), Some(end)) if end - half < GROWTH + HELD * self.held_late() => {}
            other => errors.push(format!("the daemon's memory isn't flat: {other:?} KiB at half and end")),
        }
        errors.extend(self.warned.iter().map(|place| format!("the kernel warned: {place}")));
        errors
    }

    /// For a person.
    pub fn summary(&self) -> String {
        let mut text = "| action | done | refused | failed |\n|---|---|---|---|\n".to_owned();
        for (name, [done, refused, failed]) in &self.actions {
            let _ = writeln!(text, "| {name} | {done} | {refused} | {failed} |");
        }
        let total: u64 = self.actions.values().map(|counts| counts[0]).sum();
        let _ = writeln!(text, "\nactions done: {total}");
        for ((check, why), times) in &self.explained {
            let _ = writeln!(text, "explained: {times} x {check}: {why}");
        }
        let _ = writeln!(text, "unexplained violations: {}", self.unexplained.len());
        let count = |value: Option<u64>| value.map_or("?".into(), |value| value.to_string());
        let _ = writeln!(text, "unknown groups at the end: {}", count(self.unknown));
        let _ = writeln!(text, "events lost, and read again: {}", count(self.lost));
        let memory: Vec<String> =
            self.memory.iter().map(|(percent, kib)| format!("{kib} KiB at {percent} %")).collect();
        let _ = writeln!(text, "the daemon's anonymous memory: {}", memory.join(", "));
        let _ = writeln!(text, "kernel warnings: {}", self.warned.len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "@ memory 50 4000\n@ action vfio 3 1 0\n@ action flr 2 0 0\n@ movers 0\n\
        @ memory 100 4900\n@ unknown 0\n@ lost 7\n";

    #[test]
    fn a_clean_run_has_no_error() {
        assert_eq!(judge(Series::V7, GOOD).errors(), [""; 0]);
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_an_error() {
        for (right, wrong) in [
            ("vfio 3 1 0", "vfio 0 1 0"),
            ("vfio 3 1 0", "vfio 3 1 1"),
            ("movers 0", "movers 1"),
            ("@ movers 0\n", ""),
            ("@ movers 0\n", "@ movers 0\n@ mover dma hangs\n"),
            ("100 4900", "100 5024"),
            ("@ memory 50 4000\n", ""),
            ("unknown 0", "unknown 1"),
            ("@ unknown 0\n", ""),
            ("@ lost 7\n", ""),
            ("@ lost 7\n", "@ lost 7\n@ warned iommu_detach_device\n"),
            ("@ lost 7\n", "@ lost 7\n{\"kind\":\"violation\",\"check\":\"pasid-leaked\"}\n"),
        ] {
            let text = GOOD.replace(right, wrong);
            assert_ne!(text, GOOD, "{right}");
            assert_eq!(judge(Series::V7, &text).errors().len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_find_is_explained_on_its_kernels_only() {
        let find = r#"{"kind":"violation","check":"capability-off-under-pasids","severity":"warning"}"#;
        let text = format!("{GOOD}{find}\n");
        assert_eq!(judge(Series::V6_12, &text).errors(), [""; 0]);
        assert_eq!(judge(Series::V7, &text).errors().len(), 1);
        assert_eq!(judge(Series::V6_12, &text.replace("warning", "critical")).errors().len(), 1);
    }

    #[test]
    fn violations_that_stand_take_their_room_and_no_more() {
        let found = |ns: u64| {
            format!(
                "{{\"kind\":\"violation\",\"check\":\"capability-off-under-pasids\",\"severity\":\"warning\",\"mono_ns\":{ns}}}\n"
            )
        };
        let text = GOOD.replace("100 4900", "100 5030") + &found(1_000) + &found(9_000);
        assert_eq!(judge(Series::V6_12, &text).errors(), [""; 0]);
        let early = GOOD.replace("100 4900", "100 5030") + &found(1_000);
        assert_eq!(judge(Series::V6_12, &early).errors().len(), 1);
        assert_eq!(judge(Series::V6_12, &text.replace("100 5030", "100 5041")).errors().len(), 1);
    }

    #[test]
    fn what_is_explained_is_written_up() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for row in EXPLAINED.iter().filter(|row| row.why.starts_with("docs/")) {
            assert!(docs.join(row.why).is_file(), "{} is missing", row.why);
        }
    }
}
