// The value of each of four codes from a table that lies in the registers of a subgroup: a software driver shuffles by one
// instruction, where a load is a loop. Precondition: the workgroup of 8 lies in one subgroup.
var<private> table_low: f32;   // of invocation i the value of code i
var<private> table_high: f32;  // of code i + 8

fn table_value(i: u32) -> f32 { return bitcast<f32>(scale_word(min(i, HEAD - 1u))); }

// Loads the table; for kernels to call before they decode.
fn prepare(lane: u32) {
    table_low = table_value(lane);
    if BITS > 3u { table_high = table_value(lane + 8u); }
}

fn held_value(code: i32) -> f32 {
    let c = u32(code);
    let low = subgroupShuffle(table_low, c & 7u);
    if BITS <= 3u { return low; }
    return select(low, subgroupShuffle(table_high, c & 7u), (c & 8u) != 0u);
}

fn quad_values(c: vec4<i32>) -> vec4<f32> {
    return vec4<f32>(held_value(c.x), held_value(c.y), held_value(c.z), held_value(c.w));
}
