//! Runs scenarios on kernels: few guests, several at a time, a verdict for each pair.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::At;
use crate::proof::Proofs;
use crate::scenario::{self, Report, Scenario, Setting};
use crate::{Error, Result, Script, Series, Vm};

/// On top of the scenarios: boot, modules, end.
const BOOT: Duration = Duration::from_secs(90);

/// What a run of the matrix is given.
#[derive(Debug)]
pub struct Options<'a> {
    /// The static binary under test.
    pub iommu_watch: &'a Path,
    /// Its Debian package, for the guests that have a Debian.
    pub package: &'a Path,
    /// Where consoles and outputs are kept.
    pub artefacts: &'a Path,
    /// Only these kernels.
    pub kernels: &'a [Series],
    /// How many guests at a time.
    pub guests: usize,
}

#[derive(Debug)]
pub struct Verdict {
    pub scenario: &'static str,
    pub series: Series,
    /// Why it failed.
    pub result: Result<(), String>,
    /// It failed by a loss of events alone, and is run once more.
    pub again: bool,
    /// How long its script ran, by the guest's clock, s; None: it didn't come to its end.
    pub seconds: Option<u64>,
    /// What the scenario wrote.
    pub log: PathBuf,
}

/// One guest, and the scenarios that it runs in turn.
#[derive(Debug)]
struct Boot<'a> {
    series: Series,
    setting: Setting,
    scenarios: Vec<&'a Scenario>,
    /// These ran before, and events were lost.
    again: bool,
}

/// Runs every scenario on each of its kernels that is asked for; `tell` hears of each verdict as it falls.
/// Gives back the verdicts, and what those that passed prove.
///
/// A kernel may leave out a run of a program at any moment, as when another task comes in the middle of it on the same
/// CPU. The product says so, and holds its tongue; of what it should have found such a run shows nothing. So a
/// scenario runs once more where a loss of events explains all that is amiss: what was told and should not have been is
/// never explained by it.
pub fn run(
    scenarios: &[Scenario],
    options: &Options<'_>,
    tell: &(dyn Fn(&Verdict) + Sync),
) -> (Vec<Verdict>, Proofs) {
    let boots = Mutex::new(plan(scenarios, options.kernels));
    let verdicts = Mutex::new(Vec::new());
    let proofs = Mutex::new(Proofs::default());
    thread::scope(|scope| {
        for _ in 0..options.guests.max(1) {
            scope.spawn(|| {
                loop {
                    // In a `while let` the lock would be held while the guest runs, and there would be one at a time.
                    let Some(boot) = lock(&boots).pop_front() else { break };
                    for (verdict, scenario) in boot.run(options, &proofs).into_iter().zip(&boot.scenarios) {
                        tell(&verdict);
                        if verdict.again {
                            let scenarios = vec![*scenario];
                            lock(&boots).push_back(Boot { scenarios, again: true, ..boot });
                        } else {
                            lock(&verdicts).push(verdict);
                        }
                    }
                }
            });
        }
    });
    let proofs = proofs.into_inner().unwrap_or_else(PoisonError::into_inner);
    (verdicts.into_inner().unwrap_or_else(PoisonError::into_inner), proofs)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scenarios of one kernel and one setting share a guest, unless one wants to be alone.
fn plan<'a>(scenarios: &'a [Scenario], kernels: &[Series]) -> VecDeque<Boot<'a>> {
    let mut boots: Vec<Boot<'_>> = Vec::new();
    for scenario in scenarios {
        for &series in scenario.kernels.iter().filter(|series| kernels.contains(series)) {
            let shared = boots.iter_mut().find(|boot| {
                !scenario.setting.alone && boot.series == series && boot.setting == scenario.setting
            });
            match shared {
                Some(boot) => boot.scenarios.push(scenario),
                None => {
                    let (setting, scenarios) = (scenario.setting, vec![scenario]);
                    boots.push(Boot { series, setting, scenarios, again: false });
                }
            }
        }
    }
    // The long ones first, so that none is left to run by itself at the end.
    boots.sort_by_key(|boot| std::cmp::Reverse(boot.scenarios.len()));
    boots.into()
}

