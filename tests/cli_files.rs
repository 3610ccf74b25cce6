//! The program's verbs that write and read files: quantize, dequantize, inspect.

#[path = "support/program.rs"]
mod program;

use anybit::format::{Format, Packed};
use anybit::model::{Dtype, Element, Planned, Reader, TensorFile, Writer};
use program::{Place, ROOT, assert_same, safetensors, split, values};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Values that formats find hard, in rows of `cols`.
fn hard_rows(cols: usize) -> Vec<f32> {
    let random = values(cols, 1.0);
    let row = |f: &dyn Fn(usize) -> f32| (0..cols).map(f).collect::<Vec<f32>>();
    let rows = [
        row(&|_| 0.0),
        row(&|_| -0.0),
        row(&|i| f32::from_bits(i as u32 % 7 + 1)),
        row(&|i| random[i] * 1e-39),
        row(&|i| random[i] * 1e-9),
        row(&|i| random[i] * 1e30),
        row(&|i| random[i] * f32::MAX),
        row(&|i| -random[i].abs() - 0.1),
        row(&|i| 2f32.powi(i as i32 % 40 - 20)),
        row(&|i| if i == 5 { 1e4 } else { random[i] * 1e-3 }),
        row(&|i| (i as f32 - 30.0) * 0.5),
        row(&|_| 0.7),
    ];
    rows.concat()
}

/// The spec of a golden case, and the output that holds its values; `None` for what is no format of a matrix: other
/// block dimensions, three-dimensional activations, layers, masks, blocks of bytes.
fn spec_of(case: &Value, shape: &[usize]) -> Option<(String, &'static str)> {
    let params = &case["params"];
    let param = |name: &str| match &params[name] {
        Value::Null => "none".to_owned(),
        value => value.to_string(),
    };
    let family = case["format"].as_str()?;
    if !params["multiply_input_by"].is_null() {
        return None; // another input than the one named
    }
    let minifloat = || {
        let (width, exponent) = (param("width"), param("exponent_width"));
        format!("{family}({width},{exponent},{})", param("exponent_bias"))
    };
    // Activations of two dimensions have blocks within rows.
    let block = || {
        let mut block: Vec<i64> = serde_json::from_value(params["block_size"].clone()).ok()?;
        if params["skip_first_dim"] == true {
            block = vec![1, *block.last()?];
        }
        Some(format!("block_size={}", json!(block)))
    };
    let last = params["block_dim"] == -1 && params["quantile_search"].is_null();
    let text = match family {
        "qlinear_tensor" => return Some((format!("int{}", param("bitwidth")), "q")),
        "integer" | "integer_floor" => {
            let signed = if params["is_signed"] == false { ",is_signed=false" } else { "" };
            let floor = if family == "integer_floor" { ",floor" } else { "" };
            format!("integer({},{}{floor}{signed})", param("width"), param("frac_width"))
        }
        "minifloat_denorm" | "minifloat_ieee" => minifloat(),
        "log" => format!("log({},{})", param("width"), param("exponent_bias")),
        "binary" if params["bipolar"] == true => "binary".to_owned(),
        "residual_sign" => format!("residual_sign({})", param("levels")),
        "block_fp" if shape.len() < 3 => {
            let (width, exponent) = (param("width"), param("exponent_width"));
            format!("block_fp({width},{exponent},{},{})", param("exponent_bias"), block()?)
        }
        "block_minifloat" if shape.len() < 3 => {
            let (width, exponent) = (param("width"), param("exponent_width"));
            format!("block_minifloat({width},{exponent},{},{})", param("exponent_bias_width"), block()?)
        }
        "block_log" if shape.len() < 3 => {
            format!("block_log({},{},{})", param("width"), param("exponent_bias_width"), block()?)
        }
        "mxint" if last => format!("mxint({},{})", param("element_bits"), param("block_size")),
        "mxfp" if last => {
            let (exponent, fraction) = (param("element_exp_bits"), param("element_frac_bits"));
            format!("mase_mxfp({exponent},{fraction},{})", param("block_size"))
        }
        "mxint_hardware" => {
            let (width, exponent) = (param("width"), param("exponent_width"));
            format!("mxint_hardware({width},{exponent},{})", param("parallelism"))
        }
        "nvfp4" if params["two_level"] == true => "nvfp4".to_owned(),
        "mase_cuda_mxint8" if params["mantissa"].is_null() && params["weight"].is_null() => {
            return Some((format!("mxint_cuda(group={})", param("group_size")), "y_bf16"));
        }
        "base11" if params["weight"].is_null() && params["indices"].is_null() => {
            format!("base11(layout=9in32,group={})", param("group_size"))
        }
        "gguf_Q4_0" | "gguf_Q8_0" | "gguf_TQ1_0" | "gguf_TQ2_0" => family[5..].to_lowercase(),
        _ => {
            let element = family.strip_prefix("mx_").or_else(|| family.strip_prefix("ocp_codes_"))?;
            let element = if element == "fp4_e2m1" { "fp4" } else { element };
            let round = params["round"].as_str().unwrap_or("even");
            format!("mx{element}(round={round})")
        }
    };
    Some((text, "y"))
}

