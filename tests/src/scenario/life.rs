//! `doctor`, `commands`, `life`: each command by itself.

use serde_json::Value;

use super::Report;
use super::expect::{self, Expect, Violation};
use super::transcript::{Phase, Transcript};
use super::{audit, harmless, refusals, reload};
use crate::Series;

/// All checks are armed, but on the kernel whose core has no PASIDs, and what a driver can't say.
pub fn doctor(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    let code = if report.series == Series::V6_1 { 1 } else { 0 };
    for (phase, code) in [("doctor", code), ("every-driver", code), ("checks", 0), ("explained", 0)] {
        ends_with(transcript.phase(phase)?, &[code])?;
    }
    let json = transcript.phase("doctor")?.of_kind("doctor").next().ok_or("there is no JSON")?;
    advisories(report.series, &json["advisories"])?;
    let states = json["checks"].as_array().ok_or("there are no checks")?;
    let armed = harmless::armed(report.series);
    for state in states {
        let check = state["check"].as_str().unwrap_or_default();
        let reason = state["reason"].as_str().unwrap_or_default();
        let right = match armed.contains(&check) {
            true => state["state"] == "armed",
            false if check == "flush-range-short" => state["state"] == "off" && reason.contains("--enable"),
            // Up to 6.13 the driver can't say it; up to 6.19 the core takes no part in resets.
            false if ["driver-detach-failed", "reset-unpaired"].contains(&check) => {
                state["state"] == "not-applicable"
            }
            // The driver of 6.1 keeps no cache tags.
            false if ["devtlb-tag-missing", "cache-tag-leaked"].contains(&check) => {
                state["state"] == "not-applicable"
            }
            false => state["state"] == "unavailable" && reason.contains("keeps no account of PASIDs"),
        };
        if !right {
            return Err(format!("doctor says {state}"));
        }
    }
    none_lost(json, Some("no amd IOMMU on this host"))?;
    // AMD's driver is in every one of these kernels: with its hooks asked for, they are loaded and attached.
    let every = transcript.phase("every-driver")?.of_kind("doctor").next().ok_or("there is no JSON")?;
    none_lost(every, None)?;
    if !hooks(every)?.iter().any(|hook| hook["hook"] == "amd_completion_wait" && hook["backend"] == "kprobe")
    {
        return Err("the returns of AMD's waiting are not seen".into());
    }
    // These kernels have the highest rung of the ladder for every hook: a lower one would hide what is refused there.
    let programs = json["programs"].as_array().ok_or("there are no programs")?;
    let name = |program: &Value| program["program"].as_str().unwrap_or_default().to_owned();
    let lower: Vec<String> = programs
        .iter()
        .map(name)
        .filter(|name| !["_fentry", "_fexit", "_tp"].iter().any(|suffix| name.ends_with(suffix)))
        .collect();
    if lower.is_empty() { Ok(()) } else { Err(format!("programs of a lower rung: {lower:?}")) }
}

fn hooks(doctor: &Value) -> Result<&Vec<Value>, String> {
    doctor["hooks"].as_array().ok_or("there are no hooks".into())
}

/// Every hook is attached that this kernel has; `idle`: but those of a driver that has no hardware here.
fn none_lost(doctor: &Value, idle: Option<&str>) -> Result<(), String> {
    let absent = ["not in this kernel", "not asked for"];
    let right = |hook: &Value| {
        hook["reason"].as_str().is_some_and(|reason| absent.contains(&reason) || Some(reason) == idle)
    };
    let lost: Vec<_> =
        hooks(doctor)?.iter().filter(|hook| hook["backend"] == "none" && !right(hook)).collect();
    if !lost.is_empty() {
        return Err(format!("hooks that could not be attached: {lost:?}"));
    }
    let left_out =
        hooks(doctor)?.iter().any(|hook| hook["backend"] == "none" && hook["reason"].as_str() == idle);
    if idle.is_some() && !left_out {
        return Err("no hook was left out that has nothing to see here".into());
    }
    Ok(())
}

/// The known defects of these kernels, by what their types tell; `doctor` lists those that don't tell, too.
fn advisories(series: Series, json: &Value) -> Result<(), String> {
    let told = json["told"].as_array().ok_or("there are no advisories")?;
    let of = |verdict: &str| -> Vec<&str> {
        let of_it = told.iter().filter(|told| told["verdict"] == verdict);
        of_it.filter_map(|told| told["id"].as_str()).collect()
    };
    let untold = ["vtd-torn-pasid-teardown", "vtd-torn-context-teardown", "vtd-pasid-table-published-early"];
    let (affected, undecided): (&[&str], Vec<&str>) = match series {
        Series::V6_1 => (&[LIFETIME], ["sva-stale-kernel-translations"].into_iter().chain(untold).collect()),
        Series::V6_12 => (&[], untold.into()),
        Series::V7 => (&[], Vec::new()),
    };
    if of("affected") == affected && of("undecided") == undecided {
        Ok(())
    } else {
        Err(format!("of known defects doctor says {told:?}"))
    }
}

