//! `anybit bench compare`
use anyhow::Result;
/// compare
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_args: &Args) -> Result<bool> { anyhow::bail!("not yet") }