#[test]
fn golden_vectors_pass_through_the_program() {
    let place = Place::new();
    let folder = Path::new(ROOT).join("tests/golden");
    let list: Value = serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    let mut files: HashMap<String, TensorFile> = HashMap::new();
    let mut read = |output: &Value| -> Option<(Vec<usize>, Vec<f32>)> {
        let file = output["file"].as_str()?;
        let open = || TensorFile::open(&folder.join(file)).unwrap();
        let file = files.entry(file.to_string()).or_insert_with(open);
        let tensor = file.get(output["name"].as_str()?)?;
        let values = file.widen(tensor);
        let values =
            values.unwrap_or_else(|_| file.bytes(tensor).iter().map(|&q| f32::from(q as i8)).collect());
        Some((tensor.shape.clone(), values))
    };
    // Every case is a tensor of one file, and has its own spec.
    let (mut tensors, mut qconfig, mut wants) = (Vec::new(), json!({}), Vec::new());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in list["cases"].as_array().unwrap() {
        let (id, family) = (case["id"].as_str().unwrap(), case["format"].as_str().unwrap());
        let name = case["input"].as_str().unwrap_or_default();
        let mut input = list["inputs"].get(name).cloned().unwrap_or_else(|| case["outputs"]["x"].clone());
        if input["name"].is_null() {
            input["name"] = name.into();
        }
        let Some((shape, weights)) = read(&input) else { continue };
        let Some((spec, output)) = spec_of(case, &shape).filter(|_| case["status"] == "ok") else { continue };
        let Some((_, mut want)) = read(&case["outputs"][output]) else { continue };
        if weights.iter().any(|w| !w.is_finite()) {
            continue; // refused, and tested elsewhere
        }
        if output == "q" {
            let (_, scale) = read(&case["outputs"]["scale"]).unwrap();
            want.iter_mut().for_each(|q| *q *= scale[0]);
        }
        if family == "residual_sign" {
            // One tensor per level, which add up.
            let levels: Vec<&[f32]> = want.chunks(weights.len()).collect();
            want = (0..weights.len()).map(|i| levels.iter().fold(0.0, |sum, level| sum + level[i])).collect();
        }
        qconfig[id] = spec.into();
        wants.push((case, want));
        tensors.push((id, shape, weights));
        *counts.entry(family).or_default() += 1;
    }
    let borrowed: Vec<_> =
        tensors.iter().map(|(id, shape, weights)| (*id, &shape[..], &weights[..])).collect();
    place.write("in", &borrowed);
    std::fs::write(place.path("mix.json"), qconfig.to_string()).unwrap();
    place.ok(&["quantize", "--model", "in", "--qconfig", "mix.json", "--vectors", "--output", "packed"]);
    let file = place.decode_both("packed", "golden cases");
    for ((case, mut want), (id, shape, _)) in wants.into_iter().zip(&tensors) {
        let tensor = file.get(id).unwrap();
        assert_eq!((tensor.element, &tensor.shape), (Element::Plain(Dtype::F32), shape));
        let mut got = file.widen(tensor).unwrap();
        if case["format"] == "base11" {
            // Upstream drops a short last group.
            let (cols, group) =
                (*shape.last().unwrap(), case["params"]["group_size"].as_u64().unwrap() as usize);
            got = got.chunks(cols).flat_map(|row| &row[..cols / group * group]).copied().collect();
        }
        // Where the original's logarithm in f32 is off, exact exponents differ from it.
        for index in case["log2_sensitive"].as_array().into_iter().flatten() {
            let index = index.as_u64().unwrap() as usize;
            want[index] = got[index];
        }
        assert_same(&got, &want, &format!("{id} as {}", qconfig[id]));
    }
    let total: usize = counts.values().sum();
    assert!(counts.len() >= 32 && total >= 400, "{total} cases: {counts:?}");
}

