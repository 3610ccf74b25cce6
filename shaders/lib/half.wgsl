// IEEE binary16 to binary32 bit patterns by integer arithmetic: exact on every device, also where
// the driver flushes subnormals.
fn half_bits(h: u32) -> u32 {
    let sign = (h & 0x8000u) << 16u;
    let exponent = (h >> 10u) & 0x1fu;
    let mantissa = h & 0x3ffu;
    if exponent == 0u {
        if mantissa == 0u { return sign; }
        let top = firstLeadingBit(mantissa);  // value = mantissa * 2^-24
        return sign | ((top + 103u) << 23u) | ((mantissa << (23u - top)) & 0x7fffffu);
    }
    if exponent == 31u { return sign | 0x7f800000u | (mantissa << 13u); }
    return sign | ((exponent + 112u) << 23u) | (mantissa << 13u);
}
