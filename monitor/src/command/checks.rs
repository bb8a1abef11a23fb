//! `checks [NAME]`: what is checked, and why.

use anyhow::{Result, bail};

use crate::{
    check::{self, REGISTRY},
    report::explain,
};

use super::{Format, Global, RIGHT, output};

pub fn run(global: &Global, name: Option<&str>) -> Result<u8> {
    let json = global.format == Some(Format::Json);
    let text = match name {
        None => {
            let specs = REGISTRY.iter().map(|check| (check.spec(), None));
            if json { explain::list_json(specs).to_string() + "\n" } else { explain::list(specs) }
        }
        Some(name) => {
            let Some(check) = check::find(name) else {
                bail!("no check is called `{name}`; `iommu-watch checks` lists them");
            };
            let width = output::Output::new(global, Format::Text).style().width;
            match json {
                true => explain::explain_json(check.spec(), None).to_string() + "\n",
                false => explain::explain(check.spec(), None, width),
            }
        }
    };
    output::put(&text)?;
    Ok(RIGHT)
}
