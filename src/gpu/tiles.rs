//! Measured partitions from one run to the next: a file per adapter and driver.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::adapter::AdapterSummary;
use super::device::{Gpu, lock};
use crate::error::{Error, Result};
use crate::shader::{Choice, Product, Tuning};

/// Version of the layout of the file.
const VERSION: u32 = 1;
/// Larger files are not read.
const MAX_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct File {
    anybit_tiles: u32,
    adapter: String,
    driver: String,
    #[serde(flatten)]
    tuning: Tuning,
}

/// Where the partitions of a device are: another driver or version of the kernels has another file.
fn path(folder: &Path, adapter: &AdapterSummary) -> PathBuf {
    folder.join(format!("tiles-{}.json", adapter.key()))
}

/// What the file has; one that is missing, damaged or names what cannot be compiled counts as empty.
pub(super) fn load(folder: &Path, adapter: &AdapterSummary) -> Tuning {
    let path = path(folder, adapter);
    let fits = path.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_BYTES);
    let text = if fits { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
    match serde_json::from_slice::<File>(&text) {
        Ok(file) if file.anybit_tiles == VERSION && file.tuning.check().is_ok() => file.tuning,
        _ => Tuning::default(),
    }
}

impl Gpu {
    /// The measured partition of `product`, if there is one.
    pub fn tuned(&self, product: &Product) -> Option<Choice> {
        let tuning = lock(&self.tuning);
        if tuning.is_empty() { None } else { tuning.get(product) }
    }

    /// The measured partitions that new plans use.
    pub fn tuning(&self) -> Tuning {
        lock(&self.tuning).clone()
    }

    /// Has new plans use `tuning`.
    ///
    /// # Errors
    /// When a partition of it cannot be compiled.
    pub fn set_tuning(&self, tuning: Tuning) -> Result<()> {
        tuning.check()?;
        *lock(&self.tuning) = tuning;
        Ok(())
    }

    /// Keeps the measured partitions in `folder`, where [`OpenOptions::tiles`](super::OpenOptions::tiles) finds them.
    /// Returns the file, which is written whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_tuning(&self, folder: &Path) -> Result<PathBuf> {
        let adapter = self.adapter();
        let path = path(folder, adapter);
        let file = File {
            anybit_tiles: VERSION,
            adapter: adapter.name.clone(),
            driver: adapter.driver.clone(),
            tuning: self.tuning(),
        };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut to = tempfile::Builder::new().prefix(".tiles-").tempfile_in(folder)?;
            to.write_all(&serde_json::to_vec_pretty(&file)?)?;
            to.as_file().sync_all()?;
            to.persist(&path)?;
            Ok(())
        };
        write().map_err(|e| Error::unavailable(format!("writing {}: {e}", path.display())))?;
        Ok(path)
    }

    /// Removes what was kept in `folder` for this device; returns the file there was.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_tuning(&self, folder: &Path) -> Result<Option<PathBuf>> {
        *lock(&self.tuning) = Tuning::default();
        let path = path(folder, self.adapter());
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(Some(path)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::unavailable(format!("removing {}: {e}", path.display()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::OpenOptions;
    use super::*;
    use crate::shader::DeviceClass;

    #[test]
    fn partitions_outlive_the_device_and_damaged_files_count_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let tiles = folder.path().join("below");
        let open =
            || Gpu::open(OpenOptions { tiles: Some(tiles.clone()), ..OpenOptions::default() }).unwrap();
        let gpu = open();
        assert!(gpu.tuning().is_empty());
        assert_eq!(gpu.forget_tuning(&tiles).unwrap(), None);
        let product = Product::new("int4 group".into(), false, 1, 64, 64);
        let choice = Choice::candidates(DeviceClass::Gpu, false, 1, 64, false)[1];
        let mut tuning = Tuning::default();
        tuning.set(product.clone(), choice);
        gpu.set_tuning(tuning.clone()).unwrap();
        let path = gpu.save_tuning(&tiles).unwrap();
        assert_eq!(open().tuning(), tuning);
        assert_eq!(open().tuned(&product), Some(choice));
        let text = std::fs::read_to_string(&path).unwrap();
        let workgroup = format!("\"workgroup\": {}", choice.tile.workgroup);
        for damaged in ["", "{}", &text[..text.len() / 2], &text.replace(&workgroup, "\"workgroup\": 0")] {
            assert_ne!(damaged, text);
            std::fs::write(&path, damaged).unwrap();
            assert!(open().tuning().is_empty(), "{damaged}");
        }
        assert_eq!(open().forget_tuning(&tiles).unwrap(), Some(path.clone()));
        assert!(!path.exists());
    }
}
