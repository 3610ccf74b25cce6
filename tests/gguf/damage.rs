//! Damaged GGUF files: one clear error each, or a model that loads; never a panic or an allocation for a lie.

use anybit::model::Model;
use tempfile::TempDir;

use super::data;

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(data(&format!("gguf/{name}.gguf"))).unwrap()
}

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn load(&self, bytes: &[u8]) -> Result<Model, String> {
        let path = self.folder.path().join("m.gguf");
        std::fs::write(&path, bytes).unwrap();
        Model::load(&path).map_err(|error| error.to_string())
    }
}

/// Where the value of `key` begins: behind the key and its type.
fn value_of(bytes: &[u8], key: &str) -> usize {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes());
    at.unwrap_or_else(|| panic!("no {key}")) + key.len() + 4
}

#[test]
fn truncated_at_every_place() {
    let (bench, whole) = (Bench::new(), bytes("llama-yarn"));
    assert!(bench.load(&whole).is_ok());
    for end in (4..whole.len()).step_by(97).chain(4..64) {
        let error = bench.load(&whole[..end]).unwrap_err();
        assert!(error.contains("truncated") || error.contains("damaged"), "{end}: {error}");
    }
}

#[test]
fn every_byte_of_a_header() {
    let (bench, whole) = (Bench::new(), bytes("llama-yarn"));
    let header =
        whole.windows(14).rposition(|window| window == b"ffn_up.weight\x02").map_or(2000, |at| at + 40);
    let mut loaded = 0;
    for at in 0..header {
        for value in [0x00, 0xff, whole[at] ^ 0x01, whole[at] ^ 0x80] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            loaded += usize::from(bench.load(&damaged).is_ok());
        }
    }
    // Names, eps and the like may change and the file is one still.
    assert!(loaded < header * 2, "{loaded} of {} load", header * 4);
}

#[test]
fn noise_in_tokenizers() {
    let bench = Bench::new();
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for name in ["llama", "gpt2"] {
        let whole = bytes(name);
        let begin = value_of(&whole, "tokenizer.ggml.model");
        for _ in 0..60 {
            let mut damaged = whole.clone();
            for _ in 0..3 {
                let at = begin + random(20_000);
                damaged[at] = random(256) as u8;
            }
            drop(bench.load(&damaged));
        }
    }
}

#[test]
fn lies_are_named() {
    let bench = Bench::new();
    let whole = bytes("llama-yarn");
    let with = |at: usize, new: &[u8]| {
        let mut damaged = whole.clone();
        damaged[at..at + new.len()].copy_from_slice(new);
        bench.load(&damaged).unwrap_err()
    };
    let huge = u64::MAX.to_le_bytes();
    let cases = [
        (with(4, &1u32.to_le_bytes()), "version 1"),
        (with(4, &3u32.to_be_bytes()), "big-endian"),
        (with(8, &huge), "claims 18446744073709551615 tensors"),
        (with(16, &huge), "metadata entries"),
        (with(24, &huge), "bytes of text"),
        (with(value_of(&whole, "llama.block_count"), &u32::MAX.to_le_bytes()), "block_count"),
        (with(value_of(&whole, "llama.attention.head_count"), &0u32.to_le_bytes()), "head"),
        (with(value_of(&whole, "llama.attention.head_count"), &7u32.to_le_bytes()), "rows; want 7 heads"),
        (with(value_of(&whole, "llama.rope.dimension_count"), &2u32.to_le_bytes()), "rope.dimension_count"),
    ];
    for (error, part) in cases {
        assert!(error.contains(part) && error.contains("m.gguf"), "want {part:?}: {error}");
    }
    // A key that nobody knows, and an architecture.
    let renamed = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        with(at, to.as_bytes())
    };
    assert!(renamed("llama.rope.freq_base", "llama.rope.freq_bass").contains("`llama.rope.freq_bass`"));
    assert!(renamed("blk.0.attn_q.weight", "blk.0.attn_z.weight").contains("`blk.0.attn_z.weight`"));
    let at = value_of(&whole, "general.architecture") + 8;
    assert!(with(at, b"mamba").contains("mamba is not supported"));
    // A type that cannot be run: iq2_xxs of the first matrix.
    let name = "blk.0.attn_k.weight";
    let at = whole.windows(name.len()).position(|w| w == name.as_bytes()).unwrap() + name.len() + 4 + 16;
    let error = with(at, &16u32.to_le_bytes());
    assert!(error.contains(name) && error.contains("iq2_xxs") && error.contains("q4_0"), "{error}");
}
