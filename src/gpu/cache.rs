//! Compiled pipelines from one run to the next, where the driver hands them out (Vulkan).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::adapter::AdapterSummary;

/// Begins every file; the digit is the version of the layout: this, the hash of the data, the data.
const MAGIC: &[u8; 16] = b"anybit pipes 1\n\0";
const HASH: usize = blake3::OUT_LEN;
/// Larger files are not read.
const MAX_BYTES: u64 = 1 << 30;

/// A driver's pipeline cache and the file that it comes from and goes to.
pub(super) struct Store {
    pub(super) raw: wgpu::PipelineCache,
    path: PathBuf,
    loaded: Option<blake3::Hash>,
}

/// The data of a file, if it is whole.
fn data(file: &[u8]) -> Option<&[u8]> {
    let (hash, data) = file.strip_prefix(MAGIC)?.split_at_checked(HASH)?;
    (blake3::hash(data).as_bytes() == hash).then_some(data)
}

impl Store {
    /// With what `folder` has for `adapter`; a file that is missing or damaged counts as empty.
    pub(super) fn open(device: &wgpu::Device, adapter: &AdapterSummary, folder: &Path) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = folder.join(format!("pipelines-{}.bin", adapter.key()));
        let fits = path.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_BYTES);
        let file = if fits { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let data = data(&file);
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("pipelines"), data, fallback: true };
        // SAFETY: the hash says that the data are those that `get_data` returned for a device and driver of this name,
        // and wgpu compares the identity of the device and the driver that stands in them.
        let raw = unsafe { device.create_pipeline_cache(&descriptor) };
        Some(Self { raw, path, loaded: data.map(blake3::hash) })
    }

    /// Writes what the driver has now, whole or not at all. A cache that cannot be written is none, and no error.
    pub(super) fn save(&self) {
        let Some(data) = self.raw.get_data() else { return };
        let hash = blake3::hash(&data);
        let Some(folder) = self.path.parent().filter(|_| self.loaded != Some(hash)) else { return };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::Builder::new().prefix(".pipelines-").tempfile_in(folder)?;
            file.write_all(MAGIC)?;
            file.write_all(hash.as_bytes())?;
            file.write_all(&data)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            Ok(())
        };
        drop(write());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gpu, OpenOptions};
    use super::*;
    use crate::shader::Probe;

    #[test]
    fn only_whole_files_have_data() {
        let file = |data: &[u8]| [&MAGIC[..], blake3::hash(data).as_bytes(), data].concat();
        assert_eq!(data(&file(b"abc")), Some(&b"abc"[..]));
        assert_eq!(data(&file(b"")), Some(&b""[..]));
        for cut in [0, 1, MAGIC.len(), MAGIC.len() + HASH, MAGIC.len() + HASH + 2] {
            assert_eq!(data(&file(b"abc")[..cut]), None, "{cut} bytes");
        }
        for at in [0, MAGIC.len(), MAGIC.len() + HASH] {
            let mut damaged = file(b"abc");
            damaged[at] ^= 1;
            assert_eq!(data(&damaged), None, "byte {at}");
        }
    }

    #[test]
    fn damaged_files_are_ignored_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("below");
        let open = || {
            let options = OpenOptions { pipeline_cache: Some(cache.clone()), ..OpenOptions::default() };
            let gpu = Gpu::open(options).unwrap();
            gpu.probe(Probe::Copy).unwrap();
        };
        open();
        let Ok(entries) = cache.read_dir() else { return }; // a device without this feature, or with nothing to keep
        let path = entries.map(|entry| entry.unwrap().path()).next().unwrap();
        let whole = std::fs::read(&path).unwrap();
        assert!(data(&whole).is_some());
        for wrong in [&b""[..], b"anything", &whole[..whole.len() - 1]] {
            std::fs::write(&path, wrong).unwrap();
            open();
            assert!(data(&std::fs::read(&path).unwrap()).is_some());
        }
        assert_eq!(cache.read_dir().unwrap().count(), 1);
    }
}
