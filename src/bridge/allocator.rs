//! The allocator of the built module, for the rooms that may not name it.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[expect(
    unsafe_code,
    reason = "that a function of C is what it is said to be cannot be checked"
)]
mod foreign {
    unsafe extern "C" {
        /// Frees what the calling thread holds empty, at once where it is forced.
        pub(super) safe fn mi_collect(force: bool);
    }
}

/// Gives the system back what is held for this thread and not used.
pub(crate) fn give_back() {
    foreign::mi_collect(true);
}
