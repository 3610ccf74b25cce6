//! The charts of `anybit bench kernels`.
use anybit::bench::Ceilings;
use anybit::bench::kernels::Row;
use anyhow::Result;

pub(super) fn svg(_rows: &[Row], _ceilings: &Ceilings, _device: &str) -> Result<String> {
    anyhow::bail!("TODO")
}
