//! Man pages and completions, out of the command line's own definition, for packages.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::{Generator, generate_to, shells};

/// Below the root of a package.
const PAGES: &str = "usr/share/man/man1";
const BASH: &str = "usr/share/bash-completion/completions";
const ZSH: &str = "usr/share/zsh/vendor-completions";
const FISH: &str = "usr/share/fish/vendor_completions.d";

pub fn write(root: &Path) -> Result<()> {
    let pages = directory(root, PAGES)?;
    clap_mangen::generate_to(monitor::command::definition(), pages).context("can't write the man pages")?;
    let bash = complete(shells::Bash, &directory(root, BASH)?)?;
    // bash-completion looks for a file of the command's name.
    fs::rename(&bash, bash.with_file_name("iommu-watch")).context("can't name bash's completions")?;
    complete(shells::Zsh, &directory(root, ZSH)?)?;
    complete(shells::Fish, &directory(root, FISH)?)?;
    Ok(())
}

fn directory(root: &Path, path: &str) -> Result<std::path::PathBuf> {
    let directory = root.join(path);
    fs::create_dir_all(&directory).with_context(|| format!("can't make {}", directory.display()))?;
    Ok(directory)
}

fn complete(shell: impl Generator, directory: &Path) -> Result<std::path::PathBuf> {
    generate_to(shell, &mut monitor::command::definition(), "iommu-watch", directory)
        .context("can't write completions")
}
