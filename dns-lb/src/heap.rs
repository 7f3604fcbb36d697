//! Returns freed memory to the system.

pub(crate) use federation_runtime::pages::give_back as trim_program;

/// Gives free memory back to the system: a whole update takes several times its size while it is read, and glibc by itself would keep that
/// for ever. Where another allocator is built in, it does so by itself.
#[allow(unsafe_code)]
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(feature = "jemalloc")))]
    // SAFETY: the function takes no pointer, locks what it touches, and may be called at any time from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
