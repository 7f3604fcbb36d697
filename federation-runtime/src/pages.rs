//! Memory pages of the program's own file.

use std::sync::Once;

/// Returns the pages of this program's file to the system, once: some MiB that only the start needed. Pages that are used again are read
/// again from the file.
pub fn give_back() {
    static ONCE: Once = Once::new();
    #[cfg(target_os = "linux")]
    ONCE.call_once(|| {
        let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        for (start, length) in unwritten(&smaps, &program.to_string_lossy()) {
            forget(start, length);
        }
    });
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn forget(start: usize, length: usize) {
    // SAFETY: the kernel has just said that these are pages of the program's own file that nobody may write to here, and of which none is a copy that
    // differs from the file, in memory or in swap. Where the program is mapped does not change as long as it runs, as it does for libraries that are
    // loaded meanwhile. So whoever reads them, now or later, reads the same, from the file again (madvise(2), MADV_DONTNEED).
    unsafe {
        libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
    }
}

/// Start and length of the mappings in `/proc/self/smaps` (proc_pid_smaps(5)) that are of the file `program`, that nothing may be written to, and
/// nothing was: relocations, for one, are written before they are protected, and may be in swap since.
fn unwritten(smaps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut of: Option<(usize, usize)> = None;
    for line in smaps.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            // start-end permissions offset device inode path
            [range, permissions, _, _, _, path @ ..] if range.contains('-') => {
                let number = |text| usize::from_str_radix(text, 16).ok();
                of = range
                    .split_once('-')
                    .and_then(|(start, end)| number(start).zip(number(end)))
                    .and_then(|(start, end)| Some((start, end.checked_sub(start)?)))
                    .filter(|_| permissions.starts_with("r-") && path.join(" ") == program);
            }
            ["Anonymous:", size, "kB"] if *size != "0" => of = None,
            // The later one of the two.
            ["Swap:", "0", "kB"] => found.extend(of.take()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_programs_and_is_as_in_its_file_is_given_back() {
        let mapping = |head: &str, anonymous: u32, swap: u32| {
            format!("{head}\nSize: 8 kB\nAnonymous: {anonymous} kB\nSwap: {swap} kB\nSwapPss: 0 kB\n")
        };
        let smaps = [
            mapping("1000-3000 r--p 00000000 08:01 77 /usr/bin/dns lb", 0, 0),
            mapping("3000-4000 r-xp 00002000 08:01 77 /usr/bin/dns lb", 0, 0),
            mapping("4000-5000 r--p 00003000 08:01 77 /usr/bin/dns lb", 4, 0),
            mapping("4800-5000 r--p 00003000 08:01 77 /usr/bin/dns lb", 0, 4),
            mapping("5000-6000 rw-p 00004000 08:01 77 /usr/bin/dns lb", 0, 0),
            mapping("6000-7000 r--p 00000000 00:00 0", 0, 0),
            mapping("7000-8000 ---p 00004000 08:01 77 /usr/bin/dns lb", 0, 0),
            mapping("8000-9000 r--p 00004000 08:01 78 /usr/lib/libc.so.6", 0, 0),
        ];
        assert_eq!(unwritten(&smaps.concat(), "/usr/bin/dns lb"), [(0x1000, 0x2000), (0x3000, 0x1000)]);
        assert!(unwritten("nothing that is known", "").is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_programs_own_mappings_are_found() {
        let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        assert!(!unwritten(&smaps, &program.to_string_lossy()).is_empty());
    }

    #[test]
    fn a_program_goes_on_without_the_pages_that_it_gave_back() {
        give_back();
        let words: Vec<String> = (0..1000).map(|n| format!("{n:?}")).collect();
        assert_eq!(words.concat().len(), 2890);
    }
}
