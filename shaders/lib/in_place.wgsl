// A field of `bits` bits as a float without a conversion, less `over`. Bits that stay where they are, at `at`, become bits of the
// mantissa of a float whose unit is bit `at`: 2^(23 - at) + field, from which it is exact to take 2^(23 - at) and `over`.
// `turned` turns bits of the field. With constants that is two logical operations (one, where a device has those of
// three operands) and a subtraction, where moving, extending and converting are three. Precondition: at + bits <= 23.
fn in_place(word: u32, at: u32, bits: u32, turned: u32, over: f32) -> f32 {
    let unit = (150u - at) << 23u;
    let mask = ((1u << bits) - 1u) << at;
    return bitcast<f32>((word & mask) ^ (unit | (turned << at))) - (bitcast<f32>(unit) + over);
}
