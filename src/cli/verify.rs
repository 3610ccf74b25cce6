//! `anybit verify`

use anyhow::Result;

/// placeholder
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<bool> {
    anyhow::bail!("not built yet")
}