/// The defect of 6.1 that its types tell.
const LIFETIME: &str = "vtd-page-request-device-lifetime";

/// Exactly what is known of this kernel was raised, and nothing else.
fn advised<'a>(series: Series, violations: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    let found: Vec<(&Value, &Value)> =
        violations.map(|line| (&line["check"], &line["evidence"]["read"][0]["value"][0])).collect();
    let expected = match series {
        Series::V6_1 => vec![(Value::from(expect::ADVISORY), Value::from(LIFETIME))],
        Series::V6_12 | Series::V7 => Vec::new(),
    };
    let same = found.iter().copied().eq(expected.iter().map(|(check, id)| (check, id)));
    if same { Ok(()) } else { Err(format!("of the kernel is raised {found:?}, not {expected:?}")) }
}

/// Nothing is wrong, and every command says so.
pub fn commands(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    for phase in ["check", "check-json", "check-prom", "watch"] {
        ends_with(transcript.phase(phase)?, &[0])?;
    }
    let check = one_shot_json(transcript.phase("check-json")?)?;
    // The one-shot knows of the kernel's defects, and they don't change its exit code.
    advised(report.series, check["violations"].as_array().into_iter().flatten())?;
    for (phase, planted) in [("affected", vec!["planted"]), ("fixed", vec![])] {
        let phase = transcript.phase(phase)?;
        ends_with(phase, &[0])?;
        let found = one_shot_json(phase)?["violations"].as_array().into_iter().flatten();
        let found: Vec<_> =
            found.map(|line| (&line["check"], &line["evidence"]["read"][0]["value"][0])).collect();
        let same = found.iter().all(|(check, _)| **check == expect::ADVISORY)
            && found.iter().map(|(_, id)| id.as_str()).eq(planted.iter().copied().map(Some));
        if !same {
            return Err(format!("{}: found {found:?}, not {planted:?}", phase.name));
        }
    }
    let groups = check["groups"].as_array().ok_or("there are no groups")?;
    let group = transcript.phase("check-json")?.group_of("0000:01:00.0")?;
    let known = groups.iter().find(|known| known["group"] == group).ok_or("a group is missing")?;
    if known["devices"] != serde_json::json!(["0000:01:00.0"]) || known["knowledge"] != "synced" {
        return Err(format!("the group of the NVMe is not what it is: {known}"));
    }
    let scraped = transcript.phase("check-prom")?.metric("groups{knowledge=\"synced\"}");
    if scraped != groups.len() as f64 {
        return Err(format!("{} groups in JSON, {scraped} in the metrics", groups.len()));
    }
    // The draft of the file is gone.
    report.says("\n/tmp/check.prom\n")?;
    if report.text.contains("/tmp/check.prom.") {
        return Err("a draft of the metrics is left".into());
    }
    report.says(" < release_group ")
}

/// The daemon's pages, what it shows of a group that is claimed and let go, and its end.
pub fn life(report: &Report) -> Result<(), String> {
    let lines = report.of_kind("violation");
    advised(report.series, lines.iter().filter(|line| line["check"] == expect::ADVISORY))?;
    let stop = match report.series {
        Series::V6_1 => Expect::clean("stop", &[]),
        Series::V6_12 | Series::V7 => Expect::clean("stop", &[]).raises(Violation {
            check: "pasid-left-on-release",
            group_of: Some("softdev.0"),
            devices: &["softdev.0"],
            pasids: &[5],
            attached_by: Some("tenant"),
            triggered_by: Some("owner"),
            implied: &["ownership-stuck"],
        }),
    };
    let strayed = Violation {
        check: "domain-off-default",
        group_of: Some("softdev.0"),
        devices: &["softdev.0"],
        pasids: &[],
        attached_by: None,
        triggered_by: Some("owner"),
        implied: &[],
    };
    let unplugged = Expect::clean("unplugged", &[("group_release", 1)]);
    let unplugged = match report.series {
        Series::V6_1 => unplugged,
        Series::V6_12 | Series::V7 => unplugged.raises(audit::released("softdev.0", &["softdev.0"], &[6])),
    };
    let refused = |who| harmless::conflict("softdev.0", &["softdev.0"], who);
    let rows = [
        Expect::clean("pages", &[]),
        Expect::clean("port", &[]),
        Expect::clean("claimed", &[("claim_group", 1), ("attach_group", 1), ("rid_attach", 2)]),
        Expect::clean("let-go", &[("release_group", 1), ("detach_group", 1), ("rid_attach", 2)]),
        Expect::clean("refused", &[("claim_group", 4), ("use_default_domain", 3)])
            .raises(refused("rival"))
            .raises(refused("tenant")),
        Expect::clean("refused-by-driver", &[("claim_group", 1), ("use_default_domain", 1)])
            .raises(refused("rival")),
        Expect::clean("strayed", &[("unuse_default_domain", 1)]).raises(strayed),
        Expect::clean("back", &[("unuse_default_domain", 1)]).resolves(
            "domain-off-default",
            Some("softdev.0"),
            "cleared",
        ),
        Expect::clean("granted", &[("claim_group", 1), ("use_default_domain", 1)]),
        reload::switched_off(),
        Expect::clean("expected", &[("unuse_default_domain", 1)]).raises(strayed),
        Expect::clean("bad-file", &[]),
        // The same one is told again.
        Expect::clean("expected-no-more", &[]).raises(strayed),
        Expect::clean("mended", &[("unuse_default_domain", 1)]).resolves(
            "domain-off-default",
            Some("softdev.0"),
            "cleared",
        ),
        Expect::clean("unplugged-clean", &[("group_release", 1)]),
        unplugged,
        Expect::clean("plugged", &[]),
        stop,
    ];
    expect::phases(report, harmless::armed(report.series), &rows)?;

    let transcript = Transcript::read(&report.text);
    reload::judge(&transcript)?;
    // Six pages that there are, and one that isn't.
    ends_with(transcript.phase("pages")?, &[0, 0, 0, 0, 0, 0, 1])?;
    refusals::one(transcript.phase("port")?, &["--web.listen-address", "in use"])?;
    for phase in ["refused", "refused-by-driver"] {
        harmless::names_the_owner(transcript.phase(phase)?)?;
    }
    for (phase, ownership, count, domain) in
        [("claimed", "user", 1, "unmanaged"), ("let-go", "free", 0, "dma")]
    {
        let group = softdev(transcript.phase(phase)?)?;
        let kind = group["domain"]["kind"].as_str().unwrap_or_default();
        if group["ownership"] != ownership || group["owner_cnt"] != count || !kind.starts_with(domain) {
            return Err(format!("{phase}: the group shows as {group}"));
        }
    }
    Ok(())
}

