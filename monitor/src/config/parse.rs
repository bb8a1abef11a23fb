//! What the keys of the configuration file are, and what they may be. `docs/iommu-watch.toml` has them all.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::civil::Date;
use toml::{
    de::DeTable,
    value::{Date as Day, Datetime},
};

use crate::check::{self, Expectation, Severity, threshold};

use super::{
    Config, Fault, Pin, push,
    walk::{Place, Value, Walk, one_line},
};

/// A day in seconds: how long a group may go without being read again.
const DAY: u64 = 24 * 60 * 60;
/// How many lines may be told at once, or in a minute.
const LINES: (u64, u64) = (1, 1_000_000);
/// What a spool may hold at most, in MiB.
const MOST_SPOOLED: u64 = 64 * 1024;

/// All that is there, and all that is wrong with it.
pub(super) fn parse(text: &str) -> (Config, Vec<Fault>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk::new(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        walk.fault(at, one_line(error.message()));
    }
    let mut config = Config::default();
    // Of what is no TOML, what follows from that is not told as well.
    if errors.is_empty() {
        root(document.get_ref(), &mut config, &mut walk);
    }
    (config, walk.faults)
}

fn root(table: &DeTable<'_>, config: &mut Config, walk: &mut Walk<'_>) {
    for (key, value) in table {
        let place = Place::new("", key.get_ref(), value);
        match key.get_ref().as_ref() {
            "web" => web(&place, config, walk),
            "watch" => watch(&place, config, walk),
            "output" => output(&place, config, walk),
            "push" => config.push = push::parse(&place, walk),
            "check" => checks(&place, config, walk),
            "expected" => expected(&place, config, walk),
            _ => walk.unknown("", key, &["web", "watch", "output", "push", "check", "expected"]),
        }
    }
}

fn web(section: &Place<'_, '_>, config: &mut Config, walk: &mut Walk<'_>) {
    for (key, value) in walk.table(section).into_iter().flatten() {
        let place = Place::new(&section.path, key.get_ref(), value);
        match key.get_ref().as_ref() {
            "listen_address" => {
                config.listen =
                    walk.word(&place, "an address with a port, as in \"127.0.0.1:9436\"", |text| {
                        text.parse().ok()
                    });
            }
            "config_file" => config.web_config = walk.text(&place, "the path of a file").map(PathBuf::from),
            _ => walk.unknown(&section.path, key, &["listen_address", "config_file"]),
        }
    }
}

fn watch(section: &Place<'_, '_>, config: &mut Config, walk: &mut Walk<'_>) {
    for (key, value) in walk.table(section).into_iter().flatten() {
        let place = Place::new(&section.path, key.get_ref(), value);
        match key.get_ref().as_ref() {
            "audit_seconds" => config.audit = walk.number(&place, (0, DAY)).map(Duration::from_secs),
            "trampolines" => config.trampolines = walk.flag(&place),
            "submission_returns" => config.submission_returns = walk.flag(&place),
            "pin" => config.pin = pin(&place, walk),
            "advisories" => config.advisories = walk.text(&place, "the path of a file").map(PathBuf::from),
            _ => walk.unknown(
                &section.path,
                key,
                &["audit_seconds", "trampolines", "submission_returns", "pin", "advisories"],
            ),
        }
    }
}

fn output(section: &Place<'_, '_>, config: &mut Config, walk: &mut Walk<'_>) {
    let output = &mut config.output;
    for (key, value) in walk.table(section).into_iter().flatten() {
        let place = Place::new(&section.path, key.get_ref(), value);
        match key.get_ref().as_ref() {
            "check_burst" => output.check_burst = walk.number(&place, LINES),
            "check_per_minute" => output.check_per_minute = walk.number(&place, LINES),
            "burst" => output.burst = walk.number(&place, LINES),
            "per_minute" => output.per_minute = walk.number(&place, LINES),
            "spool" => output.spool = walk.path(&place, "the absolute path of a directory"),
            "spool_mib" => output.spool_mib = walk.number(&place, (0, MOST_SPOOLED)),
            _ => walk.unknown(
                &section.path,
                key,
                &["check_burst", "check_per_minute", "burst", "per_minute", "spool", "spool_mib"],
            ),
        }
    }
}

fn pin(place: &Place<'_, '_>, walk: &mut Walk<'_>) -> Option<Pin> {
    let value = place.value.get_ref();
    let directory = |text: &str| text.starts_with('/').then(|| Pin::At(text.into()));
    let pin = match value.as_bool() {
        Some(true) => Some(Pin::On),
        Some(false) => Some(Pin::Off),
        None => value.as_str().and_then(directory),
    };
    if pin.is_none() {
        walk.wrong(place, "true, false or the path of a directory in bpffs");
    }
    pin
}

