//! What the operator says: the flags of the command line over the configuration file over the defaults.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    aside::say,
    check::Settings,
    config::{Config, Faults, Pin},
    kernel::{clock, pins},
    live::Upkeep,
    web::{self, Current},
};

use super::{Audit, DaemonArguments, FAILED, Global, RIGHT};

/// Where the pages are served, if nobody says otherwise.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9436);
const AUDIT: Duration = Duration::from_secs(60);

impl Global {
    /// The configuration file, read once; without one, the one that says nothing.
    pub(super) fn config(&self) -> Result<&Config> {
        if let Some(known) = self.read.get() {
            return Ok(known);
        }
        let config = match &self.config {
            None => Config::default(),
            Some(file) => {
                let config = Config::read(file).with_context(|| format!("--config {}", file.display()))?;
                self.tell_expectations_over(file, &config);
                config
            }
        };
        Ok(self.read.get_or_init(|| config))
    }

    /// What is said of the checks, on this host's clock.
    pub(super) fn settings(&self) -> Result<Arc<Settings>> {
        Ok(Arc::new(self.over(&self.config()?.checks).on_clock(clock::wall_offset_ns())))
    }

    /// The flags over what a file says of the checks.
    pub(super) fn over(&self, checks: &Settings) -> Settings {
        let mut settings = checks.clone();
        if let Some(grace) = self.sva_grace {
            settings.thresholds.insert(("sva-outlives-mm", "grace_seconds"), grace.as_secs());
        }
        settings.off.retain(|name| !self.enable.iter().any(|asked| asked == name));
        settings
    }

    /// Of what was expected until a day that is over nothing is left but a word.
    pub(super) fn tell_expectations_over(&self, file: &Path, config: &Config) {
        let now = jiff::Timestamp::now().as_nanosecond();
        for over in config.expectations_over(now).filter(|_| !self.quiet) {
            say(&format!(
                "iommu-watch: {}: {} of {} was expected until {}: that is over",
                file.display(),
                over.check,
                super::one_line(&over.object()),
                over.until
            ));
        }
    }

    /// Of what a file that is read again says of checks that are off unless they are asked for: what has to wait, since
    /// their programs are attached at the start alone, when privileges are there still.
    pub(super) fn tell_asked_too_late(&self, file: &Path, config: &Config) {
        let Ok(first) = self.config() else { return };
        let (more, fewer) = config.asks_at_next_start(first);
        let on = more.into_iter().map(|name| (name, "on"));
        let off = fewer.into_iter().map(|name| (name, "off"));
        for (name, state) in on.chain(off).filter(|(name, _)| !self.enable.iter().any(|asked| asked == name))
        {
            say(&format!("iommu-watch: {}: {name} is {state} from the next start", file.display()));
        }
    }

    pub(super) fn advisories_file(&self) -> Result<Option<&PathBuf>> {
        Ok(self.advisories.as_ref().or(self.config()?.advisories.as_ref()))
    }

    pub(super) fn trampolines(&self) -> Result<bool> {
        Ok(!self.no_trampolines && self.config()?.trampolines.unwrap_or(true))
    }

    pub(super) fn submission_returns(&self) -> Result<bool> {
        Ok(!self.no_submission_returns && self.config()?.submission_returns.unwrap_or(true))
    }
}

impl Audit {
    pub(super) fn upkeep(&self, global: &Global) -> Result<Upkeep> {
        let every = self.every.or(global.config()?.audit).unwrap_or(AUDIT);
        Ok(Upkeep { audit: Some(every).filter(|every| !every.is_zero()), ..Upkeep::default() })
    }
}

impl DaemonArguments {
    /// Where programs and maps are pinned; `None`: nowhere.
    pub(super) fn pins(&self, global: &Global) -> Result<Option<PathBuf>> {
        if self.no_pins {
            return Ok(None);
        }
        let place = self.pin_directory.clone().map(Pin::At).or(global.config()?.pin.clone());
        Ok(match place {
            Some(Pin::Off) => None,
            Some(Pin::At(directory)) => Some(directory),
            Some(Pin::On) | None => Some(pins::PLACE.into()),
        })
    }

    /// Where the pages are served: where the service manager listens for us, else at an address of ours.
    pub(super) fn listeners(&self, global: &Global, handed: Vec<TcpListener>) -> Result<Vec<TcpListener>> {
        let asked = self.listen.or(global.config()?.listen);
        if handed.is_empty() {
            return Ok(vec![web::bind(asked.unwrap_or(LISTEN))?]);
        }
        if let Some(asked) = asked.filter(|_| !global.quiet) {
            eprintln!(
                "iommu-watch: the pages are served on the sockets of the service manager, and not on {asked}"
            );
        }
        Ok(handed)
    }

    pub(super) fn web_config_file<'a>(&'a self, global: &'a Global) -> Result<Option<&'a PathBuf>> {
        Ok(self.web_config.as_ref().or(global.config()?.web_config.as_ref()))
    }

    /// What the web configuration says, with all files that it names.
    pub(super) fn web_config(&self, global: &Global) -> Result<Current> {
        let file = self.web_config_file(global)?;
        Current::open(file.map(PathBuf::as_path)).with_context(|| {
            format!("--web.config.file {}", file.map_or(String::new(), |file| file.display().to_string()))
        })
    }
}

/// `daemon --config.check`: all that is wrong with the files, a line each, as compilers tell it.
pub fn check(global: &Global, arguments: &DaemonArguments) -> Result<u8> {
    let mut web = arguments.web_config.clone();
    if global.config.is_none() && web.is_none() {
        bail!("--config.check: of which file? name it by --config FILE or --web.config.file FILE");
    }
    let mut code = RIGHT;
    if let Some(file) = &global.config {
        match Config::read(file) {
            Ok(config) => {
                global.tell_expectations_over(file, &config);
                tell_valid(global, file, &config.summary())?;
                web = web.or(config.web_config);
            }
            Err(faults) => code = tell_faults(file, &faults),
        }
    }
    if let Some(file) = &web {
        match Current::open(Some(file)) {
            Ok(current) => tell_valid(global, file, &current.settings().summary)?,
            Err(faults) => code = tell_faults(file, &faults),
        }
    }
    Ok(code)
}

fn tell_valid(global: &Global, file: &Path, summary: &str) -> Result<()> {
    if !global.quiet {
        super::output::put(&format!("{}: valid: {summary}\n", file.display()))?;
    }
    Ok(())
}

fn tell_faults(file: &Path, faults: &Faults) -> u8 {
    for fault in &faults.0 {
        let line = fault.line.map_or(String::new(), |line| format!(":{line}"));
        eprintln!("{}{line}: {}", file.display(), fault.what);
    }
    FAILED
}
