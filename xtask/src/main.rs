//! The developer's commands: `cargo xtask <command>`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod browser;
mod build;
mod cross;
mod dashboards;
mod demo;
mod docs;
mod ebpf;
mod fetch;
mod log;
mod long_run;
mod packaging;
mod paths;
mod proof;
mod setup;
mod test;
mod toolchain;
mod vm;

#[derive(Parser)]
#[command(name = "xtask", about = "The developer's commands of iommu-watch")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the userspace path: events a second, memory, readings of the kernel's state
    Bench(bench::Arguments),
    /// Build the eBPF object, by whatever toolchain this machine has
    BuildEbpf,
    /// Show a violation, from nothing: set up, build, boot, misbehave, explain
    Demo,
    /// Write the pages and rules that come out of the checks and metrics
    Docs(docs::Arguments),
    /// Bring QEMU and the kernels into the cache, and say what is there
    Fetch,
    /// Watch a kernel on which everything is done at once that may be done, for ten minutes
    LongRun(long_run::Arguments),
    /// Make what ships: the static binary, a Debian package, a tarball
    Package(packaging::Arguments),
    /// Install what the builds need (as root on Debian), or say what is missing
    Setup,
    /// Everything CI runs; the last line is `N passed, N failed`
    Test(test::Arguments),
    /// Boot a kernel, run a script in it, give back its output and its exit code
    Vm(Box<vm::Arguments>),
}

/// The exit code where a command could not do its work at all; other codes are those of what it ran.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BuildEbpf => ebpf::build().map(|_| ExitCode::SUCCESS),
        Command::Demo => demo::run(),
        Command::Docs(arguments) => docs::run(&arguments),
        Command::Fetch => fetch::run().map(done),
        Command::LongRun(arguments) => long_run::run(&arguments),
        Command::Package(arguments) => packaging::run(&arguments),
        Command::Setup => setup::ensure_all().map(done),
        Command::Test(arguments) => test::run(&arguments),
        Command::Vm(arguments) => vm::run(*arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(FAILED)
    })
}