fn checks(section: &Place<'_, '_>, config: &mut Config, walk: &mut Walk<'_>) {
    for (key, value) in walk.table(section).into_iter().flatten() {
        let place = Place::new(&section.path, key.get_ref(), value);
        match check::find(key.get_ref()) {
            Some(check) => one_check(check.spec().name, &place, config, walk),
            None => walk.fault(
                key.span().start,
                format!("{}: no such check; `iommu-watch checks` lists them", place.path),
            ),
        }
    }
}

fn one_check(name: &'static str, section: &Place<'_, '_>, config: &mut Config, walk: &mut Walk<'_>) {
    for (key, value) in walk.table(section).into_iter().flatten() {
        let place = Place::new(&section.path, key.get_ref(), value);
        let known = threshold::of(name).find(|threshold| threshold.key == key.get_ref());
        match (key.get_ref().as_ref(), known) {
            (_, Some(threshold)) => {
                let number = walk.number(&place, threshold.bounds);
                config.checks.thresholds.extend(number.map(|number| ((name, threshold.key), number)));
            }
            ("enabled", None) => match walk.flag(&place) {
                Some(false) => _ = config.checks.off.insert(name),
                Some(true) if check::is_on_demand(name) => _ = config.asked.insert(name),
                _ => {}
            },
            ("severity", None) => {
                let severity = walk.word(&place, "\"critical\", \"warning\" or \"info\"", Severity::named);
                config.checks.severities.extend(severity.map(|severity| (name, severity)));
            }
            (_, None) => {
                let mut allowed = vec!["enabled", "severity"];
                allowed.extend(threshold::of(name).map(|threshold| threshold.key));
                walk.unknown(&section.path, key, &allowed);
            }
        }
    }
}

fn expected(section: &Place<'_, '_>, config: &mut Config, walk: &mut Walk<'_>) {
    let Some(list) = section.value.get_ref().as_array() else {
        return walk.wrong(section, "a list of tables, each begun by [[expected]]");
    };
    for value in list {
        let place = Place { path: section.path.clone(), value };
        let expectation = one_expected(&place, walk);
        config.checks.expected.extend(expectation.map(Arc::new));
    }
}

fn one_expected(section: &Place<'_, '_>, walk: &mut Walk<'_>) -> Option<Expectation> {
    let (mut check, mut iommu_driver, mut group, mut device) = (None, None, None, None);
    let (mut reason, mut until) = (None, None);
    let table = walk.table(section)?;
    for (key, value) in table {
        let place = Place::new(&section.path, key.get_ref(), value);
        match key.get_ref().as_ref() {
            "check" => {
                let found = |name: &str| check::find(name).map(|check| check.spec().name);
                check = walk.word(&place, "no such check; `iommu-watch checks` lists them", found);
            }
            "iommu_driver" => {
                iommu_driver =
                    walk.text(&place, "a driver's name, as in \"intel\", \"amd\" or \"arm-smmu-v3\"");
            }
            "group" => {
                group =
                    walk.number(&place, (0, u32::MAX.into())).and_then(|number| u32::try_from(number).ok());
            }
            "device" => device = walk.text(&place, "a device's name, as in \"0000:01:00.0\""),
            "reason" => {
                reason = walk.text(&place, "why it is expected, in words for whoever reads the report");
            }
            "until" => until = day(&place, walk),
            _ => walk.unknown(
                &section.path,
                key,
                &["check", "iommu_driver", "group", "device", "reason", "until"],
            ),
        }
    }
    // A key that is there and wrong was told already.
    let has = |name: &str| table.iter().any(|(key, _)| key.get_ref() == name);
    for (name, what) in [
        ("check", "whose violations are expected"),
        ("reason", "why, in words for whoever reads the report"),
        ("until", "its last day, as in 2027-03-31"),
    ] {
        if !has(name) {
            walk.fault(section.value.span().start, format!("{}.{name} is missing: {what}", section.path));
        }
    }
    if !["iommu_driver", "group", "device"].into_iter().any(has) {
        let what = "needs one at least of iommu_driver, group and device; a check that is wanted nowhere is switched off \
                    by [check.NAME] enabled = false";
        walk.fault(section.value.span().start, format!("{} {what}", section.path));
    }
    let (check, reason, until) = (check?, reason?, until?);
    Some(Expectation { check, iommu_driver, group, device, reason, until, until_mono_ns: 0 })
}

/// A day, as TOML writes it or in quotes.
fn day(place: &Place<'_, '_>, walk: &mut Walk<'_>) -> Option<Date> {
    let day = written_day(place.value);
    if day.is_none() {
        walk.wrong(place, "a day, as in 2027-03-31");
    }
    day
}

fn written_day(value: &Value<'_>) -> Option<Date> {
    if let Some(text) = value.get_ref().as_str() {
        return text.parse().ok().filter(|date: &Date| date.to_string() == text);
    }
    match value.get_ref().as_datetime()? {
        Datetime { date: Some(Day { year, month, day }), time: None, offset: None } => {
            let [month, day] = [*month, *day].map(|part| i8::try_from(part).ok());
            Date::new(i16::try_from(*year).ok()?, month?, day?).ok()
        }
        _ => None,
    }
}
