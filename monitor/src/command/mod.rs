//! The command line: what can be asked for. One file for each command; what two of them need is not
//! here but below.

mod check;
mod checks;
mod configuration;
mod conformance;
mod daemon;
mod doctor;
mod huge_pages;
mod output;
mod pages;
mod pins;
mod pulse;
mod record;
mod replay;
mod service;
mod sight;
mod teller;
mod values;
mod watch;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::OnceLock, time::Duration};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use monitor_ebpf::wire::Hook;

use crate::{
    advisory, check as registry,
    config::Config,
    kernel::{
        attach::Cost,
        host,
        probes::{Means, Plan, SLOW},
        sysfs::Sysfs,
    },
    watcher::{Filter, Options},
};

use values::{check_name, milliseconds, opt_in_name, seconds, size};

/// Nothing is wrong.
const RIGHT: u8 = 0;
/// A warning or critical violation, or the like for the command.
const WRONG: u8 = 1;
/// It could not be done.
const FAILED: u8 = 2;

#[derive(Parser)]
#[command(
    name = "iommu-watch",
    version,
    about = "Runtime invariant monitor for the Linux IOMMU",
    long_about = "Runtime invariant monitor for the Linux IOMMU.\n\nWithout a command it reads the kernel's IOMMU \
                  state once, holds it against the checks, and prints a short report (the same as `check`)."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    global: Global,
}

/// What the command line takes, for man pages and completions.
pub fn definition() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

#[derive(Subcommand)]
enum Command {
    /// Read the kernel's IOMMU state now and hold it against the checks
    Check,
    /// Attach and watch until stopped: JSON lines on stdout, metrics over HTTP
    Daemon(DaemonArguments),
    /// Show events and violations as they come, a line each; or those of a recording
    Watch(WatchArguments),
    /// Record what happens to a file, for a time or until stopped, and say what is found meanwhile
    Record(RecordArguments),
    /// Hold a recording against the checks, on any host
    Replay {
        /// The recording; `-` for stdin
        file: PathBuf,
    },
    /// Say what can be seen on this kernel: privileges, hooks, checks
    Doctor(doctor::Arguments),
    /// Say of each IOMMU driver whether it keeps the rules of the API
    #[command(subcommand)]
    Conformance(conformance::Command),
    /// List the checks, or explain one
    Checks {
        /// The check to explain
        name: Option<String>,
    },
}

#[derive(Args)]
struct Global {
    /// How to print
    #[arg(long, global = true, value_enum)]
    format: Option<Format>,
    /// With `--format prom`: write to this file, in one piece, for a textfile collector
    #[arg(long, global = true, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only this group (repeatable)
    #[arg(long = "group", global = true, value_name = "N")]
    groups: Vec<u32>,
    /// Only this device, as in 0000:01:00.0 (repeatable)
    #[arg(long = "device", global = true, value_name = "BDF")]
    devices: Vec<String>,
    /// Only this check (repeatable)
    #[arg(long = "check", global = true, value_name = "NAME", value_parser = check_name)]
    checks: Vec<String>,
    /// Switch a check on that is off by default (repeatable). There is one: flush-range-short, which adds some 3,500
    /// instructions to each unmap that is flushed at once (a map and an unmap of a page take 7,800 without)
    #[arg(long, global = true, value_name = "NAME", value_parser = opt_in_name)]
    enable: Vec<String>,
    /// The configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What it says, once it was read.
    #[arg(skip)]
    read: OnceLock<Config>,
    /// Known defects of kernels, from a file that is newer than the one that is built in
    #[arg(long, global = true, value_name = "FILE")]
    advisories: Option<PathBuf>,
    /// How long a process that has exited may stay bound to a device before that is a warning [default: 600]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = seconds)]
    sva_grace: Option<Duration>,
    /// How long an invalidation may take before that is a violation [default: 10]
    #[arg(long, global = true, value_name = "MILLISECONDS", value_parser = milliseconds)]
    flush_slow: Option<Duration>,
    /// Colour the text
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Attach by kprobes and raw tracepoints only, for a kernel whose trampolines (fentry) can't be used
    #[arg(long, global = true)]
    no_trampolines: bool,
    /// Leave the program out that sees what submissions to the IOMMU's queue return, the dearest on the hot path: then
    /// failures and durations of invalidations are not seen
    #[arg(long, global = true)]
    no_submission_returns: bool,
    /// Say more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only what is wrong
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl Global {
    fn filter(&self) -> Filter {
        Filter { groups: self.groups.clone(), devices: self.devices.clone(), checks: self.checks.clone() }
    }

    /// What is watched, and on which host.
    fn options(&self) -> anyhow::Result<Options> {
        let identity = host::identity();
        Ok(Options {
            settings: self.settings()?,
            host: identity.host,
            kernel: identity.kernel,
            boot_id: identity.boot_id,
            filter: self.filter(),
            ..Options::default()
        })
    }

    /// What to attach for a command that wants these hooks.
    fn plan(&self, wanted: fn(Hook) -> bool) -> anyhow::Result<Plan> {
        let log_level = match self.verbose {
            0 => aya_log::Level::Warn,
            1 => aya_log::Level::Info,
            _ => aya_log::Level::Debug,
        };
        let means = if self.trampolines()? { Means::Best } else { Means::NoTrampolines };
        let submission_returns = self.submission_returns()?;
        let flush_slow = self.flush_slow.unwrap_or(SLOW);
        let (drivers, advisories) = (Sysfs::default().drivers(), Some(self.advisories()?));
        let demanded = self.demanded()?;
        Ok(Plan { wanted, means, drivers, demanded, submission_returns, flush_slow, log_level, advisories })
    }

    /// The hooks of the checks that are off by default and were asked for, here or in the file.
    fn demanded(&self) -> anyhow::Result<Vec<Hook>> {
        let named = self.enable.iter().map(String::as_str).chain(self.config()?.asked.iter().copied());
        let asked = named.filter_map(registry::find);
        Ok(asked.flat_map(|check| check.spec().needs.hooks()).filter(|hook| hook.on_demand()).collect())
    }

    /// The known defects of kernels: as built in, or of a newer file.
    fn advisories(&self) -> anyhow::Result<advisory::Data> {
        match self.advisories_file()? {
            None => Ok(advisory::Data::built_in()?),
            Some(file) => {
                advisory::Data::read(file).with_context(|| format!("--advisories {}", file.display()))
            }
        }
    }

    /// With -v, which programs made attaching long.
    fn tell_costs(&self, costs: &[Cost]) {
        if self.verbose > 0 {
            costs.iter().take(DEAREST).for_each(|cost| eprintln!("iommu-watch: {cost}"));
        }
    }
}

/// How many programs are told of.
const DEAREST: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Prom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Args)]
struct DaemonArguments {
    /// Where to serve /metrics and the rest [default: 127.0.0.1:9436]
    #[arg(long = "web.listen-address", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// TLS, client certificates, users with passwords: a file in the format of Prometheus' exporter-toolkit
    #[arg(long = "web.config.file", value_name = "FILE")]
    web_config: Option<PathBuf>,
    /// Say all that is wrong with the files of --config and --web.config.file, each with its line, and start nothing
    #[arg(long = "config.check")]
    config_check: bool,
    /// Where in bpffs the programs, their maps and what is known stay pinned, so that the next start goes on where this one
    /// ended [default: /sys/fs/bpf/iommu-watch]
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "no_pins")]
    pin_directory: Option<PathBuf>,
    /// Pin nothing: with the process all that it attached goes
    #[arg(long)]
    no_pins: bool,
    /// Remove what a daemon has left pinned, say what that was, and start nothing
    #[arg(long)]
    unpin: bool,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Args)]
