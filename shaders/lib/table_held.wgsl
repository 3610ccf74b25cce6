// The value of each of four codes, chosen by their bits from a table in registers: a software driver loads a value several
// times as slowly as it chooses one of sixteen.
var<private> table: array<f32, 16>;

fn table_value(i: u32) -> f32 { return bitcast<f32>(scale_word(min(i, HEAD - 1u))); }

// Loads the table; for kernels to call before they decode.
fn prepare() {
    table[0] = table_value(0u);
    table[1] = table_value(1u);
    table[2] = table_value(2u);
    table[3] = table_value(3u);
    table[4] = table_value(4u);
    table[5] = table_value(5u);
    table[6] = table_value(6u);
    table[7] = table_value(7u);
    table[8] = table_value(8u);
    table[9] = table_value(9u);
    table[10] = table_value(10u);
    table[11] = table_value(11u);
    table[12] = table_value(12u);
    table[13] = table_value(13u);
    table[14] = table_value(14u);
    table[15] = table_value(15u);
}

fn pair(bit: vec4<bool>, i: u32) -> vec4<f32> { return select(vec4<f32>(table[i]), vec4<f32>(table[i + 1u]), bit); }

fn quad_values(c: vec4<i32>) -> vec4<f32> {
    let u = vec4<u32>(c);
    let zero = vec4<u32>();
    let a = (u & vec4<u32>(1u)) != zero;
    let b = (u & vec4<u32>(2u)) != zero;
    let low = select(pair(a, 0u), pair(a, 2u), b);
    if BITS <= 2u { return low; }
    let d = (u & vec4<u32>(4u)) != zero;
    let lower = select(low, select(pair(a, 4u), pair(a, 6u), b), d);
    if BITS == 3u { return lower; }
    let upper = select(select(pair(a, 8u), pair(a, 10u), b), select(pair(a, 12u), pair(a, 14u), b), d);
    return select(lower, upper, (u & vec4<u32>(8u)) != zero);
}
