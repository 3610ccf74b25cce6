//! Packed files of plain tensors: written, read back, replaced, damaged.

mod support;

use anybit::Error;
use anybit::format::{Format, Packed, Spec};
use anybit::model::{
    Dtype, Element, Matrix, Model, Planned, Progress, Reader, TensorFile, Writer, atomic, dequantize_file,
    quantize_file,
};
use serde_json::{Value, json};
use std::path::Path;
use support::{assert_contains, assert_only, safetensors, split};

/// A file with tensors of many kinds; values are whole numbers so that they are exact in every type.
fn write_mixed(path: &Path) -> Vec<(&'static str, Vec<f32>)> {
    let value = |i: usize| ((i * 37) % 23) as f32 - 11.0;
    let cases: [(&str, Dtype, &[usize]); 6] = [
        ("matrix", Dtype::F32, &[5, 37]),
        ("stack", Dtype::F16, &[2, 3, 33]),
        ("brain", Dtype::BF16, &[4, 64]),
        ("vector", Dtype::F16, &[33]),
        ("scalar", Dtype::F32, &[]),
        ("none", Dtype::F32, &[0, 4]),
    ];
    let mut planned: Vec<Planned> = cases
        .iter()
        .map(|&(name, dtype, shape)| Planned { name: name.into(), dtype, shape: shape.to_vec() })
        .collect();
    planned.push(Planned { name: "ids".into(), dtype: Dtype::I64, shape: vec![3, 2] });
    let mut writer = Writer::create(path, &planned, &[("made by".into(), "a test".into())]).unwrap();
    let mut all = Vec::new();
    for (i, (name, dtype, shape)) in cases.into_iter().enumerate() {
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        let bytes: Vec<u8> = match dtype {
            Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        writer.write(i, &bytes).unwrap();
        all.push((name, values));
    }
    writer.write(6, &[7; 48]).unwrap();
    assert_eq!(writer.finish().unwrap(), path.metadata().unwrap().len());
    all
}

/// A matrix of more weights than are in memory at a time.
#[test]
fn large_matrices_are_packed_in_strips() {
    let (rows, cols) = (4101, 4128);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut bits: Vec<u16> =
        (0..(rows * cols) as u32).map(|i| ((i.wrapping_mul(2654435761) >> 16) & 0xbbff) as u16).collect();
    // Groups of zeros, magnitudes under 1e-8 after that, and the largest value in the last row.
    bits[..4200].fill(0);
    let last = bits.len() - 7;
    bits[last] = half::f16::from_f32(-3.5).to_bits();
    let values: Vec<f32> = bits.iter().map(|&bits| half::f16::from_bits(bits).to_f32()).collect();
    let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let plan = [Planned { name: "w".into(), dtype: Dtype::F16, shape: vec![rows, cols] }];
    let mut writer = Writer::create(&path("in"), &plan, &[]).unwrap();
    writer.write(0, &bytes).unwrap();
    writer.finish().unwrap();
    let formats = [
        "int4",
        "int4(group=32)",
        "base11",
        "nvfp4",
        "bf16",
        "mxint_cuda(group=32)",
        "block_fp(8,8,block_size=[1,16])",
    ];
    for format in formats {
        let format: Format = format.parse().unwrap();
        let report =
            quantize_file(&path("in"), &path("packed"), false, &mut |_| Ok(Some(format.into())), &mut |_| ())
                .unwrap();
        let want = format.encode(&values, rows, cols).unwrap();
        let reader = Reader::open(&path("packed")).unwrap();
        let got = match reader.entry("w") {
            Some(entry) => reader.packed(entry).unwrap(),
            None => panic!("{format} was not packed"),
        };
        assert!(got == want, "{format}");
        assert_eq!(report.tensors[0].elements, rows * cols);
        dequantize_file(&path("packed"), &path("out"), &mut |packed| Ok(packed.decode()), &mut |_| ())
            .unwrap();
        let out = TensorFile::open(&path("out")).unwrap();
        let decoded = out.widen(out.get("w").unwrap()).unwrap();
        assert!(decoded.iter().zip(want.decode()).all(|(a, b)| a.to_bits() == b.to_bits()), "{format}");
        assert_eq!(decoded.len(), rows * cols);
    }
}

#[test]
fn plain_files_round_trip_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let values = write_mixed(&path("in"));
    // Some formats have blocks that the matrix, or its rows, must be a multiple of.
    let shapes = [(4, 64), (5, 37), (6, 33), (1, 33)];
    let any_shape = |format: &Format| shapes.iter().all(|&(rows, cols)| format.layout(rows, cols).is_ok());
    for format in Format::catalog().into_iter().filter(any_shape) {
        for vectors in [false, true] {
            let spec = Spec::from(format);
            let mut seen = Vec::new();
            let mut choose = |matrix: &Matrix<'_>| {
                seen.push((matrix.name.to_owned(), matrix.rows, matrix.cols));
                Ok(Some(spec))
            };
            let report =
                quantize_file(&path("in"), &path("packed"), vectors, &mut choose, &mut |_| ()).unwrap();
            seen.sort();
            let mut want = vec![("brain".into(), 4, 64), ("matrix".into(), 5, 37), ("stack".into(), 6, 33)];
            want.extend(vectors.then(|| ("vector".to_owned(), 1, 33)));
            assert_eq!(seen, want);
            assert_eq!(report.tensors.len(), 7);

            // Any reader of the format can open it.
            let bytes = std::fs::read(path("packed")).unwrap();
            assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
            let reader = Reader::open(&path("packed")).unwrap();
            assert_eq!(reader.file().metadata("made by"), Some("a test"));
            let mut total = 0;
            let mut progress = |progress: Progress<'_>| total = total.max(progress.done);
            dequantize_file(&path("packed"), &path("out"), &mut |packed| Ok(packed.decode()), &mut progress)
                .unwrap();
            assert_eq!(total, reader.file().tensors().iter().map(|tensor| tensor.byte_len()).sum::<usize>());

            let (input, output) =
                (TensorFile::open(&path("in")).unwrap(), TensorFile::open(&path("out")).unwrap());
            assert_eq!(input.tensors().len(), output.tensors().len());
            for (name, values) in &values {
                let (before, after) = (input.get(name).unwrap(), output.get(name).unwrap());
                assert_eq!(
                    (&before.shape, after.element),
                    (&after.shape, Element::Plain(Dtype::F32)),
                    "{name}"
                );
                let want = match want.iter().find(|entry| entry.0 == *name) {
                    Some(&(_, rows, cols)) => format.encode(values, rows, cols).unwrap().decode(),
                    None => values.clone(),
                };
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
                assert_eq!(bits(&output.widen(after).unwrap()), bits(&want), "{name} as {format}");
            }
            assert_eq!(*output.bytes(output.get("ids").unwrap()), [7; 48]);
        }
    }
    // The same input gives the same bytes.
    let spec: Spec = "int4(group=32)".parse().unwrap();
    let make = |name: &str| {
        quantize_file(&path("in"), &path(name), false, &mut |_| Ok(Some(spec)), &mut |_| ()).unwrap();
        std::fs::read(path(name)).unwrap()
    };
    assert_eq!(make("a"), make("b"));
}

