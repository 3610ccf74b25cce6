//! Little-endian bit streams in `u32` words: bit `j` of a stream is bit `j % 32` of word `j / 32`.

/// Ors the low `width` bits (1..=32) of `value` into the stream at `bit`. The target bits must be zero.
pub(super) fn put(words: &mut [u32], bit: usize, width: u32, value: u32) {
    let (word, shift) = (bit / 32, (bit % 32) as u32);
    let value = value & mask(width);
    words[word] |= value << shift;
    if shift + width > 32 {
        words[word + 1] |= value >> (32 - shift);
    }
}

/// The `width` bits (1..=32) of the stream at `bit`, zero-extended.
pub(super) fn get(words: &[u32], bit: usize, width: u32) -> u32 {
    let (word, shift) = (bit / 32, (bit % 32) as u32);
    let mut value = words[word] >> shift;
    if shift + width > 32 {
        value |= words[word + 1] << (32 - shift);
    }
    value & mask(width)
}

/// The `width` bits (1..=8) of the stream at `bit` as a two's-complement number.
pub(super) fn get_signed(words: &[u32], bit: usize, width: u32) -> i8 {
    let shift = 8 - width;
    ((get(words, bit, width) << shift) as u8 as i8) >> shift
}

/// Fields of `width` bits (8, 16 or 32), padded with zero bits to whole words at the end.
pub(super) fn pack_fields(fields: Vec<u32>, width: usize) -> Vec<u32> {
    if width == 32 || fields.is_empty() {
        return fields;
    }
    let mut words = vec![0; (fields.len() * width).div_ceil(32)];
    for (index, &field) in fields.iter().enumerate() {
        put(&mut words, index * width, width as u32, field);
    }
    words
}

fn mask(width: u32) -> u32 {
    u32::MAX >> (32 - width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_across_word_borders_are_little_endian() {
        let mut words = vec![0; 3];
        put(&mut words, 0, 7, 0x55);
        put(&mut words, 28, 7, 0b110_1011);
        put(&mut words, 64, 32, 0xdead_beef);
        assert_eq!(words, [0xb000_0055, 0b110, 0xdead_beef]);
        assert_eq!(get(&words, 28, 7), 0b110_1011);
        assert_eq!(get_signed(&words, 28, 7), -21);
        assert_eq!(get(&words, 64, 32), 0xdead_beef);
    }

    #[test]
    fn every_width_round_trips_at_every_offset() {
        for width in 1..=32 {
            for offset in 0..33 {
                let values: Vec<u32> = (0..9u32).map(|i| i.wrapping_mul(0x9e37_79b9) & mask(width)).collect();
                let mut words = vec![0; 12];
                for (i, &value) in values.iter().enumerate() {
                    put(&mut words, offset + i * width as usize, width, value);
                }
                for (i, &value) in values.iter().enumerate() {
                    assert_eq!(get(&words, offset + i * width as usize, width), value);
                }
            }
        }
    }
}