#[test]
fn every_format_decodes_alike_on_gpu_and_cpu() {
    let place = Place::new();
    // 1200 and 3 x 16 x 25 are multiples of every mxint_cuda group used here.
    let (hard, stack, tall) = (hard_rows(100), values(1200, 0.05), values(48 * 320, 3.0));
    let blocks = |text: &str| matches!(text.parse(), Ok(Format::Ggml(_))) || text.contains("block=32");
    place.write(
        "in",
        &[("hard", &[12, 100], &hard), ("stack", &[3, 16, 25], &stack), ("tall", &[48, 320], &tall)],
    );
    let mild: Vec<f32> = hard.iter().map(|v| if v.abs() > 6e4 { 1.0 } else { *v }).collect();
    place.write(
        "mild",
        &[("hard", &[12, 100], &mild), ("stack", &[3, 16, 25], &stack), ("tall", &[48, 320], &tall)],
    );
    let mut formats = Format::catalog();
    formats.extend(
        [
            "mxint_cuda(group=3)",
            "base11(layout=9in32,group=1)",
            "base11(layout=9in32,group=10)",
            "int5(group=64)",
        ]
        .map(|text| text.parse::<Format>().unwrap()),
    );
    // Blocks of 32 to 256 weights want other shapes.
    let wide = hard_rows(256).iter().map(|v| if v.abs() > 6e4 { 1.0 } else { *v }).collect::<Vec<f32>>();
    place.write("blocks", &[("hard", &[12, 256], &wide)]);
    for format in formats.iter().filter(|format| blocks(&format.to_string())) {
        let file = place.round_trip("blocks", &format.to_string(), &[]);
        let want = format.encode(&wide, 12, 256).unwrap().decode();
        assert_same(&file.widen(file.get("hard").unwrap()).unwrap(), &want, &format.to_string());
    }
    for format in formats.into_iter().filter(|format| !blocks(&format.to_string())) {
        // f16 and bf16 refuse what they cannot hold.
        let (input, hard) =
            if matches!(format, Format::F16 | Format::Bf16) { ("mild", &mild) } else { ("in", &hard) };
        let file = place.round_trip(input, &format.to_string(), &[]);
        assert_eq!(file.tensors().len(), 3);
        for (name, shape, weights) in [
            ("hard", vec![12, 100], hard),
            ("stack", vec![3, 16, 25], &stack),
            ("tall", vec![48, 320], &tall),
        ] {
            let tensor = file.get(name).unwrap();
            assert_eq!(tensor.shape, shape);
            let cols = *shape.last().unwrap();
            let want = format.encode(weights, weights.len() / cols, cols).unwrap().decode();
            let got = file.widen(tensor).unwrap();
            assert_same(&got, &want, &format!("{name} as {format}"));
            assert!(got.iter().all(|v| !v.is_nan() || v.to_bits() == 0x7fc0_0000), "{format}");
        }
    }
}

