//! The status page, by a parser of HTML: all that is said of a host is text in it, whatever its names are made of; it loads
//! and runs nothing; and its size has a bound.

use std::sync::Arc;

use html5gum::{Token, Tokenizer};
use monitor::check::{Expectation, Settings};
use monitor::event::Task;
use monitor::report::metrics::Build;
use monitor::report::status::{self, Recent, View};
use monitor::report::{Clock, Context, NoStacks};
use monitor::watcher::{GroupState, Knowledge, Options, Owner, Watcher};

use crate::kernel::{Call, Era, task};
use crate::rig::{D1, NVME, OWNER, Rig, driver, options, vfio};

/// What would be markup if it weren't escaped.
const HOSTILE: &str = "</style></title><script src=//x onerror='a'>\"&lt;";

fn rig(settings: Settings) -> Rig {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.watcher = Watcher::new(Options { settings: settings.into(), ..options(Era::Handles) });
    rig.bootstrap();
    rig
}

/// A PASID that this task attaches is left at a release.
fn leave(rig: &mut Rig, by: &Task) {
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.calls(by, [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.idle(1_000_000_000);
}

struct Page {
    html: String,
    text: String,
}

fn page(rig: &mut Rig, host: &str, groups: Option<Vec<GroupState>>) -> Page {
    let groups = groups.unwrap_or_else(|| rig.watcher.groups());
    let mut recent = Recent::default();
    recent.note(&rig.reports);
    let clock = Clock { offset_ns: 1_795_353_000_000_000_000 };
    let context = Context { host, kernel: "6.12.117", synthetic: false, clock, stacks: &NoStacks };
    let html = status::page(&View {
        watcher: &rig.watcher,
        groups: &groups,
        recent: &recent,
        build: &Build { version: "0.1.0".into(), start_seconds: 0.0 },
        context: &context,
        now_ns: rig.kernel.now,
    });
    let text = text(&html);
    Page { html, text }
}

/// The text of a document that is well-formed, has no other tags and attributes than ours, and leads nowhere else.
#[track_caller]
fn text(html: &str) -> String {
    const TAGS: [&str; 30] = [
        "html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "footer",
        "h1", "h2", "h3", "p", "span", "dl", "div", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td",
        "ul", "li", "a", "time",
    ];
    let (mut open, mut text) = (Vec::new(), String::new());
    for token in Tokenizer::new(html) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                assert!(TAGS.contains(&name.as_str()), "<{name}>");
                for (attribute, value) in &tag.attributes {
                    let (attribute, value) =
                        (String::from_utf8_lossy(attribute), String::from_utf8_lossy(value));
                    match attribute.as_ref() {
                        "class" | "lang" | "charset" | "name" | "content" => {
                            assert!(
                                value.chars().all(|c| c.is_ascii_alphanumeric() || " -=,.".contains(c)),
                                "{value}"
                            );
                        }
                        "href" => assert!(
                            value.starts_with("/-/") || value.starts_with("/api/") || value == "/metrics",
                            "{value}"
                        ),
                        _ => panic!("<{name} {attribute}>"),
                    }
                }
                if name != "meta" {
                    open.push(name);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                assert_eq!(open.pop(), Some(name));
            }
            Token::String(part) => text.push_str(&String::from_utf8_lossy(&part)),
            Token::Doctype(_) => {}
            Token::Comment(_) | Token::Error(_) => panic!("{token:?}"),
        }
    }
    assert_eq!(open, [""; 0]);
    text
}

