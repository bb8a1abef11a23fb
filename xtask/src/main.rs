//! The developer's commands: `cargo xtask <command>`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod ebpf;
mod paths;
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
    /// Build the eBPF object, by whatever toolchain this machine has
    BuildEbpf,
    /// Boot a kernel, run a script in it, give back its output and its exit code
    Vm(Box<vm::Arguments>),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::BuildEbpf => ebpf::build().map(|_| ExitCode::SUCCESS),
        Command::Vm(arguments) => vm::run(*arguments),
    }
}