/// Every bit pattern of a packed file decodes to the same bytes on both backends, also those that no encoder
/// writes: foreign or damaged files.
#[test]
fn random_words_decode_alike_on_gpu_and_cpu() {
    let place = Place::new();
    let weights = values(10 * 256, 1.0);
    place.write("in", &[("w", &[10, 256], &weights)]);
    for format in Format::catalog() {
        let spec = format.to_string();
        place.ok(&["quantize", "--model", "in", "--format", &spec, "--output", "packed"]);
        let (header, mut data) = split(&place.read("packed"));
        let mut state = 88_172_645_463_325_252u64;
        // Exceptions are positions, which are checked.
        let offset = |i: usize| header["w.exceptions"]["data_offsets"][i].as_u64().unwrap_or(0) as usize;
        let exceptions = offset(0)..offset(1);
        let kept = data[exceptions.clone()].to_vec();
        // Symmetric codes of two bits have no -2, which is damage too.
        let has_no_lowest = matches!(format, Format::Int { bits: 2, .. } | Format::TernaryMean { .. });
        for byte in &mut data {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 32) as u8;
            if has_no_lowest {
                *byte |= (*byte & 0xaa) >> 1;
            }
        }
        data[exceptions].copy_from_slice(&kept);
        // Only formats of other programs may hold scales that are not finite; elsewhere they are damage.
        let may_overflow =
            matches!(format, Format::MxIntCuda { .. } | Format::Base11Nine32 { .. } | Format::Element { .. });
        let json = &header;
        let offset = |i: usize| json["w.scales"]["data_offsets"][i].as_u64().map(|n| n as usize);
        if let (Some(begin), Some(end), false) = (offset(0), offset(1), may_overflow) {
            data[begin..end].fill(0xff);
            std::fs::write(place.path("packed"), safetensors(&header, &data)).unwrap();
            place.fails(&["dequantize", "packed", "--output", "out"], &["`w`", "damaged"]);
            for (i, byte) in data[begin..end].iter_mut().enumerate() {
                *byte = (i * 37) as u8 & 0x3f;
            }
        }
        std::fs::write(place.path("packed"), safetensors(&header, &data)).unwrap();
        if matches!(format, Format::F32 | Format::F16 | Format::Bf16) {
            // NaN and infinity in plain floats are found when the file is read.
            place.fails(&["dequantize", "packed", "--output", "out"], &["`w`", "finite"]);
        } else {
            place.decode_both("packed", &spec);
        }
    }
}

