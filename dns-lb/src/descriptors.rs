//! Raises the process's limit of open files.

/// More connections than all transports together accept, and the probes that are under way.
const ENOUGH: libc::rlim_t = 65_536;

/// Lets this process have as many descriptors as its system lets it (setrlimit(2)), up to [`ENOUGH`]. Usually 1,024 are given and many more to be had;
/// with the few, clients that take all connections would leave none for the probes.
#[allow(unsafe_code)]
pub(crate) fn raise() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a pointer to a structure of the type that they expect, which lives through the call.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_cur.max(limit.rlim_max.min(ENOUGH));
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_that_may_be_had_is_had() {
        raise();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let [soft, hard]: [libc::rlim_t; 2] = std::array::from_fn(|at| {
            let word = line.split_ascii_whitespace().nth(at).unwrap();
            word.parse().unwrap_or(libc::rlim_t::MAX)
        });
        assert!(soft >= hard.min(ENOUGH), "{soft} of {hard}");
    }
}