impl Boot<'_> {
    fn run(&self, options: &Options<'_>, proofs: &Mutex<Proofs>) -> Vec<Verdict> {
        let first = self.scenarios.first().map_or("none", |scenario| scenario.name);
        let mut vm = Vm::new(self.series)
            .iommu(self.setting.iommu)
            .append(self.setting.append)
            .debian(self.setting.debian)
            .console(options.artefacts.join(format!("{}-{first}.console", self.series)))
            .timeout(BOOT + self.scenarios.iter().map(|scenario| scenario.limit).sum::<Duration>())
            .script(Script::Text(self.script()));
        vm = match self.setting.debian {
            true => vm.add(options.package, "/debian/root/iommu-watch.deb"),
            false => vm.add(options.iommu_watch, "/bin/iommu-watch"),
        };
        for device in self.setting.devices {
            vm = vm.device(*device);
        }
        for module in self.setting.modules {
            vm = vm.module(*module);
        }
        for module in self.setting.test_modules {
            vm = vm.test_module(*module);
        }
        let (output, failure) = match vm.run() {
            Ok(outcome) => (outcome.output, None),
            Err(error) => {
                let message = error.to_string();
                match error {
                    Error::Died { output, .. } | Error::Timeout { output, .. } => (output, Some(message)),
                    _ => (String::new(), Some(message)),
                }
            }
        };
        self.scenarios
            .iter()
            .map(|scenario| self.judge(scenario, &output, failure.as_deref(), options, proofs))
            .collect()
    }

    fn judge(
        &self,
        scenario: &Scenario,
        output: &str,
        failure: Option<&str>,
        options: &Options<'_>,
        proofs: &Mutex<Proofs>,
    ) -> Verdict {
        let (text, end) = section(output, scenario.name);
        let log = options.artefacts.join(format!("{}-{}.log", self.series, scenario.name));
        let written = fs::write(&log, text).at(&log).map_err(|error| error.to_string());
        let result = written.and_then(|()| {
            let exit = end.ok_or(failure.unwrap_or("the guest never came to it"))?.code;
            let report = Report { series: self.series, exit, text: text.into() };
            (scenario.expect)(&report)?;
            lock(proofs).take(scenario, &report);
            Ok(())
        });
        let seconds = end.map(|end| end.seconds);
        let again = !self.again && result.as_ref().is_err_and(|why| scenario::is_a_loss(why));
        Verdict { scenario: scenario.name, series: self.series, result, again, seconds, log }
    }

    /// Runs the scenarios in turn, each in a directory of its own, with marks around what it writes.
    fn script(&self) -> String {
        self.scenarios
            .iter()
            .map(|Scenario { name, limit, .. }| {
                let limit = limit.as_secs();
                format!(
                    "mkdir -p /tmp/{name}; cd /tmp/{name}\n\
                     echo; echo '{}'\n\
                     begun=$(cut -d. -f1 /proc/uptime)\n\
                     timeout {limit} sh /guest/scenarios/{name}.sh\n\
                     code=$?; echo; echo \"{}$code $(($(cut -d. -f1 /proc/uptime) - begun))\"\n",
                    begin(name),
                    end(name)
                )
            })
            .collect()
    }
}

fn begin(name: &str) -> String {
    format!("@@ begin {name}")
}

fn end(name: &str) -> String {
    format!("@@ end {name} ")
}

/// How a script ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    code: i32,
    seconds: u64,
}

impl End {
    fn of(line: &str) -> Option<Self> {
        let (code, seconds) = line.split_once(' ')?;
        Some(Self { code: code.parse().ok()?, seconds: seconds.trim_end().parse().ok()? })
    }
}

/// What scenario `name` wrote, and how it came to its end where it did.
fn section<'a>(output: &'a str, name: &str) -> (&'a str, Option<End>) {
    let Some((_, rest)) = output.split_once(&format!("\n{}\n", begin(name))) else { return ("", None) };
    match rest.split_once(&format!("\n{}", end(name))) {
        Some((text, rest)) => (text, rest.lines().next().and_then(End::of)),
        None => (rest, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(name: &'static str, kernels: &'static [Series], setting: Setting) -> Scenario {
        Scenario { name, kernels, setting, limit: Scenario::SHORT, expect: |_| Ok(()) }
    }

    fn options(dir: &Path) -> Options<'_> {
        Options { iommu_watch: dir, package: dir, artefacts: dir, kernels: &Series::ALL, guests: 1 }
    }

    #[test]
    fn scenarios_of_one_setting_share_a_guest_on_each_kernel() {
        let alone = Setting { alone: true, ..Setting::PLAIN };
        let scenarios = [
            scenario("a", &Series::ALL, Setting::PLAIN),
            scenario("b", &[Series::V7], Setting::PLAIN),
            scenario("c", &[Series::V7], alone),
            scenario("d", &[Series::V7], alone),
        ];
        let boots = plan(&scenarios, &Series::ALL);
        assert_eq!(boots.len(), 5);
        assert_eq!((boots[0].series, boots[0].scenarios.len()), (Series::V7, 2));
    }

    #[test]
    fn each_scenario_gets_its_own_part_of_the_output() {
        let output = "\n@@ begin a\none\n\n@@ end a 0 12\n\n@@ begin b\ntwo\n";
        assert_eq!(section(output, "a"), ("one\n", Some(End { code: 0, seconds: 12 })));
        assert_eq!(section(output, "b"), ("two\n", None));
        assert_eq!(section(output, "c"), ("", None));
    }

    #[test]
    fn a_scenario_runs_once_more_by_a_loss_of_events_alone() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path());
        let again = |expect, again| {
            let scenario = Scenario { expect, ..scenario("a", &[Series::V7], Setting::PLAIN) };
            let boot =
                Boot { series: Series::V7, setting: Setting::PLAIN, scenarios: vec![&scenario], again };
            boot.judge(&scenario, "\n@@ begin a\n\n@@ end a 0 1\n", None, &options, &Mutex::default()).again
        };
        let lost: fn(&Report) -> _ = |_| Err("one: missing: violation x\none: events were lost".into());
        let told: fn(&Report) -> _ = |_| Err("one: too many: violation x\none: events were lost".into());
        let failed: fn(&Report) -> _ = |_| Err("one: missing: violation x".into());
        assert_eq!([again(lost, false), again(lost, true)], [true, false]);
        assert_eq!([again(told, false), again(failed, false)], [false, false]);
    }

    #[test]
    fn a_scenario_that_was_cut_off_fails_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let scenarios = [scenario("a", &[Series::V7], Setting::PLAIN)];
        let options = options(dir.path());
        let verdict = plan(&scenarios, &Series::ALL)[0].judge(
            &scenarios[0],
            "\n@@ begin a\nhalf",
            Some("the guest died"),
            &options,
            &Mutex::default(),
        );
        assert_eq!(verdict.result.unwrap_err(), "the guest died");
        assert_eq!(fs::read_to_string(verdict.log).unwrap(), "half");
    }
}
