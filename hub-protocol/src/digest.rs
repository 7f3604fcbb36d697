//! The digest of a table of desired state: equal digests mean equal tables.

use xxhash_rust::xxh3::xxh3_64;

/// Hash of a manifest's bytes.
pub fn content_hash(manifest: &[u8]) -> u64 {
    xxh3_64(manifest)
}

/// Hash of one item: XXH3-64 over `uid`, NUL, the generation in decimal, NUL, and the content hash as 16 hex digits.
pub fn item_hash(uid: &str, generation: i64, content: u64) -> u64 {
    xxh3_64(format!("{uid}\0{generation}\0{content:016x}").as_bytes())
}

/// The wrapping sum of all items' hashes, so that order does not matter and one change costs one subtraction and one addition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Sum of [`item_hash`].
    pub sum: u64,
    /// How many items.
    pub objects: u32,
}

impl Digest {
    /// Takes an item in.
    pub fn add(&mut self, item: u64) {
        self.sum = self.sum.wrapping_add(item);
        self.objects += 1;
    }

    /// Takes an item out that was added before.
    pub fn subtract(&mut self, item: u64) {
        self.sum = self.sum.wrapping_sub(item);
        self.objects = self.objects.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_taking_out_undoes_adding() {
        let (a, b) = (item_hash("a", 1, 7), item_hash("b", 2, 8));
        let mut one = Digest::default();
        one.add(a);
        one.add(b);
        let mut two = Digest::default();
        two.add(b);
        two.add(a);
        assert_eq!(one, two);
        two.subtract(a);
        two.subtract(b);
        assert_eq!(two, Digest::default());
    }
}
