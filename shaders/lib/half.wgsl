// IEEE binary16 to binary32 bit patterns: exact on every device, also where the driver flushes subnormals, and without
// branches, which a software driver executes all.
fn half_bits(h: u32) -> u32 {
    let magnitude = h & 0x7fffu;
    // A subnormal is a small integer times 2^-24: neither it nor the product is subnormal in binary32.
    let small = bitcast<u32>(f32(magnitude) * 5.9604644775390625e-8);
    let exponents = select(112u << 23u, 224u << 23u, magnitude >= 0x7c00u);
    return ((h & 0x8000u) << 16u) | select((magnitude << 13u) + exponents, small, magnitude < 0x400u);
}
