//! The functions by which kernels read and store pairs and quads, of vec4, of 64-bit words or of texels.

use std::fmt::Write as _;

use super::{Access, Binding, LONG_PAIRS, Variant, lib};

/// Appends `NAME_pair`, `NAME_at` and `NAME_put` of every binding that has them.
pub(super) fn append(variant: &Variant, text: &mut String) {
    let row = variant.kernel.row();
    if variant.long && variant.takes_long() {
        text.push_str(lib!("long"));
    }
    if !row.pairs.is_empty() {
        let words = row.bindings.iter().any(|b| row.pairs.contains(&b.name) && b.ty == "array<vec4<u32>>");
        let _ = writeln!(text, "alias PairOf = vec4<{}>;", if words { "u32" } else { "f32" });
        let long = variant.bindings().iter().any(|b| row.pairs.contains(&b.name) && b.ty == LONG_PAIRS);
        text.push_str(if long { lib!("pairs_long") } else { lib!("pairs") });
    }
    // What an element is to the kernel does not depend on the words it travels in.
    let short = Variant { long: false, ..variant.clone() };
    for (binding, bound) in short.bindings().iter().zip(variant.bindings()) {
        if variant.is_texels(binding) {
            texels(binding, row.pairs.contains(&binding.name), text);
        } else if row.pairs.contains(&binding.name) {
            pair(binding, variant.long, text);
        } else if variant.is_single(binding) {
            single(binding, bound.ty != binding.ty, text);
        }
    }
}

/// Codes of x in texels: vec4 of words.
fn texels(&Binding { name, access, .. }: &Binding, pairs: bool, text: &mut String) {
    let _ = match access == Access::TexelsOut {
        true => {
            writeln!(text, "fn {name}_put(i: u32, v: vec4<u32>) {{ textureStore({name}, texel(i), v); }}")
        }
        false => {
            writeln!(text, "fn {name}_at(i: u32) -> vec4<u32> {{ return textureLoad({name}, texel(i)); }}")
        }
    };
    if pairs {
        let _ = writeln!(
            text,
            "fn {name}_pair(i: u32) -> Pair {{ return Pair({name}_at(2u * i), {name}_at(2u * i + 1u)); }}"
        );
    }
}

fn pair(&Binding { name, access, .. }: &Binding, long: bool, text: &mut String) {
    let _ = match (access == Access::Write, long) {
        (true, true) => writeln!(text, "fn {name}_put(i: u32, p: Pair) {{ {name}[i] = whole(p); }}"),
        (true, false) => writeln!(
            text,
            "fn {name}_put(i: u32, p: Pair) {{ {name}[2u * i] = p.low; {name}[2u * i + 1u] = p.high; }}"
        ),
        (false, true) => writeln!(text, "fn {name}_pair(i: u32) -> Pair {{ return halves({name}[i]); }}"),
        (false, false) => writeln!(
            text,
            "fn {name}_pair(i: u32) -> Pair {{ return Pair({name}[2u * i], {name}[2u * i + 1u]); }}"
        ),
    };
}

fn single(&Binding { name, ty, access }: &Binding, long: bool, text: &mut String) {
    let element = ty.strip_prefix("array<").and_then(|ty| ty.strip_suffix('>')).unwrap_or(ty);
    let (stored, loaded) = match long {
        true => {
            ("as_long(bitcast<vec4<u32>>(v))".to_owned(), format!("bitcast<{element}>(as_quad({name}[i]))"))
        }
        false => ("v".to_owned(), format!("{name}[i]")),
    };
    let _ = match access == Access::Write {
        true => writeln!(text, "fn {name}_put(i: u32, v: {element}) {{ {name}[i] = {stored}; }}"),
        false => writeln!(text, "fn {name}_at(i: u32) -> {element} {{ return {loaded}; }}"),
    };
}
