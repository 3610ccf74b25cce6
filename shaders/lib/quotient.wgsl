// a / b to nearest even, as bits, for finite a >= 0 and b > 0: the long division that WGSL's own, which may be off by 2.5
// units in the last place, is not. Quotients below the normal numbers become 0.
struct Parts { significand: u32, field: i32 }  // significand * 2^(field - 150), bit 23 set

fn parts(a: u32) -> Parts {
    let fraction = a & 0x7fffffu;
    if a >= 0x800000u { return Parts(fraction | 0x800000u, i32(a >> 23u)); }
    let up = 23u - firstLeadingBit(fraction);
    return Parts(fraction << up, 1 - i32(up));
}

fn quotient(a: u32, b: u32) -> u32 {
    if a == 0u { return 0u; }
    let n = parts(a);
    let d = parts(b);
    let less = n.significand < d.significand;
    var rest = select(n.significand, n.significand << 1u, less);
    let field = n.field - d.field + select(127, 126, less);
    if field < 1 { return 0u; }
    if field >= 255 { return 0x7f800000u; }
    // One bit before the point, 23 behind it, and one to round by.
    var bits = 0u;
    for (var i = 0u; i < 25u; i++) {
        bits <<= 1u;
        if rest >= d.significand {
            rest -= d.significand;
            bits |= 1u;
        }
        rest <<= 1u;
    }
    let up = select(0u, 1u, (bits & 1u) == 1u && (rest != 0u || (bits & 2u) == 2u));
    // A carry moves into the exponent, as it must.
    return (u32(field) << 23u) + ((bits >> 1u) - 0x800000u) + up;
}
