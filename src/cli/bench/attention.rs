//! `anybit bench attention`
use anyhow::Result;
/// attention
#[derive(clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_args: &Args) -> Result<bool> { anyhow::bail!("not yet") }
