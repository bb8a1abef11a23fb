//! Scratch.
use monitor::kernel::{probes, ring::Ring, snapshot, clock};
fn main() {
    let t0 = clock::monotonic_ns();
    let mut p = match probes::attach(aya_log::Level::Info, |_| true) { Ok(p) => p, Err(e) => { eprintln!("iommu-watch: {e}"); std::process::exit(2) } };
    println!("attached in {} ms", (clock::monotonic_ns()-t0)/1_000_000);
    let n = p.coverage.iter().filter(|(_, s)| matches!(s, monitor::coverage::HookState::Attached{..})).count(); println!("hooks {n}");
    for (h, s) in p.coverage.iter() { println!("{:28} {:?}", h.name(), s); }
    let mut r = Ring::new(&mut p).unwrap();
    println!("{:?}", snapshot::request_all(std::path::Path::new("/sys/kernel/iommu_groups")));
    let end = clock::monotonic_ns() + 1_000_000_000 * std::env::args().nth(1).map_or(1, |a| a.parse().unwrap());
    while clock::monotonic_ns() < end {
        while let Some(e) = r.next() { println!("{e:?}"); }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    println!("{:?}", r.counts());
}
