//! Every weight in every format of a space, packed once: in parallel, and kept on disk by content.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::format::{Exception, Format, Packed};
use crate::graph::{WeightId, Weights};
use crate::model::Model;

/// Packed matrices kept in memory between packing and upload.
const HOT_BYTES: usize = 1 << 30;
/// First words of a cache file: what it is, and the version of its layout.
const MAGIC: [u32; 2] = [0x4b50_4241, 1];
/// Words of the head: magic, lengths of codes, scales and exceptions, noise.
const HEAD: usize = 7;
const HASH: usize = 32;

/// A weight in a format.
pub type Variant = (WeightId, Format);

/// What is known of a variant once it has been packed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VariantFacts {
    /// Packed bytes, exceptions included.
    pub bytes: u64,
    /// Squared error over the sum of squares; 0 where nothing is lost.
    pub noise: f64,
}

/// Packs the weights of a model, or finds them in a folder of earlier results.
pub struct Packer<'a> {
    model: &'a Model,
    folder: Option<PathBuf>,
    hot: Mutex<HashMap<Variant, Packed>>,
}

impl<'a> Packer<'a> {
    /// For `model`; results are kept in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(model: &'a Model, folder: Option<PathBuf>) -> Result<Self> {
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder)
                .map_err(|e| Error::io("cannot make the cache folder", folder, e))?;
        }
        Ok(Self { model, folder, hot: Mutex::default() })
    }

    /// Packs `variants`; `progress` is told after each. What is in the folder already is only read.
    ///
    /// # Errors
    /// When a format cannot hold a weight, or the file of the model fails.
    pub fn prepare(
        &self,
        variants: &[Variant],
        progress: &(dyn Fn() + Sync),
    ) -> Result<HashMap<Variant, VariantFacts>> {
        let mut by_weight: HashMap<WeightId, Vec<Format>> = HashMap::new();
        for &(weight, format) in variants {
            by_weight.entry(weight).or_default().push(format);
        }
        let weights: Vec<(WeightId, Vec<Format>)> = by_weight.into_iter().collect();
        let of_weight = |(weight, formats): &(WeightId, Vec<Format>)| {
            let values = self.values(*weight)?;
            let of_format = |&format: &Format| {
                let facts = self.pack(*weight, format, &values)?;
                progress();
                Ok(((*weight, format), facts))
            };
            formats.iter().map(of_format).collect::<Result<Vec<_>>>()
        };
        let facts: Vec<Vec<_>> = weights.par_iter().map(of_weight).collect::<Result<_>>()?;
        Ok(facts.into_iter().flatten().collect())
    }

    fn values(&self, weight: WeightId) -> Result<Vec<f32>> {
        Ok(self.model.packed(weight, Format::F32)?.decode())
    }

    fn pack(&self, weight: WeightId, format: Format, values: &[f32]) -> Result<VariantFacts> {
        let path = self.path(weight, format, values);
        if let Some((packed, noise)) = path.as_deref().and_then(|path| self.read(path, weight, format)) {
            return Ok(self.keep(weight, packed, noise));
        }
        let packed = self.model.packed(weight, format)?;
        let noise = noise(values, &packed);
        if let Some(path) = &path {
            // A cache that cannot be written only costs time.
            let _ = write(path, &packed, noise);
        }
        Ok(self.keep(weight, packed, noise))
    }

    fn keep(&self, weight: WeightId, packed: Packed, noise: f64) -> VariantFacts {
        let facts = VariantFacts { bytes: packed.bytes() as u64, noise };
        let mut hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner);
        if hot.values().map(Packed::bytes).sum::<usize>() + packed.bytes() <= HOT_BYTES {
            hot.insert((weight, packed.format), packed);
        }
        facts
    }

    /// Where a variant is kept. Custom formats are not: their name does not say what they are.
    fn path(&self, weight: WeightId, format: Format, values: &[f32]) -> Option<PathBuf> {
        let folder = self.folder.as_deref().filter(|_| !matches!(format, Format::Custom(_)))?;
        let shape = &self.model.graph().weights[weight];
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes()).update(&[0]);
        hasher.update(format.to_string().as_bytes()).update(&[0]);
        hasher.update(&(shape.rows as u64).to_le_bytes()).update(&(shape.cols as u64).to_le_bytes());
        hasher.update(bytemuck::cast_slice(values));
        Some(folder.join(format!("{}.packed", hasher.finalize().to_hex())))
    }

    /// `None` for a file that is missing, damaged or of another version.
    fn read(&self, path: &Path, weight: WeightId, format: Format) -> Option<(Packed, f64)> {
        let bytes = std::fs::read(path).ok()?;
        let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
        if blake3::hash(body).as_bytes() != hash {
            return None;
        }
        let words: Vec<u32> =
            body.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let (head, rest) = words.split_at_checked(HEAD)?;
        let (codes, rest) = rest.split_at_checked(head[2] as usize)?;
        let (scales, rest) = rest.split_at_checked(head[3] as usize)?;
        let exceptions =
            rest.chunks_exact(3).map(|e| Exception { row: e[0], col: e[1], bits: e[2] }).collect();
        let noise = f64::from_bits(u64::from(head[5]) | u64::from(head[6]) << 32);
        if head[..2] != MAGIC || rest.len() != head[4] as usize * 3 {
            return None;
        }
        let shape = &self.model.graph().weights[weight];
        let packed =
            Packed::from_parts(format, shape.rows, shape.cols, codes.to_vec(), scales.to_vec(), exceptions);
        packed.ok().map(|packed| (packed, noise))
    }
}

