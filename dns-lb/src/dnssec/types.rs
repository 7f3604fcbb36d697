//! The types at a name, as NSEC tells them.

use crate::wire::Type;

/// RFC 4034 section 4.1.2. `types` must be in order and distinct.
pub fn type_bitmap(types: &[Type]) -> Vec<u8> {
    let mut bitmap = Vec::new();
    for window in types.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
        let mut bits = [0_u8; 32];
        let mut length = 0;
        for kind in window {
            let at = (kind.0 & 0xff) as usize;
            bits[at / 8] |= 0x80 >> (at % 8);
            length = at / 8 + 1;
        }
        let number = window.first().map_or(0, |kind| kind.0 >> 8);
        bitmap.extend_from_slice(&[number as u8, length as u8]);
        bitmap.extend_from_slice(&bits[..length]);
    }
    bitmap
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4034 section 4.3.
    #[test]
    fn the_bitmap_is_that_of_the_standards_example() {
        let types = [Type::A, Type::MX, Type::RRSIG, Type::NSEC, Type(1234)];
        let mut expected = vec![0, 6, 0x40, 0x01, 0, 0, 0, 0x03, 4, 0x1b];
        expected.extend([0; 26]);
        expected.push(0x20);
        assert_eq!(type_bitmap(&types), expected);
        assert!(type_bitmap(&[]).is_empty());
    }
}
