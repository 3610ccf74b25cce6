//! The case table on every configuration of the device, and proof that it can fail. Needs an adapter and fails
//! without one.

use std::sync::Once;

use anybit::cases::{self, CaseResult, Filter};
use anybit::format::{CustomFormat, Format, Scope};
use anybit::gpu::{Gpu, OpenOptions};
use anybit::shader::{Contract, DeviceClass, FormatVariant, Kernel};

const ADAPTER: &str =
    "these tests need a Vulkan, Metal or DX12 adapter; ./test.sh installs a software one where it can";

fn open(options: OpenOptions) -> Gpu {
    Gpu::open(options).expect(ADAPTER)
}

/// Runs the cases and fails with a list of those that do not hold.
fn run(options: OpenOptions, filter: &Filter) -> Vec<CaseResult> {
    register_formats();
    let results = cases::run_apart(&options, filter, &|_, _| ()).expect(ADAPTER);
    assert!(!results.is_empty(), "{filter:?} selects nothing");
    let failures: Vec<String> = results
        .iter()
        .filter(|r| !r.pass)
        .map(|r| format!("{}<{}> {}: {}", r.kernel, r.variant, r.shape, r.at.as_deref().unwrap_or("")))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail with {options:?}:\n{}",
        failures.len(),
        results.len(),
        failures.join("\n")
    );
    results
}

fn named(text: &str) -> Filter {
    Filter { text: Some(text.to_string()), ..Filter::default() }
}

#[test]
fn all_cases_without_shader_checks() {
    let results = run(OpenOptions::default(), &Filter::default());
    for kernel in Kernel::ALL {
        let row = kernel.row();
        let ran = results.iter().any(|r| r.kernel == row.name);
        assert!(ran || row.direct || row.half, "no case of {} ran", row.name);
    }
}

#[test]
fn cases_with_shader_checks_from_storage() {
    // From storage, as on a GPU; without checks a software driver reads textures, windows and long words. How words are
    // read does not depend on what is made of them, so of the kernels that read a matrix some formats stand for all.
    let options =
        OpenOptions { checked: true, texels: false, long: false, windows: None, ..OpenOptions::default() };
    let (formats, others): (Vec<_>, Vec<_>) =
        Kernel::ALL.into_iter().partition(|kernel| kernel.row().contract != Contract::None);
    run(options.clone(), &Filter { kernels: others, ..Filter::default() });
    for text in [
        "f32 [",
        "int4(group=32) [",
        "int8 [",
        "int3 [",
        "int2 [",
        "mxint8 [",
        "base11 [",
        "radix",
        "nf4 [",
        "q4_k [",
    ] {
        run(options.clone(), &Filter { kernels: formats.clone(), ..named(text) });
    }
}

fn reductions() -> Vec<Kernel> {
    Kernel::ALL.into_iter().filter(|kernel| kernel.row().reduces).collect()
}

#[test]
fn reductions_without_subgroups() {
    let options = OpenOptions { subgroups: false, ..OpenOptions::default() };
    run(options.clone(), &Filter { kernels: reductions(), ..Filter::default() });
    run(options, &named("as the engine picks"));
}

#[test]
fn operands_in_windows_where_storage_is_the_default() {
    let kernels: Vec<Kernel> = Kernel::ALL.into_iter().filter(|k| k.row().window).collect();
    assert!(kernels.len() >= 3, "{kernels:?}");
    // How operands are read does not depend on the format: two stand for all, and such kernels take long to compile.
    for texels in [false, true] {
        let options = OpenOptions { windows: Some(1), texels, ..OpenOptions::default() };
        for text in ["int4(group=32) [", "int8 ["] {
            run(options.clone(), &Filter { kernels: kernels.clone(), ..named(text) });
        }
    }
}

#[test]
fn the_other_kind_of_partition() {
    let own = open(OpenOptions::default()).class();
    let class = Some(if own == DeviceClass::Cpu { DeviceClass::Gpu } else { DeviceClass::Cpu });
    for subgroups in [true, false] {
        let options = OpenOptions { class, subgroups, ..OpenOptions::default() };
        run(options.clone(), &Filter { kernels: reductions(), ..Filter::default() });
        if subgroups {
            let kernels = vec![Kernel::Gemv, Kernel::GemvI8, Kernel::Argmax];
            run(options.clone(), &Filter { kernels, cover: true, ..Filter::default() });
            run(options, &named("as the engine picks"));
        }
    }
}

#[test]
fn gemv_for_gpus_with_one_to_32_lanes() {
    let options = OpenOptions { class: Some(DeviceClass::Gpu), ..OpenOptions::default() };
    for text in [
        "gemv<f32> ",
        "gemv<int4 group> int4(group=32)",
        "gemv_i8<int4 row> int4 ",
        "gemv_i8<int6 exponent> ",
    ] {
        run(options.clone(), &named(text));
    }
}

