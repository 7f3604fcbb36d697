//! How much is said of an object's faults. Each is told with its path, whose steps a client chooses: without bounds, a body of a few
//! megabytes with one long name and many faults below it would take hundreds of gigabytes to describe.

/// As many faults of one sort are told: sigs.k8s.io/json keeps as many strict errors. Whoever mends a hundred asks again.
pub(crate) const MOST_TOLD: usize = 100;

/// Bytes of one step of a path. Names that Kubernetes itself gives meaning are shorter by far: a label's key has at most 317.
const STEP_BYTES: usize = 1024;

/// As much of a name as paths show.
pub(crate) fn step(name: &str) -> &str {
    name.get(..name.floor_char_boundary(STEP_BYTES)).unwrap_or(name)
}

/// Adds what `make` makes, if so much was not yet told.
pub(crate) fn tell<T>(told: &mut Vec<T>, make: impl FnOnce() -> T) {
    if told.len() < MOST_TOLD {
        told.push(make());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_between_letters() {
        assert_eq!(step("spec"), "spec");
        assert_eq!(step(&"é".repeat(STEP_BYTES)), "é".repeat(STEP_BYTES / 2));
        assert_eq!(step(&format!("a{}", "é".repeat(STEP_BYTES))).len(), STEP_BYTES - 1);
    }
}
