//! What a script of phases wrote, as data. `tests/guest/lib.sh` writes it.
//!
//! Lines that begin with `@` are told by the script, those that begin with `{` are the product's JSON, those
//! that begin with `iommu_watch_` its metrics at the end of the phase. All else is for the reader.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

#[derive(Debug, Default)]
pub struct Transcript {
    phases: Vec<Phase>,
    /// The names of the tasks that the script sent out, by their PIDs.
    tasks: BTreeMap<u64, String>,
}

/// What happened between one `@ phase` and the next.
#[derive(Debug, Default, Clone)]
pub struct Phase {
    pub name: String,
    /// `@ group DEVICE NUMBER`, of this phase or an earlier one.
    groups: BTreeMap<String, u64>,
    /// The devices of which that was told in this phase itself.
    pub devices: BTreeSet<String>,
    /// `@ warned FUNCTION`: where the kernel warned.
    pub warned: Vec<String>,
    /// `@ counted FUNCTION NUMBER`: calls, by the kernel's own count.
    pub counted: BTreeMap<String, f64>,
    /// `@ watched CALL NUMBER`: calls in the lines of `watch`.
    pub watched: BTreeMap<String, f64>,
    /// `@ status MEMBER VALUE`, of /proc/PID/status.
    pub status: BTreeMap<String, String>,
    /// `@ notified STATE`: what the daemon told its service manager.
    pub notified: Vec<String>,
    /// `@ exit CODE`, of each command that the script wanted it told of.
    pub exits: Vec<i32>,
    /// `@ said LINE`: on the standard error of a command that was refused.
    pub said: Vec<String>,
    /// `@ output BYTES`: how much that command wrote to its standard output.
    pub output: Option<u64>,
    /// `@ broken WHAT`: what around the daemon is broken in this phase.
    pub broken: Option<String>,
    /// `@ wrote DIRECTORY`: where it was let write.
    pub wrote: Vec<String>,
    /// `@ left FILE`: what should not be there.
    pub left: Vec<String>,
    /// The metrics at its end, by name and labels as they are written.
    pub metrics: BTreeMap<String, f64>,
    pub json: Vec<Value>,
}

impl Transcript {
    pub fn read(text: &str) -> Self {
        let mut transcript = Self::default();
        let mut phase = Phase::default();
        for line in text.lines() {
            if let Some(told) = line.strip_prefix("@ ") {
                let words: Vec<&str> = told.split_whitespace().collect();
                if let ["phase", name] = words[..] {
                    let groups = phase.groups.clone();
                    transcript.close(std::mem::take(&mut phase));
                    phase = Phase { name: name.into(), groups, ..Phase::default() };
                } else if let ["task", name, pid] = words[..] {
                    transcript.tasks.insert(pid.parse().unwrap_or(0), name.into());
                } else {
                    phase.told(&words);
                }
            } else if line.starts_with('{') {
                phase.json.extend(serde_json::from_str::<Value>(line).ok());
            } else if let Some(metric) = line.strip_prefix("iommu_watch_")
                && let Some((series, value)) = metric.rsplit_once(' ')
            {
                phase.metrics.insert(series.into(), value.parse().unwrap_or(f64::NAN));
            }
        }
        transcript.close(phase);
        transcript
    }

    /// What was written before the first phase belongs to none.
    fn close(&mut self, phase: Phase) {
        if !phase.name.is_empty() {
            self.phases.push(phase);
        }
    }

    pub fn phase(&self, name: &str) -> Result<&Phase, String> {
        self.phases.iter().find(|phase| phase.name == name).ok_or(format!("there is no phase `{name}`"))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.phases.iter().map(|phase| phase.name.as_str())
    }

    /// How many calls the product saw in this phase.
    pub fn calls(&self, phase: &Phase, hook: &str) -> f64 {
        let series = format!("events_total{{event=\"{hook}\"}}");
        let before = self.phases.iter().take_while(|other| other.name != phase.name).last();
        phase.metric(&series) - before.map_or(0.0, |before| before.metric(&series))
    }

    /// Whether the product saw any call in this phase, its own reads of the kernel apart.
    pub fn saw_calls(&self, phase: &Phase) -> bool {
        let before = self.phases.iter().take_while(|other| other.name != phase.name).last();
        let call = |series: &str| {
            series.starts_with("events_total{") && !series.starts_with("events_total{event=\"snapshot_")
        };
        let mut events = phase.metrics.iter().filter(|(series, _)| call(series));
        events.any(|(series, &now)| now > before.map_or(0.0, |before| before.metric(series)))
    }

    /// The name of the task behind `{comm, pid, tgid}`. One that the script did not send out, or by another
    /// name, can be told from it.
    pub fn task(&self, actor: &Value) -> Option<String> {
        let comm = actor["comm"].as_str()?;
        let known = self.tasks.get(&actor["pid"].as_u64()?).is_some_and(|name| name == comm);
        if known && actor["pid"] == actor["tgid"] {
            Some(comm.into())
        } else {
            Some(format!("{comm}[{} of {}]", actor["pid"], actor["tgid"]))
        }
    }
}