/// Weights that pass unquantized are kept, and formats with large blocks fit.
#[test]
fn exceptions_round_trip_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let values: Vec<f32> = (0..6 * 256)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) * if i % 11 == 0 { 1.9e-10 } else { 0.01 })
        .collect();
    let planned = Planned { name: "w".into(), dtype: Dtype::F32, shape: vec![6, 256] };
    let mut writer = Writer::create(&path("in"), &[planned], &[]).unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    writer.write(0, &bytes).unwrap();
    writer.finish().unwrap();
    let mut with_exceptions = 0;
    for format in Format::catalog() {
        let mut choose = |_: &Matrix<'_>| Ok(Some(Spec::from(format)));
        let report = quantize_file(&path("in"), &path("packed"), false, &mut choose, &mut |_| ()).unwrap();
        let reader = Reader::open(&path("packed")).unwrap();
        let packed = reader.packed(&reader.entries()[0]).unwrap();
        assert_eq!(packed, format.encode(&values, 6, 256).unwrap(), "{format}");
        let stored: usize = reader.file().tensors().iter().map(|tensor| tensor.byte_len()).sum();
        assert_eq!(report.tensors[0].output_bytes, stored, "{format}");
        assert_eq!(reader.unpacked().count(), 0, "{format}");
        with_exceptions += usize::from(!packed.exceptions.is_empty());
        dequantize_file(&path("packed"), &path("out"), &mut |p| Ok(p.decode()), &mut |_| ()).unwrap();
        let output = TensorFile::open(&path("out")).unwrap();
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        let got = output.widen(output.get("w").unwrap()).unwrap();
        assert!(got.iter().zip(&packed.decode()).all(same), "{format}");
    }
    assert!(with_exceptions >= 5, "{with_exceptions}");
}

