// A field of `bits` bits as a float without a conversion, less `over`. Bits that stay where they are, at `at`, become bits of the
// mantissa of a float whose unit is bit `at`: 2^(23 - at) + field, from which it is exact to take 2^(23 - at) and `over`.
// `turned` turns bits of the field: two's complement with its sign turned is the code plus half the range. With constants
// that is two logical operations (one, where a device has those of three operands) and a subtraction, where moving,
// extending and converting are three. Precondition: at + bits <= 23.
fn in_place(word: u32, at: u32, bits: u32, turned: u32, over: f32) -> f32 {
    let unit = (150u - at) << 23u;
    let mask = ((1u << bits) - 1u) << at;
    return bitcast<f32>((word & mask) ^ (unit | (turned << at))) - (bitcast<f32>(unit) + over);
}

fn four_in_place(words: vec4<u32>, at: vec4<u32>, bits: u32, turned: u32, over: f32) -> vec4<f32> {
    let unit = (vec4<u32>(150u) - at) << vec4<u32>(23u);
    let mask = vec4<u32>((1u << bits) - 1u) << at;
    return bitcast<vec4<f32>>((words & mask) ^ (unit | (vec4<u32>(turned) << at)))
        - (bitcast<vec4<f32>>(unit) + vec4<f32>(over));
}
