// Nine base-11 digits in a word, least significant first; every group has ceil(len / 9) words of its
// own and one word of metadata: f16 minimum (low half), f16 scale (high half).
// value = round(round(level(digit) * scale) + minimum)
const POWER: array<u32, 9> = array<u32, 9>(1u, 11u, 121u, 1331u, 14641u, 161051u, 1771561u, 19487171u, 214358881u);

fn high_product(a: u32, b: u32) -> u32 {  // (a * b) >> 32
    let low = (a & 0xffffu) * (b & 0xffffu);
    let cross = (a >> 16u) * (b & 0xffffu) + (low >> 16u);  // < 2^32
    let other = (a & 0xffffu) * (b >> 16u) + (cross & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (cross >> 16u) + (other >> 16u);
}

// v / 11^9 as a 32-bit fraction f with v * 2^32 <= f * 11^9 < (v + 1) * 2^32: every digit of v is then a digit
// of the fraction, found by two multiplications and independently of the others (the idea of ggml's TQ1_0).
fn fraction(v: u32) -> u32 { return v + high_product(v, 3528252933u) + 1u; }

// The digit that `power` = 11^(8 - i) moves to the front of the fraction.
fn digit(f: u32, power: u32) -> u32 {
    let t = f * power;
    return ((t >> 16u) * 11u + (((t & 0xffffu) * 11u) >> 16u)) >> 16u;
}

// (codebook + 1) / 2 of the source in f32: digit / 10 up to a last bit, which the codebook's own rounding takes
// away at 1, 2 and 9.
fn level(d: u32) -> f32 {
    return bitcast<f32>(bitcast<u32>(f32(d) * 0.1) - ((0x206u >> d) & 1u));
}

// The product's bits pass through an `or` with a run-time zero, so that no compiler fuses the following
// add into one rounding.
fn rounded(product: f32) -> f32 { return bitcast<f32>(bitcast<u32>(product) | params.zero); }

// Scale and minimum of a group. WGSL leaves arithmetic with infinities and NaN open, so a range that overflowed
// f16 is told apart here: kind 1 makes infinity of every digit but 0, kind 2 (and digit 0 of kind 1) makes NaN.
struct Range { scale: f32, minimum: f32, kind: u32 }

fn range_of(info: u32) -> Range {
    let scale_is_nan = (info & 0x7fff0000u) > 0x7c000000u;
    let minimum_is_finite = (info & 0x7c00u) != 0x7c00u;
    let kind = select(0u, select(1u, 2u, scale_is_nan || !minimum_is_finite), (info & 0x7c000000u) == 0x7c000000u);
    return Range(bitcast<f32>(half_bits(info >> 16u)), bitcast<f32>(half_bits(info & 0xffffu)), kind);
}

fn value_bits(d: u32, range: Range) -> u32 {
    if range.kind != 0u { return select(0x7f800000u, 0x7fc00000u, range.kind == 2u || d == 0u); }
    return bitcast<u32>(rounded(level(d) * range.scale) + range.minimum);
}

// Four weights from digit `skip + first` of the chunk's first word on; `first` is a constant, so the word is one
// of two. `power` steps down by a factor of 11 (times its inverse modulo 2^32) and starts again after 11^0.
struct Digits { f: array<u32, 5>, skip: u32, power: u32, range: Range }

fn next_bits(s: ptr<function, Digits>, i: u32) -> u32 {
    let before = i / 9u;
    let after = min((i + 8u) / 9u, 4u);
    let f = select((*s).f[before], (*s).f[after], (*s).skip + i >= 9u * (before + 1u));
    let d = digit(f, (*s).power);
    (*s).power = select((*s).power * 3123612579u, 214358881u, (*s).power == 1u);
    return value_bits(d, (*s).range);
}

fn next_quad(s: ptr<function, Digits>, first: u32) -> vec4<u32> {
    let a = next_bits(s, first);
    let b = next_bits(s, first + 1u);
    let c = next_bits(s, first + 2u);
    let d = next_bits(s, first + 3u);
    return vec4<u32>(a, b, c, d);
}

// A chunk within one group: at most five words, all digits independent.
fn aligned_bits(row: u32, chunk: u32) -> Bits {
    let k = chunk * CHUNK;
    let group = k / params.group;
    let position = k - group * params.group;
    let info = scale_word(row * params.groups_per_row + group);
    let at = row * params.row_words + group * ((params.group + 8u) / 9u) + position / 9u;
    var s: Digits;
    s.range = range_of(info);
    s.skip = position % 9u;
    s.power = POWER[8u - s.skip];
    s.f[0] = fraction(word(at));
    s.f[1] = fraction(word(at + 1u));
    s.f[2] = fraction(word(at + 2u));
    s.f[3] = fraction(word(at + 3u));
    s.f[4] = fraction(word(at + 4u));
    var b: Bits;
    b.b[0] = next_quad(&s, 0u);
    b.b[1] = next_quad(&s, 4u);
    b.b[2] = next_quad(&s, 8u);
    b.b[3] = next_quad(&s, 12u);
    b.b[4] = next_quad(&s, 16u);
    b.b[5] = next_quad(&s, 20u);
    b.b[6] = next_quad(&s, 24u);
    b.b[7] = next_quad(&s, 28u);
    return b;
}

// Groups of any length: every weight finds its own group and word.
fn scattered_bits(row: u32, chunk: u32) -> Bits {
    let words_per_group = (params.group + 8u) / 9u;
    var b: Bits;
    for (var i = 0u; i < 8u; i++) {
        for (var e = 0u; e < 4u; e++) {
            // Past the end the last weight again: the next row's scale may not be finite.
            let k = min(chunk * CHUNK + 4u * i + e, params.cols - 1u);
            let group = k / params.group;
            let position = k - group * params.group;
            let info = scale_word(row * params.groups_per_row + group);
            let w = word(row * params.row_words + group * words_per_group + position / 9u);
            let d = digit(fraction(w), POWER[8u - position % 9u]);
            b.b[i][e] = value_bits(d, range_of(info));
        }
    }
    return b;
}

fn bits_at(row: u32, chunk: u32) -> Bits {
    if GROUP_OF_CHUNKS { return aligned_bits(row, chunk); }
    return scattered_bits(row, chunk);
}
