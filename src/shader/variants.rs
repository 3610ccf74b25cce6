//! Every variant of every kernel: what tests link and translate.

use super::{Choice, Contract, DeviceClass, Epilogue, FormatVariant, Kernel, Tile, Variant, function_code};
use crate::graph::Function;

/// Every variant the crate can ask for, with and without subgroups, in f16 those that stand for the others: what a test
/// links, validates and translates.
pub fn all_variants() -> Vec<Variant> {
    let functions = Function::ALL;
    let mut epilogues = vec![Epilogue::Store, Epilogue::Bias];
    for bias in [false, true] {
        epilogues.extend([Epilogue::Residual { bias }, Epilogue::Product { bias }]);
        epilogues.extend(functions.map(|function| Epilogue::Activation { bias, function }));
    }
    let classes = [DeviceClass::Gpu, DeviceClass::Cpu];
    let mut all = Vec::new();
    for kernel in Kernel::ALL {
        let row = kernel.row();
        let base = Variant::plain(kernel, Tile::elementwise());
        match row.contract {
            Contract::None if row.reduces || kernel == Kernel::Argmax => {
                for class in classes {
                    for subgroup in [false, true] {
                        let tile = match kernel {
                            Kernel::Attention | Kernel::AttentionPart => Tile::attention(class),
                            _ => Tile::reduction(class),
                        };
                        let subgroup = subgroup && row.reduces;
                        let variant = Variant { subgroup, ..Variant::plain(kernel, tile) };
                        match kernel {
                            Kernel::Attention | Kernel::AttentionPart => {
                                all.extend([8, 64, 80, 256].map(|d| variant.clone().constant("HEAD_DIM", d)));
                            }
                            Kernel::Quantize => {
                                all.extend([0, 1].map(|s| variant.clone().constant("PER_TENSOR", s)));
                            }
                            _ => all.push(variant),
                        }
                    }
                }
            }
            Contract::None if row.function => {
                all.extend(functions.map(|f| base.clone().constant("FUNCTION", function_code(f))));
            }
            Contract::None if kernel == Kernel::AttentionDirect => {
                let tile = Tile::attention_direct();
                let variant = Variant { subgroup: true, ..Variant::plain(kernel, tile) };
                let heads = [1, 2].map(|n| variant.clone().constant("HEADS", n));
                let with =
                    |variant: &Variant| [8, 32, 80, 128].map(|d| variant.clone().constant("HEAD_DIM", d));
                all.extend(heads.iter().flat_map(with));
                all.push(variant.constant("HEADS", 1).constant("HEAD_DIM", 256));
            }
            Contract::None if row.direct => {
                let variant = Variant { subgroup: true, ..Variant::plain(kernel, Tile::rows()) };
                match kernel {
                    Kernel::QuantizeDirect => {
                        for bits in [8, 4, 2] {
                            let variant = variant.clone().constant("X_BITS", bits);
                            all.extend([0, 1].map(|s| variant.clone().constant("PER_TENSOR", s)));
                        }
                    }
                    _ => all.push(variant),
                }
            }
            Contract::None if kernel == Kernel::AttentionJoin => {
                all.extend([8, 64, 80, 256].map(|d| base.clone().constant("HEAD_DIM", d)));
            }
            Contract::None if kernel == Kernel::RopeQkvWide => {
                all.extend([0, 1].map(|queries| base.clone().constant("QUERIES", queries)));
            }
            Contract::None => all.push(base),
            Contract::Float | Contract::Integer => {
                for format in FormatVariant::all() {
                    if row.contract == Contract::Integer && !format.takes_codes_of(kernel.x_bits()) {
                        continue;
                    }
                    // Decoding is that of `gemm`, with which every format is linked.
                    if row.half && format.name() != "int4 group" && format != FormatVariant::dense() {
                        continue;
                    }
                    let variant = Variant { format: Some(format), ..base.clone() };
                    match kernel {
                        Kernel::Embed => all.extend([0, 1, 2].map(|s| variant.clone().constant("SOURCE", s))),
                        Kernel::Dequantize => all.push(variant),
                        _ => products(kernel, &variant, &epilogues, &mut all),
                    }
                }
            }
        }
    }
    // Through windows, in 64-bit words and in texels: what that changes does not depend on the epilogue.
    let plain = |variant: &&Variant| variant.epilogue.is_none_or(|epilogue| epilogue == Epilogue::Store);
    let windowed: Vec<Variant> = all
        .iter()
        .filter(plain)
        .filter(|variant| variant.takes_window())
        .map(|variant| Variant { window: true, ..variant.clone() })
        .collect();
    let takes_long = all.iter().filter(plain).filter(|variant| variant.takes_long());
    let long: Vec<Variant> = takes_long.map(|variant| Variant { long: true, ..variant.clone() }).collect();
    let takes_texels = all.iter().filter(plain).filter(|variant| variant.takes_texels());
    let texels: Vec<Variant> = takes_texels
        .map(|variant| Variant { texels: true, long: variant.takes_long(), ..variant.clone() })
        .collect();
    all.extend(windowed);
    all.extend(long);
    all.extend(texels);
    all
}

