//! The program `iommu-watch`.

fn main() -> std::process::ExitCode {
    monitor::command::main()
}
