//! The status page in a browser: a headless Chromium without a network renders the page of a recording, wide and narrow.
//! There is no script on it that could be switched off. The pictures stay among the artefacts, for people.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::log::Log;
use crate::test::Tally;
use crate::{paths, setup};

/// By which names distributions have it.
const BROWSERS: [&str; 3] = ["chromium-headless-shell", "chromium", "chromium-browser"];
const PACKAGE: &str = "chromium-headless-shell";
const RECORDING: &str = "monitor/tests/recordings/golden/7.iwrec";
/// What the page is made of.
const HEADINGS: [&str; 4] = ["Violations that stand", "Groups", "Recent violations", "Checks"];
/// Of a window, in pixels.
const SIZES: [(&str, &str); 2] = [("wide", "1280,1600"), ("narrow", "360,1600")];
/// A page that shows something takes so many times the bytes of a white one, in a picture of the same size.
const MORE_THAN_WHITE: u64 = 5;

pub fn run(log: &Log) -> Result<Tally> {
    let installed = || BROWSERS.into_iter().find(|name| setup::runs(Command::new(name).arg("--version")));
    let browser = match installed() {
        Some(browser) => browser,
        None if setup::may_install() => {
            setup::install(&[PACKAGE])?;
            installed().context("it was installed, and does not run")?
        }
        None => return Ok(Tally::skipped("there is no Chromium: the status page was not rendered")),
    };
    let served = Served::start(log)?;
    let directory = paths::artefacts().join("status-page");
    fs::create_dir_all(&directory).context("can't make the directory for the pictures")?;
    let page = format!("http://{}/", served.address);
    let rendered = Command::new(browser).args(options(&directory)).args(["--dump-dom", &page]).output()?;
    let wrong = missing(&String::from_utf8_lossy(&rendered.stdout), &served.get("/api/v1/violations")?)?;
    let mut ok = wrong.is_empty();
    wrong.iter().for_each(|wrong| println!("      not on the page: {wrong}"));
    for (name, size) in SIZES {
        let picture = |of: &str, page: &str| -> Result<u64> {
            let file = directory.join(format!("{of}.png"));
            let mut command = Command::new(browser);
            command.args(options(&directory)).arg(format!("--window-size={size}"));
            command.arg(format!("--screenshot={}", file.display())).arg(page);
            ensure!(log.run(&mut command)?, "{browser} failed");
            Ok(fs::metadata(&file).with_context(|| format!("no picture {}", file.display()))?.len())
        };
        let (shown, white) = (picture(name, &page)?, picture("white", "about:blank")?);
        println!("      {}: {shown} bytes, a white one {white}", directory.join(name).display());
        ok &= shown > MORE_THAN_WHITE * white;
    }
    Ok(Tally::of(ok))
}

/// No other host, and a profile of its own.
fn options(directory: &Path) -> [String; 7] {
    [
        "--headless".into(),
        // As root, in a container, there are no namespaces to be had.
        "--no-sandbox".into(),
        "--disable-gpu".into(),
        "--disable-dev-shm-usage".into(),
        "--hide-scrollbars".into(),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1".into(),
        format!("--user-data-dir={}", directory.join("profile").display()),
    ]
}

/// What should be in the document as the browser has it, and isn't.
fn missing(document: &str, violations: &str) -> Result<Vec<String>> {
    let violations: Vec<Value> = serde_json::from_str(violations).context("/api/v1/violations is no JSON")?;
    ensure!(!violations.is_empty(), "no violation stands in {RECORDING}: there is nothing to be seen");
    let checks = violations.iter().filter_map(|violation| violation["check"].as_str());
    let summaries = violations.iter().filter_map(|violation| violation["summary"].as_str());
    let summaries = summaries.map(|summary| summary.replace('&', "&amp;").replace('<', "&lt;"));
    let wanted = HEADINGS.into_iter().chain(checks).map(str::to_owned).chain(summaries);
    let mut wrong: Vec<String> = wanted.filter(|wanted| !document.contains(wanted.as_str())).collect();
    if document.contains("<script") {
        wrong.push("a page without scripts".into());
    }
    Ok(wrong)
}

/// The pages of a recording, served by an example of the product.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn start(log: &Log) -> Result<Served> {
        let cargo = ["build", "--locked", "--package", "monitor", "--example", "serve"];
        ensure!(log.run(Command::new("cargo").args(cargo))?, "the example `serve` can't be built");
        let mut process = Command::new(paths::target_dir().join("debug/examples/serve"))
            .arg(paths::workspace().join(RECORDING))
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .context("can't run the example `serve`")?;
        let mut said = BufReader::new(process.stdout.take().context("no stdout")?).lines();
        let address = said.find_map(|line| Some(line.ok()?.strip_prefix("serving on ")?.to_owned()));
        let mut served = Served { process, address: String::new() };
        served.address = address.context("it says no address")?;
        Ok(served)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").context("an answer without a body")?.1.to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_does_not_show_is_told() {
        let violations = r#"[{"check": "ownership-stuck", "summary": "group 7 & its owner"}]"#;
        let page = HEADINGS.join(" ") + " ownership-stuck group 7 &amp; its owner";
        assert!(missing(&page, violations).unwrap().is_empty());
        assert_eq!(missing(&page.replace("its", "an"), violations).unwrap(), ["group 7 &amp; its owner"]);
        assert_eq!(missing(&page.replace("Checks", ""), violations).unwrap(), ["Checks"]);
        assert_eq!(missing(&(page.clone() + "<script>"), violations).unwrap(), ["a page without scripts"]);
        assert!(missing(&page, "[]").is_err());
    }
}