/// What the one-shot said in this phase.
pub fn one_shot_json(phase: &Phase) -> Result<&Value, String> {
    phase.of_kind("check").next().ok_or_else(|| format!("{}: there is no JSON", phase.name))
}

/// The group of softdev.0 on /api/v1/groups.
fn softdev(phase: &Phase) -> Result<&Value, String> {
    let number = phase.group_of("softdev.0")?;
    let page = phase.of_kind("groups").next().ok_or("there is no page of groups")?;
    let groups = page["is"].as_array().ok_or("the page of groups is no list")?;
    groups
        .iter()
        .find(|group| group["group"] == number)
        .ok_or_else(|| format!("group {number} is not on the page"))
}

pub fn ends_with(phase: &Phase, codes: &[i32]) -> Result<(), String> {
    if phase.exits == codes {
        Ok(())
    } else {
        Err(format!("{}: the exit codes were {:?}, not {codes:?}", phase.name, phase.exits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `doctor` of a kernel that keeps account of PASIDs, with one check and one hook; and with every driver's.
    fn judged(state: &str, backend: &str, program: &str, of_every: &str) -> Result<(), String> {
        advised_of("fixed", state, backend, program, of_every)
    }

    fn advised_of(
        advisory: &str,
        state: &str,
        backend: &str,
        program: &str,
        of_every: &str,
    ) -> Result<(), String> {
        let text = format!(
            "@ phase doctor\n{{\"kind\":\"doctor\",\"checks\":[{{\"check\":\"ownership-stuck\",\"state\":\"{state}\"}}],\
             \"advisories\":{{\"told\":[{{\"id\":\"x\",\"verdict\":\"{advisory}\"}}]}},\
             \"hooks\":[{{\"hook\":\"x\",\"backend\":\"{backend}\",\"reason\":\"refused\"}},\
             {{\"hook\":\"y\",\"backend\":\"none\",\"reason\":\"no amd IOMMU on this host\"}}],\
             \"programs\":[{{\"program\":\"{program}\"}}]}}\n@ exit 0\n\
             @ phase every-driver\n{{\"kind\":\"doctor\",\"hooks\":[\
             {{\"hook\":\"amd_completion_wait\",\"backend\":\"{of_every}\",\"reason\":\"no amd IOMMU on this host\"}}]}}\n\
             @ exit 0\n@ phase checks\n@ exit 0\n@ phase explained\n@ exit 0\n"
        );
        doctor(&Report { series: Series::V7, exit: 0, text })
    }

    #[test]
    fn doctor_arms_the_checks_and_misses_no_hook() {
        judged("armed", "fentry", "x_fexit", "kprobe").unwrap();
        judged("degraded", "fentry", "x_fexit", "kprobe").unwrap_err();
        judged("armed", "none", "x_fexit", "kprobe").unwrap_err();
        judged("armed", "fentry", "x_raw", "kprobe").unwrap_err();
        judged("armed", "fentry", "x_fexit", "none").unwrap_err();
        advised_of("affected", "armed", "fentry", "x_fexit", "kprobe").unwrap_err();
        advised_of("undecided", "armed", "fentry", "x_fexit", "kprobe").unwrap_err();
    }
}
