// |code| * scale rounded to nearest even as binary32 bits, by integer arithmetic: exact also where
// the scale or the product is subnormal and the device would flush it. |code| <= 255, scale finite >= 0.
fn scaled_bits(code: i32, scale_bits: u32) -> u32 {
    let biased = scale_bits >> 23u;
    if biased >= 32u {  // the product is far from the subnormal range: one correctly rounded multiply
        return bitcast<u32>(f32(code) * bitcast<f32>(scale_bits));
    }
    let sign = select(0u, 0x80000000u, code < 0);
    var mantissa = scale_bits & 0x7fffffu;
    var exponent = 1u;  // biased exponent of mantissa's unit bit 23
    if biased > 0u { mantissa |= 0x800000u; exponent = biased; }
    let product = mantissa * u32(abs(code));  // < 2^32
    if product == 0u { return sign; }
    let top = firstLeadingBit(product);
    if top <= 23u {  // no rounding: shift up while the exponent allows
        let up = min(23u - top, exponent - 1u);
        let shifted = product << up;
        let unit = select(0u, exponent - up, (shifted & 0x800000u) != 0u);
        return sign | (unit << 23u) | (shifted & 0x7fffffu);
    }
    let down = top - 23u;
    let kept = product >> down;
    let rest = product & ((1u << down) - 1u);
    let half_way = 1u << (down - 1u);
    let up = select(0u, 1u, rest > half_way || (rest == half_way && (kept & 1u) == 1u));
    // A carry out of the mantissa moves into the exponent field, as it must.
    return sign | (((exponent + down) << 23u) + ((kept + up) - 0x800000u));
}