impl Weights for Packer<'_> {
    fn packed(&self, weight: WeightId, format: Format) -> Result<Packed> {
        let hot = self.hot.lock().unwrap_or_else(PoisonError::into_inner).remove(&(weight, format));
        if let Some(packed) = hot {
            return Ok(packed);
        }
        if self.folder.is_some() {
            let path = self.path(weight, format, &self.values(weight)?);
            if let Some((packed, _)) = path.and_then(|path| self.read(&path, weight, format)) {
                return Ok(packed);
            }
        }
        self.model.packed(weight, format)
    }

    fn vector(&self, weight: WeightId) -> Result<Vec<f32>> {
        self.model.vector(weight)
    }
}

fn noise(values: &[f32], packed: &Packed) -> f64 {
    let decoded = packed.decode();
    let (mut signal, mut noise) = (0.0, 0.0);
    for (&value, &decoded) in values.iter().zip(&decoded) {
        let (value, decoded) = (f64::from(value), f64::from(decoded));
        signal += value * value;
        noise += (value - decoded) * (value - decoded);
    }
    if signal > 0.0 { noise / signal } else { noise }
}

fn write(path: &Path, packed: &Packed, noise: f64) -> Option<()> {
    let length = |n: usize| u32::try_from(n).ok();
    let noise = noise.to_bits();
    let mut words = MAGIC.to_vec();
    words.extend([
        length(packed.codes.len())?,
        length(packed.scales.len())?,
        length(packed.exceptions.len())?,
    ]);
    words.extend([noise as u32, (noise >> 32) as u32]);
    words.extend(&packed.codes);
    words.extend(&packed.scales);
    words.extend(packed.exceptions.iter().flat_map(|e| [e.row, e.col, e.bits]));
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    // No sync: a file that a power cut damaged fails its hash and is made again.
    let mut file = tempfile::NamedTempFile::new_in(path.parent()?).ok()?;
    file.write_all(&bytes).ok()?;
    file.write_all(blake3::hash(&bytes).as_bytes()).ok()?;
    file.persist(path).ok().map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::graph::Role;

    #[test]
    fn packed_once_and_found_again_whatever_happens_to_the_files() {
        let model = Model::embedded().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let linears: Vec<WeightId> = (0..model.graph().weights.len())
            .filter(|&id| model.graph().weights[id].role == Role::Linear)
            .collect();
        // Near-zero weights pass block_fp unquantized: exceptions survive the file.
        let formats =
            ["int4(group=32)", "f32", "block_fp(8,8,block_size=[1,16])"].map(|f| f.parse().unwrap());
        let variants: Vec<Variant> =
            linears[..2].iter().flat_map(|&id| formats.map(|format: Format| (id, format))).collect();
        let done = AtomicUsize::new(0);
        let prepare = || {
            let packer = Packer::new(&model, Some(folder.path().to_owned())).unwrap();
            let facts = packer
                .prepare(&variants, &|| {
                    done.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
            // Twice: from memory, then from the file.
            for &(weight, format) in variants.iter().chain(&variants) {
                assert_eq!(packer.packed(weight, format).unwrap(), model.packed(weight, format).unwrap());
            }
            facts
        };
        let facts = prepare();
        assert_eq!(done.load(Ordering::Relaxed), 6);
        assert_eq!(facts[&(linears[0], formats[1])].noise, 0.0);
        assert!(facts[&(linears[0], formats[0])].noise > 1e-4);
        let files: Vec<PathBuf> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 6);
        assert_eq!(prepare(), facts);
        for (i, file) in files.iter().enumerate() {
            let mut bytes = std::fs::read(file).unwrap();
            match i % 3 {
                0 => bytes.truncate(bytes.len() / 2),
                1 => bytes.clear(),
                _ => bytes[40] ^= 1,
            }
            std::fs::write(file, bytes).unwrap();
        }
        assert_eq!(prepare(), facts, "damaged files are made again");
    }
}