struct Audit {
    /// Read every group from the kernel again about every so many seconds; 0: never [default: 60]
    #[arg(long = "audit", value_name = "SECONDS", value_parser = seconds)]
    every: Option<Duration>,
}

#[derive(Args)]
struct WatchArguments {
    /// A recording; `-` for stdin
    #[arg(conflicts_with = "duration")]
    file: Option<PathBuf>,
    /// Stop after this many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    #[command(flatten)]
    audit: Audit,
}

#[derive(Args)]
struct RecordArguments {
    /// The file to record to; it must not be there yet, or be empty
    #[arg(short = 'o', value_name = "FILE")]
    file: PathBuf,
    /// Stop after this many seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// The greatest size of the file, as in 512K, 64M or 1G; when it is reached another is begun
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64M")]
    max_size: u64,
    /// How many full files to keep beside it, as FILE.1 (the latest), FILE.2 and so on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=1000))]
    keep: u32,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    audit: Audit,
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let global = &cli.global;
    let done = match &cli.command {
        None | Some(Command::Check) => check::run(global),
        Some(Command::Daemon(arguments)) => daemon::run(global, arguments),
        Some(Command::Watch(arguments)) => watch::run(global, arguments),
        Some(Command::Record(arguments)) => record::run(global, arguments),
        Some(Command::Replay { file }) => replay::run(global, file, replay::Show::Verdict),
        Some(Command::Doctor(arguments)) => doctor::run(global, arguments),
        Some(Command::Conformance(command)) => conformance::run(global, command),
        Some(Command::Checks { name }) => checks::run(global, name.as_deref()),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("iommu-watch: {}", one_line(&explain(&error)));
            ExitCode::from(FAILED)
        }
    }
}

/// The error with its causes, each said once: many a message holds its cause already.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Help and version as they are; what is wrong in one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Nobody is left to tell if even that can't be written.
        let _ = error.print();
        return ExitCode::from(RIGHT);
    }
    let text = error.to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default().split("\n\nFor more information").next();
    let told = told.unwrap_or_default().trim_start_matches("error: ");
    eprintln!("iommu-watch: {}; see `iommu-watch --help`", one_line(told));
    ExitCode::from(FAILED)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = anyhow::anyhow!("No such file");
        assert_eq!(
            explain(&inner.context("/sys/x: No such file; mount it")),
            "/sys/x: No such file; mount it"
        );
        let inner = anyhow::anyhow!("No such file");
        assert_eq!(explain(&inner.context("--output /x")), "--output /x: No such file");
    }

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