#[test]
fn a_host_where_nothing_is_wrong_says_so() {
    let mut rig = rig(Settings::default());
    let page = page(&mut rig, "node7", None);
    for part in [
        "node7",
        "Linux 6.12.117",
        "No violation stands",
        "None since the start.",
        "0000:01:00.0, 0000:01:00.1",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(!page.text.contains("Violations that stand"));
    for (check, _) in rig.watcher.checks() {
        assert!(page.text.contains(check.name), "{}", check.name);
    }
}

#[test]
fn what_stands_is_told_with_who_did_it_and_what_to_do_and_is_over_when_it_is() {
    let mut rig = rig(Settings::default());
    leave(&mut rig, &driver());
    let stands = page(&mut rig, "node7", None);
    for part in [
        "1 critical · node7",
        "Violations that stand",
        "pasid-left-on-release",
        "driver (pid 100)",
        "vfio (pid 201)",
        "iommu-watch checks pasid-left-on-release",
        "1 s ago",
    ] {
        assert!(stands.text.contains(part), "{part}: {}", stands.text);
    }
    rig.calls(&vfio(), [Call::Detach { device: NVME, pasid: 5, domain: D1 }, Call::Release { group: 7 }]);
    rig.idle(1_000_000_000);
    let over = page(&mut rig, "node7", None);
    assert!(over.text.contains("No violation stands") && over.text.contains("cleared, "), "{}", over.text);
}

#[test]
fn what_is_expected_is_no_alarm_and_says_why() {
    let expected = Expectation {
        check: "pasid-left-on-release",
        iommu_driver: None,
        group: Some(7),
        device: None,
        reason: HOSTILE.into(),
        until: "2027-03-31".parse().expect("a date"),
        until_mono_ns: u64::MAX,
    };
    let mut rig = rig(Settings { expected: vec![Arc::new(expected)], ..Settings::default() });
    leave(&mut rig, &driver());
    let page = page(&mut rig, "node7", None);
    let why = format!("Expected until 2027-03-31: {HOSTILE}");
    for part in ["No violation stands", "1 expected", "stands, expected", &why] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
}

#[test]
fn whatever_a_name_is_made_of_it_is_text() {
    let comm = "<b>\"'&\u{1b}[1m";
    let mut rig = rig(Settings::default());
    leave(&mut rig, &task(100, comm));
    let mut groups = rig.watcher.groups();
    groups[0].devices = vec![HOSTILE.into(), "a\u{202e}b\0".into()];
    groups[0].iommu_driver = Some(HOSTILE.into());
    let page = page(&mut rig, HOSTILE, Some(groups));
    // As a browser shows it: to the letter, and nothing that is unseen.
    assert!(page.text.contains(&format!("{HOSTILE}, a\u{fffd}b\u{fffd}")), "{}", page.text);
    assert!(page.text.contains("<b>\"'&?[1m (pid 100)"), "{}", page.text);
    assert_eq!(page.text.matches(HOSTILE).count(), 4, "title, heading, devices, driver: {}", page.text);
}

#[test]
fn it_holds_one_style_sheet_which_names_nothing_to_load() {
    let mut rig = rig(Settings::default());
    let page = page(&mut rig, "node7", None);
    assert!(page.html.contains(&format!("<style>{}</style>", status::STYLE)));
    for foreign in ["url(", "@import", "http:", "https:", "<"] {
        assert!(!status::STYLE.contains(foreign), "{foreign}");
    }
}

#[test]
fn however_large_the_host_the_page_is_not_and_shows_first_what_there_is_to_say() {
    let mut rig = rig(Settings::default());
    let like = rig.watcher.groups().remove(0);
    let names = |count| (0..count).map(|number| format!("{number}{}", "<".repeat(400))).collect();
    let groups: Vec<GroupState> = (0..5000)
        .map(|id| GroupState { id, devices: names(64), iommu_driver: Some("<".repeat(400)), ..like.clone() })
        .map(|group| match group.id {
            4998 => GroupState { owner: Some(Owner::User), ..group },
            4999 => GroupState { knowledge: Knowledge::Unknown, ..group },
            _ => group,
        })
        .collect();
    let page = page(&mut rig, &"<".repeat(400), Some(groups));
    assert!(page.html.len() < 1 << 20, "{} bytes", page.html.len());
    let at = |text: &str| page.html.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(
        at("<tr><td class=\"n\">4999<") < at("<tr><td class=\"n\">4998<")
            && at("<tr><td class=\"n\">4998<") < at("<tr><td class=\"n\">0<")
    );
    assert!(page.text.contains("4744 more are at /api/v1/groups"), "{}", page.text);
}
