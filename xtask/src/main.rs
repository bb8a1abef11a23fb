//! The developer's commands: `cargo xtask <command>`.

use clap::{Parser, Subcommand};

mod ebpf;
mod paths;
mod toolchain;

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
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::BuildEbpf => ebpf::build().map(drop),
    }
}