#[test]
fn conversions_refuse_what_they_cannot_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_mixed(&path("in"));
    let spec: Spec = "int4".parse().unwrap();
    let mut quiet = |_: Progress<'_>| ();
    let mut decode = |packed: &Packed| Ok(packed.decode());
    let quantize =
        |from: &str, to: &Path| quantize_file(&path(from), to, false, &mut |_| Ok(Some(spec)), &mut |_| ());
    quantize("in", &path("packed")).unwrap();
    assert_contains(&quantize("packed", &path("x")).unwrap_err().to_string(), &["packed already"]);
    assert!(matches!(quantize("in", &path("no/such/folder")), Err(Error::Io { .. })));
    assert_contains(&quantize("in", folder.path()).unwrap_err().to_string(), &["not a regular file"]);
    assert_contains(&quantize("in", Path::new("/")).unwrap_err().to_string(), &["no file"]);
    let none = quantize_file(&path("in"), &path("x"), false, &mut |_| Ok(None), &mut quiet);
    assert_contains(&none.unwrap_err().to_string(), &["nothing to quantize"]);
    let failing =
        quantize_file(&path("in"), &path("x"), false, &mut |_| Err(Error::invalid("no")), &mut quiet);
    assert!(failing.is_err());
    let plain = dequantize_file(&path("in"), &path("x"), &mut decode, &mut quiet);
    assert_contains(&plain.unwrap_err().to_string(), &["not written by `anybit quantize`"]);
    let short = dequantize_file(&path("packed"), &path("x"), &mut |_| Ok(vec![0.0]), &mut quiet);
    assert_contains(&short.unwrap_err().to_string(), &["decoded 1 values"]);
    let lost =
        dequantize_file(&path("packed"), &path("x"), &mut |_| Err(Error::unavailable("lost")), &mut quiet);
    assert!(matches!(lost, Err(Error::Unavailable(_))));
    let model = Model::load(&path("packed")).unwrap_err().to_string();
    assert_contains(&model, &["no model"]);

    let twins = [("w", Dtype::F32, vec![2, 32]), ("w.scales", Dtype::F32, vec![1])];
    let planned = twins.map(|(name, dtype, shape)| Planned { name: name.into(), dtype, shape });
    let mut writer = Writer::create(&path("twins"), &planned, &[]).unwrap();
    assert!(writer.write(0, &[0; 3]).is_err() && writer.write(9, &[]).is_err());
    writer.write(0, &[0; 256]).unwrap();
    writer.write(1, &[0; 4]).unwrap();
    writer.finish().unwrap();
    assert_contains(
        &quantize("twins", &path("x")).unwrap_err().to_string(),
        &["two tensors named `w.scales`"],
    );
    let unfinished = Writer::create(&path("x"), &planned, &[]).unwrap();
    assert_contains(&unfinished.finish().unwrap_err().to_string(), &["`w`", "not written in full"]);

    let wide = [Planned { name: "d".into(), dtype: Dtype::F64, shape: vec![1, 2] }];
    let mut writer = Writer::create(&path("wide"), &wide, &[]).unwrap();
    writer.write(0, &[0; 16]).unwrap();
    writer.finish().unwrap();
    assert_contains(&quantize("wide", &path("x")).unwrap_err().to_string(), &["`d`", "F64"]);
    assert_only(folder.path(), &["in", "packed", "twins", "wide"]);
}

#[cfg(unix)]
#[test]
fn an_output_is_replaced_whole_or_not_at_all() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    std::fs::write(&path, "old").unwrap();
    let mut file = atomic::AtomicFile::create(&path).unwrap();
    file.write_at(0, b"new, but not finished").unwrap();
    drop(file);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_only(folder.path(), &["out"]);
    atomic::write(&path, b"new").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o600, 0o600);
    assert!(
        atomic::write(Path::new("/dev/null"), b"x").unwrap_err().to_string().contains("not a regular file")
    );
    assert!(atomic::write(Path::new("/proc/version_of_nothing"), b"x").is_err());
}

