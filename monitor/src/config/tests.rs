use super::*;
use crate::check::Severity;

const ONE: &str = "[[expected]]\niommu_driver = \"amd\"\ncheck = \"pasid-lost-on-detach\"\n\
                   reason = \"it has no PASIDs here\"\nuntil = 2027-03-31\n";
/// All that there is, as it is shipped.
const SAMPLE: &str = include_str!("../../../docs/iommu-watch.toml");

fn faults(text: &str) -> Vec<String> {
    let Faults(faults) = Config::parse(text).expect_err("it is wrong");
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_file_says_nothing() {
    assert_eq!(Config::parse(""), Ok(Config::default()));
}

/// As it is, and with every line of a key in force.
#[test]
fn the_sample_is_right_and_so_is_every_line_that_is_commented_out_in_it() {
    assert_eq!(Config::parse(SAMPLE), Ok(Config::default()), "it has the defaults");
    let in_force: Vec<&str> = SAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .collect();
    let config = Config::parse(&in_force.join("\n")).expect("well-formed");
    let checks = &config.checks;
    assert_eq!(config.listen, Some("127.0.0.1:9436".parse().expect("an address")));
    assert_eq!(config.audit, Some(Duration::from_secs(60)));
    assert_eq!((config.trampolines, config.submission_returns), (Some(true), Some(true)));
    assert_eq!(config.pin, Some(Pin::On));
    assert!(config.advisories.is_some());
    let limits = crate::outlet::limit::Limits::new(&config.output);
    assert_eq!(limits, crate::outlet::limit::Limits::default());
    assert_eq!((config.output.spool_mib, config.output.spool.is_some()), (Some(64), true));
    let push = config.push.as_ref().expect("a receiver");
    assert_eq!((push.kind, push.resend.as_secs(), push.timeout.as_secs()), (Kind::Alertmanager, 60, 10));
    assert!(push.ca_file.is_some() && push.credentials.is_some() && push.severity == Severity::Warning);
    assert_eq!((checks.off.len(), checks.severities.len(), checks.expected.len()), (1, 1, 2));
    for threshold in &crate::check::threshold::THRESHOLDS {
        let key = (threshold.check, threshold.key);
        assert_eq!(checks.thresholds.get(&key), Some(&threshold.default), "{key:?}");
    }
}

#[test]
fn pins_are_off_on_or_in_a_place_of_their_own() {
    let pin = |value: &str| Config::parse(&format!("[watch]\npin = {value}\n")).expect("well-formed").pin;
    assert_eq!([pin("true"), pin("false")], [Some(Pin::On), Some(Pin::Off)]);
    assert_eq!(pin("\"/sys/fs/bpf/mine\""), Some(Pin::At("/sys/fs/bpf/mine".into())));
    for wrong in ["1", "\"here\"", "\"\""] {
        let told = faults(&format!("[watch]\npin = {wrong}\n"));
        assert!(told.len() == 1 && told[0].starts_with("line 2: watch.pin = "), "{told:?}");
    }
}

#[test]
fn of_a_check_can_be_said_that_it_is_off_how_bad_it_is_and_its_thresholds() {
    let text = "[check.rid-switch-refused]\nenabled = false\n[check.sva-outlives-mm]\nenabled = true\n\
                severity = \"info\"\ngrace_seconds = 1_200\n";
    let Settings { off, severities, thresholds, .. } = Config::parse(text).expect("well-formed").checks;
    assert_eq!(off.into_iter().collect::<Vec<_>>(), ["rid-switch-refused"]);
    assert_eq!(severities.into_iter().collect::<Vec<_>>(), [("sva-outlives-mm", Severity::Info)]);
    assert_eq!(thresholds.into_iter().collect::<Vec<_>>(), [(("sva-outlives-mm", "grace_seconds"), 1200)]);
}

#[test]
fn a_check_that_is_off_by_default_is_asked_for_and_another_one_is_on_anyhow() {
    let config = |text: &str| Config::parse(text).expect("well-formed");
    let asking =
        config("[check.flush-range-short]\nenabled = true\n[check.sva-outlives-mm]\nenabled = true\n");
    assert_eq!(asking.asked.iter().copied().collect::<Vec<_>>(), ["flush-range-short"]);
    assert!(asking.summary().ends_with(", flush-range-short switched on"), "{}", asking.summary());
    assert_eq!(asking.checks, Settings::default());
    // Read again: what has to wait for the next start.
    let (silent, off) = (config(""), config("[check.flush-range-short]\nenabled = false\n"));
    assert_eq!(asking.asks_at_next_start(&silent), (vec!["flush-range-short"], vec![]));
    assert_eq!(silent.asks_at_next_start(&asking), (vec![], vec!["flush-range-short"]));
    assert_eq!(off.asks_at_next_start(&asking), (vec![], vec![]), "at once");
    assert_eq!(asking.asks_at_next_start(&asking), (vec![], vec![]));
    assert!(!asking.differs_at_start(&silent), "it is told by itself");
}

#[test]
fn what_is_expected_has_a_check_an_object_a_reason_and_an_end() {
    let config = Config::parse(ONE).expect("well-formed");
    let [expected] = config.checks.expected.as_slice() else { panic!("{config:?}") };
    assert_eq!((expected.check, expected.until.to_string()), ("pasid-lost-on-detach", "2027-03-31".into()));
    assert_eq!(expected.object(), "IOMMU driver amd");
    for (line, missing) in [
        ("reason = \"it has no PASIDs here\"\n", "line 1: expected.reason is missing"),
        ("until = 2027-03-31\n", "line 1: expected.until is missing"),
        ("check = \"pasid-lost-on-detach\"\n", "line 1: expected.check is missing"),
        ("iommu_driver = \"amd\"\n", "line 1: expected needs one at least of iommu_driver, group and device"),
    ] {
        let told = faults(&ONE.replace(line, ""));
        assert!(told.len() == 1 && told[0].starts_with(missing), "{told:?}");
    }
    let narrow = ONE.replace("iommu_driver = \"amd\"", "group = 7\ndevice = \"0000:01:00.0\"");
    let narrow = Config::parse(&narrow).expect("well-formed");
    assert_eq!(narrow.checks.expected[0].object(), "group 7, device 0000:01:00.0");
}

#[test]
fn all_that_is_wrong_is_told_at_once_each_with_its_line_its_key_and_what_is_allowed() {
    let text = "[web]\nlisten_address = \"here\"\n\n[watch]\naudit_seconds = -1\ntrampolines = \"no\"\n\
                [check.nonsense]\nenabled = false\n[check.sva-outlives-mm]\ngrace_seconds = 99999999999\n\
                severity = \"bad\"\ncolor = 1\n[[expected]]\ncheck = \"pasid-lost\"\niommu_driver = \" \"\n\
                group = 4294967296\nreason = \"\"\nuntil = 2027-03-31T00:00:00Z\n[colors]\n";
    let told = faults(text);
    let expected = [
        "line 2: web.listen_address = \"here\": an address with a port, as in \"127.0.0.1:9436\"",
        "line 5: watch.audit_seconds = -1: a whole number from 0 to 86400",
        "line 6: watch.trampolines = \"no\": true or false",
        "line 7: check.nonsense: no such check; `iommu-watch checks` lists them",
        "line 10: check.sva-outlives-mm.grace_seconds = 99999999999: a whole number from 0 to 2592000",
        "line 11: check.sva-outlives-mm.severity = \"bad\": \"critical\", \"warning\" or \"info\"",
        "line 12: check.sva-outlives-mm.color: no such key; allowed: enabled, severity, grace_seconds",
        "line 14: expected.check = \"pasid-lost\": no such check; `iommu-watch checks` lists them",
        "line 15: expected.iommu_driver = \" \": a driver's name, as in \"intel\", \"amd\" or \"arm-smmu-v3\"",
        "line 16: expected.group = 4294967296: a whole number from 0 to 4294967295",
        "line 17: expected.reason = \"\": why it is expected, in words for whoever reads the report",
        "line 18: expected.until = 2027-03-31T00:00:00Z: a day, as in 2027-03-31",
        "line 19: colors: no such key; allowed: web, watch, output, push, check, expected",
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_told_has_bounds_and_a_directory() {
    let told = faults(
        "[output]\ncheck_burst = 0\ncheck_per_minute = -1\nburst = \"1\"\nper_minute = 1000001\nspool = \"spool\"\n\
         spool_mib = 65537\nlines = 1\n",
    );
    let expected = [
        "line 2: output.check_burst = 0: a whole number from 1 to 1000000",
        "line 3: output.check_per_minute = -1: a whole number from 1 to 1000000",
        "line 4: output.burst = \"1\": a whole number from 1 to 1000000",
        "line 5: output.per_minute = 1000001: a whole number from 1 to 1000000",
        "line 6: output.spool = \"spool\": the absolute path of a directory",
        "line 7: output.spool_mib = 65537: a whole number from 0 to 65536",
        "line 8: output.lines: no such key; allowed: check_burst, check_per_minute, burst, per_minute, spool, spool_mib",
    ];
    assert_eq!(told, expected);
    let config = Config::parse("[output]\nburst = 7\nspool = \"/s\"\nspool_mib = 0\n").expect("well-formed");
    assert_eq!(
        config.output,
        Output { burst: Some(7), spool: Some("/s".into()), spool_mib: Some(0), ..Output::default() }
    );
    assert!(config.differs_at_start(&Config::default()));
}

#[test]
fn what_is_no_toml_is_told_with_its_lines() {
    let told = faults("[web\n\n[watch]\naudit_seconds =\nx = 1\nx = 2\n");
    assert!(told.len() >= 2 && told[0].starts_with("line 1: "), "{told:?}");
    assert!(told.iter().any(|fault| fault.starts_with("line 4: ")), "{told:?}");
    for text in
        ["web = 1\n", "check = [1]\n", "expected = 3\n", "expected = [4]\n", "[check]\nsva-outlives-mm = 1\n"]
    {
        let told = faults(text);
        assert!(told.len() == 1 && told[0].contains("a table") || told[0].contains("a list"), "{told:?}");
    }
}

/// What is told goes to a terminal and to a log: no command for the one, no second line for the other.
#[test]
fn what_a_file_holds_is_shown_in_short_and_on_one_line() {
    let long = "x".repeat(5000);
    for text in [
        format!("\"a\\u001b[31m\\nb{long}\" = 1\n"),
        format!("[web]\nlisten_address = \"\"\"\na\n\nb{long}\"\"\"\n"),
        format!("[check.\"\\u0007{long}\"]\n"),
    ] {
        let told = faults(&text);
        assert!(told[0].len() < 300 && !told[0].contains(char::is_control), "{told:?}");
    }
}

#[test]
fn whatever_it_is_it_is_refused_and_not_died_of() {
    for text in [
        "[".repeat(100_000),
        "a=".repeat(50_000),
        format!("a = {}", "[".repeat(200_000)),
        "a.".repeat(300_000),
    ] {
        assert!(Config::parse(&text).is_err());
    }
    let many: String = (0..5_000).map(|number| format!("k{number} = 1\n")).collect();
    let told = faults(&many);
    assert_eq!((told.len(), told.iter().any(|told| told == "and 4900 more")), (101, true));
}

#[test]
fn a_day_may_be_in_quotes_and_is_one_that_there_is() {
    assert!(Config::parse(&ONE.replace("2027-03-31", "\"2027-03-31\"")).is_ok());
    for wrong in ["\"soon\"", "\"2027-03-31T00:00:00\"", "\"2027-3-1\"", "2027", "\"2027-02-30\"", "12:00:00"]
    {
        assert!(Config::parse(&ONE.replace("2027-03-31", wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn the_last_day_counts_to_its_end() {
    let config = Config::parse(ONE).expect("well-formed");
    let at = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_nanosecond();
    assert_eq!(config.expectations_over(at("2027-03-31T23:59:59Z")).count(), 0);
    assert_eq!(config.expectations_over(at("2027-04-01T00:00:00Z")).count(), 1);
    // A host that was booted on the last day at 23:00, and one that was booted after it.
    let end = |booted: &str| {
        let offset = i64::try_from(at(booted)).expect("it fits");
        config.checks.clone().on_clock(offset).expected[0].until_mono_ns
    };
    assert_eq!(end("2027-03-31T23:00:00Z"), 3_600_000_000_000);
    assert_eq!(end("2027-04-02T00:00:00Z"), 0);
}

#[test]
fn only_a_regular_file_of_a_size_that_one_is_is_read() -> io::Result<()> {
    let folder = std::env::temp_dir().join(format!("iommu-watch-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("config.toml");
    let told = |path: &Path| Config::read(path).expect_err("it is refused").to_string();
    std::fs::write(&file, "#".repeat(1 << 20))?;
    assert_eq!(Config::read(&file), Ok(Config::default()));
    std::fs::write(&file, "#".repeat((1 << 20) + 1))?;
    assert_eq!(told(&file), "it is larger than 1 MiB");
    std::fs::write(&file, b"a\xff")?;
    assert_eq!(told(&file), "it is no UTF-8 from byte 1 on");
    assert_eq!(told(&folder), "it is no regular file");
    assert_eq!(told(Path::new("/dev/zero")), "it is no regular file");
    assert!(told(&folder.join("nothing")).contains("No such file"));
    std::fs::remove_dir_all(&folder)
}