#[test]
fn matrices_larger_than_a_binding_are_split() {
    // 31 rows of 172 columns fit, in f32.
    let options = OpenOptions { max_binding: Some(25_000), ..OpenOptions::default() };
    let tiled = || {
        let direct = [Kernel::GemmDirect, Kernel::GemmI8Direct, Kernel::GemmPairedDirect];
        [&[Kernel::Gemm, Kernel::GemmI8], direct.as_slice()].concat()
    };
    for (kernels, text) in [
        (vec![Kernel::Dequantize], "int4(group=32) [64, 192]"),
        (vec![Kernel::Dequantize], "mxint_cuda [64, 192]"),
        (vec![Kernel::Dequantize], "base11(layout=9in32) [64, 192]"),
        (vec![Kernel::Embed], "int6(group=128) [75, 172]"),
        (vec![Kernel::Embed], "mxint8 [75, 172]"),
        (vec![Kernel::Gemv, Kernel::GemvI8], "int4(group=32) [37, 172]"),
        (vec![Kernel::Gemv, Kernel::GemvI8], "mxint_cuda(group=43) [37, 172]"),
        (tiled(), "int3 [70, 172]"),
        (tiled(), "base11 [70, 172]"),
    ] {
        run(options.clone(), &Filter { kernels, ..named(text) });
    }
}

/// Codebooks with a real scale come in every width only from outside the crate.
fn register_formats() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for count in [2, 4, 7, 16, 20, 50, 100, 256] {
            let values = (0..count).map(|i| (i as f32 - count as f32 / 3.0) * 0.37 + 0.1).collect();
            let name = format!("levels_{count}");
            CustomFormat { name, values, scope: Scope::Group(32) }.register().expect("a new name");
        }
    });
}

#[test]
fn every_kernel_and_format_has_cases() {
    register_formats();
    let all = cases::all();
    let mut missing = Vec::new();
    for kernel in Kernel::ALL {
        assert!(!cases::reference(kernel).is_empty());
        let of_kernel = || all.iter().filter(|c| c.kernel == kernel);
        assert!(of_kernel().any(|c| c.cover), "{} is not covered", kernel.row().name);
        // In f16 formats are decoded by the fragments that the same kernel in f32 is tested with.
        if kernel.row().contract == Contract::None || kernel.row().half {
            continue;
        }
        for format in FormatVariant::all() {
            let integer = kernel.row().contract == Contract::Integer;
            if integer && !format.takes_codes_of(kernel.x_bits()) {
                continue;
            }
            let name = format.name();
            // Groups that do not align with chunks are decoded by the same pipeline or by one more.
            let is_it = |variant: &str| variant.strip_suffix(" straddling").unwrap_or(variant) == name;
            if !of_kernel().any(|c| is_it(&c.variant) && c.cover) {
                missing.push(format!("{}<{name}>", kernel.row().name));
            }
        }
    }
    assert!(missing.is_empty(), "no case of {}", missing.join(", "));
    let mut names: Vec<String> = all.iter().map(cases::Case::name).collect();
    names.sort();
    assert!(names.windows(2).all(|w| w[0] != w[1]), "two cases have the same name");
}

/// A flipped bit in a packed matrix on the device: the cases fail and name the first element it reaches.
#[test]
fn a_flipped_bit_is_found_and_named() {
    let gpu = open(OpenOptions::default());
    let (rows, cols) = (13, 172);
    let weights: Vec<f32> = (0..rows * cols).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    // Format, the words whose bit is flipped, and the element of the decoded matrix that changes most.
    let flips: [(&str, bool, usize, u32, &str); 4] = [
        // Scale 3 is the group of columns 96..128 of row 0: the upper half of word 1.
        ("int4(group=32)", true, 1, 1 << 26, "[0, "),
        // One f32 scale per row.
        ("int8(scale=row)", true, 7, 1 << 24, "[7, "),
        // 22 words of 8 codes per row: word 50 is in row 2.
        ("int4", false, 50, 1 << 3, "[2, 48]"),
        ("f32", false, 171, 1 << 22, "[0, 171]"),
    ];
    for (format, in_scales, word, bit, place) in flips {
        let format: Format = format.parse().unwrap();
        let truth = format.encode(&weights, rows, cols).unwrap();
        let mut device = truth.clone();
        let words = if in_scales { &mut device.scales } else { &mut device.codes };
        words[word] ^= bit;
        for case in cases::of_matrix(&truth, &truth).unwrap() {
            let result = case.run(&gpu);
            assert!(result.pass, "{format}: {result:?}");
        }
        for case in cases::of_matrix(&device, &truth).unwrap() {
            let result = case.run(&gpu);
            let at = result.at.clone().unwrap_or_default();
            assert!(!result.pass && result.max_error > 0.0, "{format} {}: {result:?}", case.name());
            if case.kernel == Kernel::Dequantize {
                assert!(at.starts_with(place), "{format}: {at}, want {place}");
            } else {
                // The row of the matrix is the column of the product.
                let row: usize = place[1..].split(',').next().unwrap().parse().unwrap();
                let ends = [format!(", {row}]: "), format!("[{row}]: ")];
                assert!(ends.iter().any(|end| at.contains(end.as_str())), "{format}: {at}, want row {row}");
            }
        }
    }
}