#[test]
fn packed_files_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_mixed(&path("in"));
    let spec: Spec = "int4(group=32)@int8".parse().unwrap();
    quantize_file(&path("in"), &path("packed"), false, &mut |_| Ok(Some(spec)), &mut |_| ()).unwrap();
    let (header, data) = split(&std::fs::read(path("packed")).unwrap());
    let error = |change: &dyn Fn(&mut Value, &mut Value)| {
        let mut header = header.clone();
        let text = header["__metadata__"]["anybit.tensors"].as_str().unwrap().to_owned();
        let mut tensors: Value = serde_json::from_str(&text).unwrap();
        change(&mut header, &mut tensors);
        header["__metadata__"]["anybit.tensors"] = Value::String(tensors.to_string());
        std::fs::write(path("lie"), safetensors(&header, &data)).unwrap();
        Reader::open(&path("lie")).unwrap_err().to_string()
    };
    assert_contains(
        &error(&|header, _| header["__metadata__"]["anybit.version"] = json!("2")),
        &["version 2", "reads version 1"],
    );
    assert_contains(&error(&|_, tensors| tensors["matrix"]["format"] = json!("int9")), &["`matrix`"]);
    assert_contains(&error(&|_, tensors| tensors["matrix"]["format"] = json!("mxint4")), &["`matrix`", "U8"]);
    assert_contains(
        &error(&|_, tensors| tensors["matrix"]["shape"] = json!([5, 64])),
        &["`matrix`", "[5, 5]", "[5, 8]"],
    );
    assert_contains(
        &error(&|_, tensors| tensors["matrix"]["shape"] = json!([1u64 << 40, 1u64 << 40])),
        &["`matrix`"],
    );
    assert_contains(&error(&|_, tensors| tensors["stack"]["transposed"] = json!(true)), &["`stack`"]);
    assert_contains(&error(&|_, tensors| tensors["stack"] = json!(3)), &["`stack`"]);
    assert_contains(
        &error(&|_, tensors| tensors["ghost"] = tensors["stack"].clone()),
        &["`ghost`", "missing"],
    );
    assert_contains(&error(&|_, tensors| *tensors = json!(1)), &["anybit.tensors"]);
    assert_contains(
        &error(&|header, _| header["stack.scales"]["dtype"] = json!("BF16")),
        &["`stack.scales`", "BF16", "F16"],
    );
}

/// Symmetric codes have no lowest number; kernels may count on it.
#[test]
fn two_bits_that_no_encoder_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_mixed(&path("in"));
    for spec in ["int2", "int2(scale=row)", "int2(group=32)", "ternary_mean(scale=row)"] {
        let spec: Spec = spec.parse().unwrap();
        quantize_file(&path("in"), &path("packed"), false, &mut |_| Ok(Some(spec)), &mut |_| ()).unwrap();
        let (header, data) = split(&std::fs::read(path("packed")).unwrap());
        let at = header["matrix"]["data_offsets"][0].as_u64().unwrap() as usize;
        for (byte, fits) in [(0b0100_1101, true), (0b0110_1101, false), (0b1000_0000, false)] {
            let mut data = data.clone();
            data[at + 1] = byte;
            std::fs::write(path("changed"), safetensors(&header, &data)).unwrap();
            let reader = Reader::open(&path("changed")).unwrap();
            let result = reader.packed(reader.entry("matrix").unwrap());
            match fits {
                true => assert!(result.is_ok(), "{spec}"),
                false => assert_contains(&result.unwrap_err().to_string(), &["`matrix`", "a code is -2"]),
            }
        }
    }
}

/// Thousands of damaged copies of a packed and a plain file: an error or a correct file, never a panic.
#[test]
fn damaged_bytes_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_mixed(&path("in"));
    let spec: Spec = "int3(group=32)".parse().unwrap();
    quantize_file(&path("in"), &path("packed"), true, &mut |_| Ok(Some(spec)), &mut |_| ()).unwrap();
    // xorshift64 (Marsaglia 2003) with a fixed seed.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut opened = 0;
    for name in ["in", "packed"] {
        let original = std::fs::read(path(name)).unwrap();
        let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
        for _ in 0..2000 {
            let mut bytes = original.clone();
            for _ in 0..1 + random(3) {
                let at = random(header);
                match random(4) {
                    0 => bytes[at] = random(256) as u8,
                    1 => bytes[at] = b"0123456789[]{}\",:"[random(17)],
                    2 => bytes[at] ^= 1 << random(8),
                    _ => {
                        let from = random(header);
                        bytes[at] = original[from];
                    }
                }
            }
            if random(8) == 0 {
                bytes.truncate(random(bytes.len()));
            }
            std::fs::write(path("damaged"), &bytes).unwrap();
            let Ok(reader) = Reader::open(&path("damaged")) else { continue };
            opened += 1;
            for tensor in reader.file().tensors() {
                let _ = reader.file().widen_finite(tensor);
            }
            for entry in reader.entries() {
                let _ = reader.packed(entry).map(|packed| packed.decode());
            }
            let _ = dequantize_file(
                &path("damaged"),
                &path("out"),
                &mut |packed| Ok(packed.decode()),
                &mut |_| (),
            );
            let _ = Model::load(&path("damaged"));
        }
    }
    assert!(
        opened > 50,
        "only {opened} of the damaged files could be opened: the damage is too coarse to test much"
    );
}