/// A matrix kernel over its tiles and epilogues; the epilogues multiply only one tile, they do not depend on it.
fn products(kernel: Kernel, base: &Variant, epilogues: &[Epilogue], all: &mut Vec<Variant>) {
    let gemv = matches!(kernel, Kernel::Gemv | Kernel::GemvI8);
    let direct = kernel.row().direct;
    let integer = kernel.row().contract == Contract::Integer;
    let mut base = base.clone();
    if integer {
        base = base.constant("X_PER_CHUNK", 0);
    }
    for class in [DeviceClass::Gpu, DeviceClass::Cpu] {
        let mut tiles: Vec<Tile> = if gemv {
            [(1, 64), (2, 4096), (4, 4096), (8, 4096)].map(|(m, cols)| Tile::gemv(class, m, cols)).to_vec()
        } else if kernel == Kernel::GemvDirect {
            [64, 4096].map(Tile::gemv_direct).to_vec()
        } else if matches!(kernel, Kernel::GemmPairedDirect | Kernel::GemmPlanesDirect) {
            vec![Tile::narrow()]
        } else if direct {
            [8, 16].map(|m| Tile::direct(m, false)).to_vec()
        } else {
            vec![Tile::gemm()]
        };
        // What a search over tiles may choose, in one format: no decoding depends on the tile.
        if base.format.is_some_and(|format| format.name() == "int4 group") {
            let choices = [1, 8, 512].map(|m| Choice::candidates(class, direct, m, 4096, integer));
            for choice in choices.into_iter().flatten() {
                let runs = choice.kernel(integer);
                if (runs == kernel || (runs, kernel) == (Kernel::Gemm, Kernel::GemmF16))
                    && !tiles.contains(&choice.tile)
                {
                    tiles.push(choice.tile);
                }
            }
        }
        for (i, tile) in tiles.into_iter().enumerate() {
            let variant = Variant { tile, epilogue: Some(Epilogue::Store), subgroup: direct, ..base.clone() };
            if direct && i == 0 {
                let quads = Variant { quads: true, ..variant.clone() };
                match class {
                    // How a sum ends depends on neither the format nor the device.
                    DeviceClass::Gpu => all.push(quads),
                    DeviceClass::Cpu if base.format.is_some_and(|format| format.name() == "int4 row") => {
                        all.extend(epilogues.iter().map(|&e| Variant { epilogue: Some(e), ..quads.clone() }));
                        if integer {
                            all.push(Variant { epilogue: Some(Epilogue::Accumulator), ..quads });
                        }
                    }
                    DeviceClass::Cpu => {}
                }
            }
            if integer && kernel.x_bits() == 8 {
                let mut per_chunk = variant.clone();
                per_chunk.constants = vec![("X_PER_CHUNK", 1)];
                all.push(per_chunk);
            }
            if (gemv || direct) && class == DeviceClass::Cpu {
                let any = |bias| Epilogue::Any { bias, function: Function::Silu };
                let quads = direct && i == 0;
                all.extend([false, true].map(|b| Variant {
                    epilogue: Some(any(b)),
                    quads,
                    ..variant.clone()
                }));
            }
            if (gemv || kernel == Kernel::GemvDirect) && i == 0 {
                let gated = |bias| Epilogue::Gated { bias, function: Function::Silu };
                let tile = variant.tile.gated();
                all.extend([false, true].map(|b| Variant {
                    epilogue: Some(gated(b)),
                    tile,
                    ..variant.clone()
                }));
                if direct {
                    let epilogue = Some(gated(false));
                    all.push(Variant { epilogue, tile, quads: true, ..variant.clone() });
                }
            }
            if i == 0 && class == DeviceClass::Gpu {
                all.extend(epilogues.iter().map(|&e| Variant { epilogue: Some(e), ..variant.clone() }));
                if integer && base.format.is_some_and(FormatVariant::row_scale) {
                    all.push(Variant { epilogue: Some(Epilogue::Accumulator), ..variant });
                }
            } else {
                all.push(variant);
            }
        }
    }
}
