// IEEE binary16 to binary32 bit patterns by the device's own conversion, for products of software drivers: x86 has an
// instruction for it, which is exact. Where the bits must be the same everywhere there is lib/half.wgsl.
fn half_bits(h: u32) -> u32 { return bitcast<u32>(unpack2x16float(h).x); }
