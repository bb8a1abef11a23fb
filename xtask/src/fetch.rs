//! `cargo xtask fetch`: brings QEMU and the kernels into the cache, and says what is there.

use anyhow::Result;
use testbed::Series;
use testbed::busybox::Busybox;
use testbed::cache::Cache;
use testbed::kernel::DebianKernel;
use testbed::qemu::Qemu;

pub fn run() -> Result<()> {
    let cache = Cache::open()?;
    println!("cache       {}", cache.root().display());
    println!("qemu        {}", Qemu::fetch(&cache)?.version);
    println!("busybox     {}", Busybox::fetch(&cache)?.version);
    for series in Series::ALL {
        println!("kernel {series:<5}{}", DebianKernel::fetch(&cache, series)?.release);
    }
    Ok(())
}
