//! Checkpoints in every container: values against files of PyTorch, and what is no checkpoint.

use crate::support::assert_contains;
use anybit::model::{Model, TensorFile};
use proptest::prelude::*;
use serde_json::json;
use std::path::{Path, PathBuf};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Error of opening `bytes` under `name`.
fn open_error(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    TensorFile::open(&path).unwrap_err().to_string()
}

/// Checks names, types, shapes and bytes of the tensors that `keep` takes against those that PyTorch gave to safetensors.
fn assert_values(file: &TensorFile, keep: impl Fn(&str) -> bool) {
    let want = TensorFile::open(&data("checkpoints/values.safetensors")).unwrap();
    let mut count = 0;
    for tensor in want.tensors().iter().filter(|tensor| keep(&tensor.name)) {
        let got = file.get(&tensor.name).unwrap_or_else(|| panic!("{} is missing", tensor.name));
        assert_eq!((got.element, &got.shape), (tensor.element, &tensor.shape), "{}", tensor.name);
        assert_eq!(file.bytes(got), want.bytes(tensor), "{}", tensor.name);
        assert_eq!(got.byte_len(), tensor.byte_len(), "{}", tensor.name);
        let mut pieces = Vec::new();
        file.for_each_piece(got, &mut |at, piece| {
            assert_eq!(at, pieces.len());
            pieces.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        assert_eq!(pieces, *want.bytes(tensor), "{}", tensor.name);
        count += 1;
    }
    assert_eq!(file.tensors().len(), count, "{file:?} holds more than was saved");
    assert!(count > 5);
}

#[test]
fn state_dicts_of_pytorch_hold_the_bytes_pytorch_sees() {
    for name in ["zip.pt", "protocol4.pt", "legacy.pt", "pytorch_model.bin.index.json"] {
        assert_values(&TensorFile::open(&data("checkpoints").join(name)).unwrap(), |_| true);
    }
    // Parameters within a training checkpoint, with the prefix of DataParallel, beside an object that must not be made.
    let wrapped = TensorFile::open(&data("checkpoints/wrapped.pt")).unwrap();
    assert_values(&wrapped, |name| !["long", "byte", "flag"].contains(&name));
    assert!(!Path::new("pickles-must-not-run").exists());
}

#[test]
fn what_is_no_state_dict() {
    let error = |name: &str| TensorFile::open(&data("checkpoints").join(name)).unwrap_err().to_string();
    assert_contains(
        &error("module.pt"),
        &["module.pt", "class torch.nn.modules.linear.Linear", "state_dict()"],
    );
    assert_contains(
        &error("expanded.pt"),
        &["`a` of size [1000]", "expanded view of 1 elements", "contiguous()"],
    );
    assert_contains(&error("two.pt"), &["tensors under a, b"]);
    // A pickle of something else, and one that calls for opcodes nobody writes.
    assert_contains(
        &open_error("x.pkl", b"\x80\x04\x95\x05\0\0\0\0\0\0\0]\x94(K\x01e."),
        &["not one of torch.save"],
    );
    assert_contains(&open_error("x.bin", b"\x80\x02garbage"), &["not one of torch.save"]);
}

#[test]
fn an_index_must_fit_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let error = |map: serde_json::Value| {
        std::fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
        TensorFile::open(&index).unwrap_err().to_string()
    };
    std::fs::copy(data("checkpoints/values.safetensors"), folder.path().join("a.safetensors")).unwrap();
    assert_contains(
        &error(json!({"whole": "b.safetensors"})),
        &["b.safetensors is missing", "`whole`", "download"],
    );
    assert_contains(&error(json!({"none": "a.safetensors"})), &["a.safetensors", "`none` is missing"]);
    for name in ["../a.safetensors", "/etc/passwd", "..", "x/../a", "C:a", ""] {
        assert_contains(&error(json!({ "whole": name })), &["name of a file in the same folder"]);
    }
    assert_contains(&error(json!({"whole": 3})), &["name of a file in the same folder"]);
    assert_contains(&error(json!({})), &["`weight_map` is empty"]);
    assert_contains(&error(json!([])), &["no `weight_map`"]);
    std::fs::write(&index, b"{").unwrap();
    assert_contains(&TensorFile::open(&index).unwrap_err().to_string(), &["not valid JSON"]);
    // What the index does not name is not there.
    std::fs::write(&index, json!({"weight_map": {"whole": "a.safetensors"}}).to_string()).unwrap();
    assert_eq!(TensorFile::open(&index).unwrap().tensors().len(), 1);
}

/// The model of `tests/data/stories260k` as llama2.c's `export.py` writes it, version 0 or 1.
fn llama2c(version: u32) -> Vec<u8> {
    let file = TensorFile::open(&data("stories260k/model.safetensors")).unwrap();
    let (layers, heads, kv_heads, head_dim) = (5, 8, 4, 8);
    let mut bytes: Vec<u8> = Vec::new();
    let sizes = [64i32, 172, layers, heads, kv_heads, 512, 512];
    if version > 0 {
        bytes.extend([0x616b_3432u32, version].iter().flat_map(|word| word.to_le_bytes()));
    }
    bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
    if version > 0 {
        bytes.push(1); // the head is the embedding
        bytes.resize(256, 0);
    }
    let tensor = |name: &str| file.bytes(file.get(name).unwrap()).into_owned();
    // Row 2i + j of a head there is row i + j * head_dim / 2 here.
    let paired = |name: &str, heads: usize| {
        let (stored, mut out) = (tensor(name), Vec::new());
        let row = stored.len() / (heads * head_dim);
        for head in 0..heads {
            for pair in 0..head_dim / 2 {
                for half in 0..2 {
                    let from = head * head_dim + half * head_dim / 2 + pair;
                    out.extend_from_slice(&stored[from * row..][..row]);
                }
            }
        }
        out
    };
    let all = |kind: &str, heads: usize| -> Vec<u8> {
        let one = |n| {
            let name = format!("model.layers.{n}.{kind}.weight");
            if heads > 0 { paired(&name, heads) } else { tensor(&name) }
        };
        (0..layers).flat_map(one).collect()
    };
    let attention: Vec<u8> = [("q", 8), ("k", 4), ("v", 0), ("o", 0)]
        .iter()
        .flat_map(|(p, n)| all(&format!("self_attn.{p}_proj"), *n))
        .collect();
    let mlp: Vec<u8> = ["gate", "down", "up"].iter().flat_map(|p| all(&format!("mlp.{p}_proj"), 0)).collect();
    let norms = (all("input_layernorm", 0), all("post_attention_layernorm", 0));
    let (embedding, norm) = (tensor("model.embed_tokens.weight"), tensor("model.norm.weight"));
    if version == 0 {
        // The last part are rotation tables, which nobody reads.
        let rotation = vec![7; 2 * 512 * head_dim / 2 * 4];
        bytes.extend([embedding, norms.0, attention, norms.1, mlp, norm, rotation].concat());
    } else {
        bytes.extend([norms.0, norms.1, norm, embedding, attention, mlp].concat());
    }
    bytes
}

#[test]
fn llama2c_files_are_the_same_model() {
    let want = TensorFile::open(&data("stories260k/model.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for version in [0, 1] {
        let path = folder.path().join(format!("stories{version}.bin"));
        std::fs::write(&path, llama2c(version)).unwrap();
        let model = Model::load(&path).unwrap();
        let file = model.reader().file();
        assert_eq!(file.tensors().len(), want.tensors().len());
        for tensor in want.tensors() {
            let got = file.get(&tensor.name).unwrap_or_else(|| panic!("{} is missing", tensor.name));
            assert_eq!((&got.shape, file.bytes(got)), (&tensor.shape, want.bytes(tensor)), "{}", tensor.name);
        }
        let hf = Model::load(&data("stories260k")).unwrap();
        assert_eq!(format!("{:?}", model.graph()), format!("{:?}", hf.graph()));
    }
}

#[test]
fn llama2c_headers_must_fit_the_file() {
    for version in [0u32, 1] {
        let good = llama2c(version);
        for len in [32, 300, 10_000, good.len() - 1] {
            assert_contains(&open_error("x.bin", &good[..len]), &["x.bin"]);
        }
        let longer = [good.as_slice(), b"\0\0\0\0"].concat();
        assert_contains(&open_error("x.bin", &longer), &["4 bytes follow the last tensor"]);
        let first = if version == 0 { 0 } else { 8 };
        for field in 0..7 {
            for value in [0i32, -1, 3, i32::MAX, i32::MIN] {
                let mut bytes = good.clone();
                bytes[first + 4 * field..][..4].copy_from_slice(&value.to_le_bytes());
                // A negative vocabulary says that there is a head of its own.
                let path = tempfile::NamedTempFile::new().unwrap();
                std::fs::write(path.path(), &bytes).unwrap();
                if let Err(error) = Model::load(path.path()) {
                    assert_contains(&error.to_string(), &[]);
                }
            }
        }
    }
    let mut version2 = llama2c(1);
    version2[4] = 2;
    assert_contains(&open_error("x.bin", &version2), &["version 2", "--version 1"]);
}

/// Opens a damaged file; what opens must be readable.
fn survive(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    match TensorFile::open(&path) {
        Ok(file) => {
            for tensor in file.tensors() {
                assert_eq!(file.bytes(tensor).len(), tensor.byte_len());
            }
        }
        Err(error) => assert_contains(&error.to_string().chars().take(500).collect::<String>(), &[]),
    }
}

#[test]
fn a_control_character_in_a_damaged_name_does_not_break_the_line() {
    let mut bytes = std::fs::read(data("checkpoints/legacy.pt")).unwrap();
    let key = b"94060280419664";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at] = b'\n';
    assert_contains(&open_error("x.pt", &bytes), &["storage `\\n4060280419664` is missing"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_containers_are_an_error(
        which in 0usize..5,
        damages in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6),
    ) {
        let name = ["zip.pt", "legacy.pt", "protocol4.pt", "wrapped.pt", "values.safetensors"][which];
        let mut bytes = std::fs::read(data("checkpoints").join(name)).unwrap();
        for (place, byte, kind) in damages {
            let at = place.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        survive(name, &bytes);
    }

    #[test]
    fn damaged_pickles_are_an_error(damages in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
        // Only within the pickle that describes the tensors.
        let mut bytes = std::fs::read(data("checkpoints/legacy.pt")).unwrap();
        for (place, byte) in damages {
            let at = 15 + place.index(1400.min(bytes.len() - 15));
            bytes[at] = byte;
        }
        survive("x.pt", &bytes);
    }
}

#[test]
fn hostile_pickles_neither_recurse_nor_grow() {
    let legacy = |body: &[u8]| {
        let head = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
        let system = b"\x80\x02}X\x0d\0\0\0little_endian\x88s.";
        [head.as_slice(), system, body, b"\x80\x02]."].concat()
    };
    // A million lists within each other, a list in itself, a tuple that doubles itself.
    let deep = [b"\x80\x02".as_slice(), &b"]".repeat(1_000_000), &b"a".repeat(999_999), b"."].concat();
    let own = b"\x80\x02]q\0h\0a.".to_vec();
    let doubling = [b"\x80\x02)q\0".as_slice(), &b"h\0h\0\x86q\0".repeat(100_000), b"."].concat();
    for body in [deep, own, doubling] {
        assert_contains(&open_error("x.pt", &legacy(&body)), &["no dictionary of tensors"]);
    }
    // Lengths without an end.
    for body in [
        b"\x80\x02X\xff\xff\xff\xffabc".as_slice(),
        b"\x80\x02\x8b\xff\xff\xff\x7f",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_contains(&open_error("x.pt", &legacy(body)), &["truncated"]);
    }
    assert_contains(&open_error("x.pt", &legacy(b"\x80\x02Rq")), &["too few values"]);
    assert_contains(&open_error("x.pt", &legacy(b"\x80\x02i")), &["0x69", "does not write"]);
}