impl Phase {
    fn told(&mut self, words: &[&str]) {
        match *words {
            ["group", device, number] => {
                self.groups.insert(device.into(), number.parse().unwrap_or(u64::MAX));
                self.devices.insert(device.into());
            }
            ["warned", function] => self.warned.push(function.into()),
            ["counted", function, number] => {
                self.counted.insert(function.into(), number.parse().unwrap_or(f64::NAN));
            }
            ["watched", call, number] => {
                self.watched.insert(call.into(), number.parse().unwrap_or(f64::NAN));
            }
            ["status", member, value] => {
                self.status.insert(member.into(), value.into());
            }
            ["notified", ..] => self.notified.push(words[1..].join(" ")),
            ["exit", code] => self.exits.push(code.parse().unwrap_or(i32::MIN)),
            ["output", bytes] => self.output = bytes.parse().ok(),
            ["wrote", directory] => self.wrote.push(directory.into()),
            ["left", file] => self.left.push(file.into()),
            ["broken", ..] => self.broken = Some(words[1..].join(" ")),
            ["said", ..] => self.said.push(words[1..].join(" ")),
            _ => {}
        }
    }

    /// 0 where there is no such line: the script leaves zeros out.
    pub fn metric(&self, series: &str) -> f64 {
        self.metrics.get(series).copied().unwrap_or(0.0)
    }

    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.json.iter().filter(move |line| line["kind"] == kind)
    }

    /// The checks that were armed at its end.
    pub fn armed(&self) -> impl Iterator<Item = &str> {
        let armed = self.metrics.iter().filter(|&(_, &value)| value == 1.0).map(|(series, _)| series);
        armed.filter_map(|series| {
            series.strip_prefix("check_state{check=\"")?.strip_suffix("\",state=\"armed\"}")
        })
    }

    /// The violations of what was planted, and of what must not be: all but those that the kernel commits by itself
    /// whenever it likes ([`is_stray_find`]).
    pub fn violations(&self) -> impl Iterator<Item = &Value> {
        self.of_kind("violation").filter(|line| !is_stray_find(line))
    }

    /// The number of the group that the script told this device to be in.
    pub fn group_of(&self, device: &str) -> Result<u64, String> {
        self.groups.get(device).copied().ok_or(format!("the group of {device} was not told"))
    }

    /// The device that the script told to be in this group.
    pub fn device_in(&self, group: u64) -> String {
        let named = self.groups.iter().find(|(_, number)| **number == group);
        named.map_or(format!("group {group}"), |(device, _)| device.clone())
    }
}

/// A find (docs/finds/vtd-kva-flush-refused.md) that comes at no moment of the script's: 7.x flushes the kernel's half
/// of every SVA domain when it frees page tables of its own, with an address mask that the IOMMU refuses.
pub(crate) fn is_stray_find(line: &Value) -> bool {
    let stack = line["triggered_by"]["stack"].as_array().into_iter().flatten().filter_map(Value::as_str);
    line["check"] == "invalidation-failed"
        && line["severity"] == "warning"
        && stack.into_iter().any(|frame| frame.starts_with("iommu_sva_invalidate_kva_range+"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "before\n\
        @ phase one\n@ task owner 12\n@ group softdev.0 7\niommu_watch_events_total{event=\"claim_group\"} 2\n\
        {\"kind\":\"violation\"}\n@ warned f\n\
        @ phase two\niommu_watch_events_total{event=\"claim_group\"} 5\n@ counted f 3\n@ exit 0\n";

    #[test]
    fn a_text_falls_into_its_phases() {
        let transcript = Transcript::read(TEXT);
        assert_eq!(transcript.names().collect::<Vec<_>>(), ["one", "two"]);
        let [one, two] = ["one", "two"].map(|name| transcript.phase(name).unwrap());
        assert_eq!(one.of_kind("violation").count(), 1);
        assert_eq!(one.warned, ["f"]);
        assert_eq!((two.json.len(), two.counted["f"]), (0, 3.0));
        assert_eq!(two.exits, [0]);
        assert!(transcript.phase("three").is_err());
    }

    #[test]
    fn only_the_flush_of_the_kernels_half_is_a_find_that_strays() {
        let told = |severity: &str, frame: &str| {
            json!({"kind": "violation", "check": "invalidation-failed", "severity": severity,
                   "triggered_by": {"stack": ["qi_batch_flush_descs+0x25", frame]}})
        };
        let kva = "iommu_sva_invalidate_kva_range+0x8f";
        let json = vec![told("warning", kva), told("critical", kva), told("warning", "iommu_unmap+0x81")];
        let phase = Phase { json, ..Phase::default() };
        let kept: Vec<&Value> = phase.violations().collect();
        assert_eq!(kept, phase.json.iter().skip(1).collect::<Vec<_>>());
    }

    #[test]
    fn calls_are_counted_by_phase() {
        let transcript = Transcript::read(TEXT);
        let [one, two] = ["one", "two"].map(|name| transcript.phase(name).unwrap());
        assert_eq!(transcript.calls(one, "claim_group"), 2.0);
        assert_eq!(transcript.calls(two, "claim_group"), 3.0);
        assert_eq!(transcript.calls(two, "release_group"), 0.0);
    }

    #[test]
    fn a_task_is_known_by_its_name_and_its_pid() {
        let transcript = Transcript::read(TEXT);
        let task = |comm: &str, pid: u64, tgid: u64| {
            transcript.task(&json!({"comm": comm, "pid": pid, "tgid": tgid})).unwrap()
        };
        assert_eq!(task("owner", 12, 12), "owner");
        assert_eq!(task("owner", 13, 13), "owner[13 of 13]");
        assert_eq!(task("tenant", 12, 12), "tenant[12 of 12]");
        assert_eq!(task("owner", 12, 11), "owner[12 of 11]");
        assert_eq!(transcript.task(&Value::Null), None);
    }

    #[test]
    fn a_group_is_known_from_where_it_was_told() {
        let transcript = Transcript::read(TEXT);
        let two = transcript.phase("two").unwrap();
        assert_eq!(two.device_in(7), "softdev.0");
        assert_eq!(two.device_in(8), "group 8");
    }
}
