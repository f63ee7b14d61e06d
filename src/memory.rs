//! How the allocator treats large buffers.

/// Has the allocator keep what is freed for the next buffer. Parts and blocks of some MiB come and go all the time; memory that went back to the system
/// in between would come again as pages that it has to clear; `scripts/bench store` shows it.
///
/// Call it once, before there are threads. Peaks do not change by it: what is kept was in use.
pub fn keep_freed_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt sets numbers of the allocator and touches no memory of ours.
    unsafe {
        // The most that glibc allows.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 20);
    }
}
