// round_wide: y[m, k] = the value that x[m, k] becomes in a format with too many values for a table, as bits. Every
// operation of the definition (src/format/element) in its order, correctly rounded, on the bits of f32: nothing is
// flushed and nothing divided. Scales are exponents, of 128 and more for blocks that are not numbers.
// Partition: one invocation per four columns.
const FIXED: u32 = 0u;      // q * 2^(e - mantissa): integer, mxint, mxint_hardware
const BLOCK_FP: u32 = 1u;
const DENORM: u32 = 2u;     // exponents e..=e + span
const IEEE: u32 = 3u;       // the same with an implicit one; block_minifloat too
const CORRECTED: u32 = 4u;  // block_minifloat_corrected

const NAN: u32 = 0x7fc00000u;
const INFINITY: u32 = 0x7f800000u;
const NEAR_ZERO: u32 = 0x322bcc77u;  // 1e-8

// floor(log2) of a positive magnitude.
fn exponent_of(a: u32) -> i32 {
    if a < 0x800000u { return i32(firstLeadingBit(a)) - 149; }
    return i32(a >> 23u) - 127;
}

// a * 2^exponent, to nearest even.
fn times_power(a: u32, exponent: i32) -> u32 {
    if a == 0u || a == INFINITY { return a; }
    var fraction = a & 0x7fffffu;
    var field = i32(a >> 23u);
    if field == 0 {
        let up = 23u - firstLeadingBit(fraction);
        fraction = (fraction << up) & 0x7fffffu;
        field = 1 - i32(up);
    }
    field += exponent;
    if field >= 255 { return INFINITY; }
    if field >= 1 { return (u32(field) << 23u) | fraction; }
    if field < -23 { return 0u; }
    let down = u32(1 - field);
    let significand = fraction | 0x800000u;
    let kept = significand >> down;
    let rest = significand & ((1u << down) - 1u);
    let middle = 1u << (down - 1u);
    return kept + select(0u, 1u, rest > middle || (rest == middle && (kept & 1u) == 1u));
}

// The integer next to a magnitude: to nearest even, or down or up.
fn to_integer(a: u32, negative: bool) -> u32 {
    let floor = params.floor == 1u;
    if a >= 0x4b000000u { return a; }  // 2^23
    if a < 0x3f800000u {
        let up = select(a > 0x3f000000u, negative && a > 0u, floor);
        return select(0u, 0x3f800000u, up);
    }
    let unit = 1u << (150u - (a >> 23u));
    let rest = a & (unit - 1u);
    let odd = (a & unit) != 0u;  // of 1.0 that is the last bit of the exponent field, 127
    let to_nearest = rest > unit / 2u || (rest == unit / 2u && odd);
    return a - rest + select(0u, unit, select(to_nearest, negative && rest > 0u, floor));
}

fn nudged(a: u32) -> u32 { return bitcast<u32>(bitcast<f32>(a) + 1e-9); }

fn fixed(a: u32, negative: bool, e: i32) -> u32 {
    let q = to_integer(times_power(times_power(a, -e), i32(params.mantissa)), negative);
    let limited = min(q, select(params.high, params.low, negative));
    return times_power(times_power(limited, -i32(params.mantissa)), e);
}

fn denorm(a: u32, lowest: i32) -> u32 {
    // ceil(log2): the sum is a normal number.
    let e = clamp(i32((nudged(a) - 1u) >> 23u) - 126, lowest, lowest + i32(params.span));
    if e >= 128 || (e < -149 && a == 0u) { return NAN; }
    return fixed(a, false, e);
}

fn ieee(a: u32, lowest: i32) -> u32 {
    let e = clamp(i32(nudged(a) >> 23u) - 127, lowest, lowest + i32(params.span));
    if e < -149 && a == 0u { return NAN; }
    let scaled = times_power(times_power(a, -e), i32(params.mantissa));
    if e == lowest {
        let q = min(to_integer(times_power(scaled, -1), false), params.high);
        return times_power(times_power(q, 1 - i32(params.mantissa)), e);
    }
    // 2^mantissa is even or the only q is 0, so rounding before the subtraction is rounding after it.
    let one = (params.mantissa + 127u) << 23u;
    let steps = clamp(to_integer(scaled, false), one, one + 0x800000u);
    let q = min(bitcast<u32>(bitcast<f32>(steps) - bitcast<f32>(one)), params.high);
    return times_power(bitcast<u32>(1.0 + bitcast<f32>(times_power(q, -i32(params.mantissa)))), e);
}

fn corrected(a: u32, e: i32) -> u32 {
    if a == 0u { return 0u; }
    let unit = max(exponent_of(a), e + 1) - i32(params.mantissa);
    let q = to_integer(times_power(a, -unit), false);
    if q > 0u && exponent_of(q) + unit > e + i32(params.span) { return times_power(params.high, e + i32(params.span)); }
    return times_power(q, unit);
}

fn wide_value(bits: u32, e: i32) -> u32 {
    let a = bits & 0x7fffffffu;
    let negative = a != bits;
    if e >= 128 { return NAN; }
    var value = 0u;
    switch params.kind {
        case FIXED: { value = fixed(a, negative, e); }
        case BLOCK_FP: { value = fixed(nudged(a), negative, e); }
        case DENORM: { value = denorm(a, e); }
        case IEEE: { value = ieee(a, e); }
        default: { value = corrected(a, e); }
    }
    if a <= NEAR_ZERO && value != NAN && (params.kind == BLOCK_FP || params.kind == DENORM || params.kind == IEEE) {
        value = a;
    }
    if value == 0u || value == NAN { return value; }
    return value | (bits & 0x80000000u);
}

fn run(lane: u32, group: vec3<u32>, groups: vec3<u32>) {
    let quads = (params.cols + 3u) / 4u;
    let at = folded(group, groups) * WORKGROUP + lane;
    let row = at / quads;
    if row >= params.m { return; }
    let first = 4u * (at - row * quads);
    for (var k = first; k < min(first + 4u, params.cols); k++) {
        let e = bitcast<i32>(table[params.scales + block_scale(row, k / params.block)]);
        y[row * params.y_stride + k] = wide_value(x[row * params.x_stride + k], e);
    }
}