#[test]
fn names_types_and_bystanders_survive() {
    let place = Place::new();
    let w = values(6 * 40, 1.0);
    let planned = [
        ("a.weight", Dtype::F32, vec![6, 40]),
        ("a.bias", Dtype::F32, vec![6]),
        ("ids", Dtype::I64, vec![2, 2]),
        ("b.weight", Dtype::BF16, vec![2, 4]),
    ]
    .map(|(name, dtype, shape)| Planned { name: name.into(), dtype, shape });
    let mut writer = Writer::create(&place.path("in"), &planned, &[("author".into(), "me".into())]).unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    writer.write(0, &bytes(&w)).unwrap();
    writer.write(1, &bytes(&w[..6])).unwrap();
    writer.write(2, &[9; 32]).unwrap();
    writer.write(3, &[0x3f; 16]).unwrap();
    writer.finish().unwrap();
    std::fs::write(place.path("mix.json"), r#"{"*": "int4(group=32)@int8", "b": 8, "a.weight": "mxint6"}"#)
        .unwrap();
    let report =
        place.json(&["quantize", "--model", "in", "--qconfig", "mix.json", "--output", "p", "--json"]);
    let find = |name: &str| {
        let tensors = report["tensors"].as_array().unwrap().iter();
        tensors.filter(|t| t["name"] == name).map(|t| t["format"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(find("a.weight"), [json!("mxint6")]);
    assert_eq!(find("b.weight"), [json!("qlinear(bits=8)")]);
    assert_eq!((find("a.bias"), find("ids")), (vec![Value::Null], vec![Value::Null]));
    assert_eq!(report["file_bytes"], place.read("p").len());
    let formats = report["formats"].as_array().unwrap();
    let row = formats.iter().find(|row| row["format"] == "mxint6").unwrap();
    // 6 rows of 8 words and 2 scale bytes.
    assert_eq!((&row["bytes_before"], &row["bytes_after"]), (&json!(960), &json!(6 * 34)));
    assert_eq!(row["bits_per_weight"].as_f64().unwrap(), 6.0 * 34.0 * 8.0 / 240.0);

    // The activation format is kept, and other programs can read the file.
    let reader = Reader::open(&place.path("p")).unwrap();
    assert_eq!(reader.entry("b.weight").unwrap().spec.to_string(), "qlinear(bits=8)");
    assert_eq!(reader.file().metadata("author"), Some("me"));
    let bytes = place.read("p");
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names();
    names.sort_unstable();
    assert_eq!(names, ["a.bias", "a.weight", "a.weight.scales", "b.weight", "b.weight.scales", "ids"]);

    let file = place.decode_both("p", "mixed");
    let all = ["a.bias", "a.weight", "b.weight", "ids"];
    assert!(all.iter().all(|name| file.get(name).is_some()) && file.tensors().len() == all.len());
    assert_eq!(*file.bytes(file.get("ids").unwrap()), [9; 32]);
    assert_same(&file.widen(file.get("a.bias").unwrap()).unwrap(), &w[..6], "a.bias");

    // Vectors take part on demand.
    let line = ["quantize", "--model", "in", "--format", "int8", "--vectors", "--output", "v", "--json"];
    let report = place.json(&line);
    assert_eq!(report["formats"][0]["tensors"], 3);
}

#[test]
fn a_model_becomes_one_file_that_is_a_model() {
    let place = Place::new();
    let gpt2 = Path::new(ROOT).join("tests/data/sort-gpt2");
    let text = place.ok(&["quantize", "--format", "int4(group=32)", "--output", "packed.safetensors"]);
    assert!(text.contains("int4(group=32)") && text.contains("unchanged"), "{text}");
    let packed = place.json(&["inspect", "--model", "packed.safetensors", "--json"]);
    let asked = place.json(&["inspect", "--format", "int4(group=32)", "--json"]);
    assert_eq!(packed["tensors"], asked["tensors"]);
    assert_eq!(packed["bits_per_weight"], 4.5);
    place.fails(
        &["quantize", "--model", "packed.safetensors", "--format", "int8", "--output", "x"],
        &["packed already"],
    );
    place.fails(&["inspect", "--model", "packed.safetensors", "--format", "int8"], &["packed already"]);
    place.fails(&["quantize", "--format", "int8", "--vectors", "--output", "x"], &["--vectors"]);

    // Transposed weights come back in the orientation of the checkpoint.
    let gpt2 = gpt2.to_str().unwrap();
    std::fs::write(place.path("q.json"), r#"{"*": "mxint8"}"#).unwrap();
    place.ok(&["quantize", "--model", gpt2, "--qconfig", "q.json", "--output", "packed"]);
    let file = place.decode_both("packed", "gpt2");
    let original = TensorFile::open(&Path::new(gpt2).join("model.safetensors")).unwrap();
    assert_eq!(file.tensors().len(), original.tensors().len());
    for tensor in original.tensors() {
        let got = file.get(&tensor.name).unwrap();
        assert_eq!(got.shape, tensor.shape, "{}", tensor.name);
        let (got, want) = (file.widen(got).unwrap(), original.widen(tensor).unwrap());
        let largest = want.iter().fold(0f32, |max, v| max.max(v.abs()));
        for (g, w) in got.iter().zip(&want) {
            assert!((g - w).abs() <= largest / 64.0, "{}: {g} for {w}", tensor.name);
        }
    }
    place.fails(
        &["quantize", "--model", gpt2, "--format", "int8", "--output", &format!("{gpt2}/model.safetensors")],
        &["is the input"],
    );
}

#[test]
fn inspect_accounts_for_every_bit() {
    let place = Place::new();
    let json = place.json(&[
        "inspect",
        "--format",
        "int4(group=128)",
        "--sequences",
        "3",
        "--context",
        "50",
        "--json",
    ]);
    let sum =
        |key: &str| json["tensors"].as_array().unwrap().iter().map(|t| t[key].as_u64().unwrap()).sum::<u64>();
    let bits = sum("code_bits") + sum("scale_bits") + sum("padding_bits");
    assert_eq!((bits, json["bytes"].as_u64().unwrap()), (sum("bytes") * 8, sum("bytes")));
    assert_eq!(json["f32_bytes"], 2_632_128 * 4);
    // Six layers, keys and values, 3 sequences of 50 tokens, 96 = 3 heads of 32.
    assert_eq!(json["kv_cache_bytes"], 6 * 2 * 3 * 50 * 96 * 4);
    let text = json["explanation"].as_str().unwrap();
    for wanted in ["12.50 %", "Scales add", "embeddings (f16", "KV cache", "not quantized"] {
        assert!(text.to_lowercase().contains(&wanted.to_lowercase()), "{text:?} lacks {wanted:?}");
    }

    // Equal layers share a line unless all are asked for.
    let short = place.ok(&["inspect", "--format", "base11"]);
    let long = place.ok(&["inspect", "--format", "base11", "--all"]);
    assert!(short.contains("model.layers.*.mlp.up_proj.weight") && short.lines().count() < 20, "{short}");
    assert!(long.contains("model.layers.5.mlp.up_proj.weight") && long.lines().count() > 56, "{long}");
    assert!(place.ok(&["inspect"]).contains("Nothing is quantized"));

    // A tensor file, as it is and as it would be.
    place.write("in", &[("w", &[3, 300], &values(900, 1.0)), ("v", &[7], &values(7, 1.0))]);
    let plain = place.json(&["inspect", "--model", "in", "--json"]);
    assert_eq!((&plain["bytes"], &plain["f32_bytes"]), (&json!(907 * 4), &json!(907 * 4)));
    let spec = "base11(layout=9in32,group=256)";
    let planned = place.json(&["inspect", "--model", "in", "--format", spec, "--json"]);
    place.ok(&["quantize", "--model", "in", "--format", spec, "--output", "packed"]);
    let packed = place.json(&["inspect", "--model", "packed", "--json"]);
    for json in [planned, packed] {
        let t = json["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "w").unwrap().clone();
        // A row: 28 full words and one of 4 digits (14 bits), 4 full words and one of 8 digits (28 bits).
        assert_eq!(t["code_bits"], 3 * (32 * 32 + 14 + 28));
        assert_eq!((&t["scale_bits"], &t["padding_bits"]), (&json!(3 * 2 * 32), &json!(3 * (18 + 4))));
        assert_eq!(json["kv_cache_bytes"], 0);
    }
    place.fails(&["inspect", "--context", "129"], &["129", "128"]);
    place.fails(&["inspect", "--model", "in", "--context", "9"], &["no model"]);
    place.fails(&["inspect", "--sequences", "0"], &["--sequences"]);
}

/// Without any driver the CPU decodes, and says so; a GPU that was asked for stays an error.
#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_the_cpu_decodes_aloud() {
    let place = Place::new();
    place.write("in", &[("w", &[4, 64], &values(256, 1.0))]);
    place.ok(&["quantize", "--model", "in", "--format", "int4", "--output", "packed"]);
    place.ok(&["dequantize", "packed", "--output", "want", "--backend", "reference"]);
    let run = |more: &[&str]| {
        let line = [&["dequantize", "packed", "--output", "out"], more].concat();
        let mut command = place.command(&line);
        command.env("VK_DRIVER_FILES", "/none").env("VK_ICD_FILENAMES", "/none");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = run(&["--backend", "gpu"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("mesa-vulkan-drivers") && error.contains("--backend reference"), "{error}");
    assert!(!place.path("out").exists());
    let (code, error) = run(&[]);
    assert_eq!(code, Some(0), "{error}");
    assert!(error.contains("WARNING") && error.contains("CPU REFERENCE"), "{error}");
    assert!(place.read("out") == place.read("want"));
}

#[test]
fn a_matrix_larger_than_a_binding_is_decoded_in_parts() {
    let place = Place::new();
    // 160 MB in f32; Mesa's software driver binds 128 MiB at once.
    let (rows, cols) = (4001, 10_001);
    let weights = values(rows * cols, 1.0);
    place.write("in", &[("w", &[rows, cols], &weights)]);
    for spec in ["int4(group=64)", "base11(layout=9in32,group=100)"] {
        let format: Format = spec.parse().unwrap();
        let file = place.round_trip("in", spec, &[]);
        let packed: Packed = format.encode(&weights, rows, cols).unwrap();
        assert!(file.widen(file.get("w").unwrap()).unwrap() == packed.decode(), "{spec}");
    }
}

#[test]
fn help_shows_examples() {
    let place = Place::new();
    for verb in ["quantize", "dequantize", "inspect"] {
        let text = place.ok(&[verb, "--help"]);
        assert!(text.contains("Examples:") && text.contains(&format!("  anybit {verb} ")), "{text}");
    }
}
