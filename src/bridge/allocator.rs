//! The allocator of the built module: mimalloc, asked as it answers quickest.
//!
//! The `mimalloc` crate asks for an alignment each time. For what is larger than 1 KiB that is
//! mimalloc's slow way: it takes a larger block, aligns within it, and has to find the block's
//! beginning again when it is freed.
//!
//! The only code of the project that the compiler cannot check.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{
    mi_collect, mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// mimalloc.
struct Allocator;

/// What every block of at least this size is aligned to (`MI_MAX_ALIGN_SIZE`).
const NATURAL: usize = 16;

/// Whether a block of this size has the alignment without being asked for it: smaller ones than
/// [`NATURAL`] are aligned to the power of two that their size is rounded up to.
const fn is_natural(size: usize, align: usize) -> bool {
    align <= NATURAL && align <= size
}

// SAFETY: mimalloc's functions hold to the contract of `GlobalAlloc`; a block of any of them can be
// freed and grown by any other.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: the size is not zero and the alignment a power of two, as the caller promises.
        unsafe {
            match is_natural(size, align) {
                true => mi_malloc(size).cast(),
                false => mi_malloc_aligned(size, align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: as above.
        unsafe {
            match is_natural(size, align) {
                true => mi_zalloc(size).cast(),
                false => mi_zalloc_aligned(size, align).cast(),
            }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the block came from here.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the block came from here, and the caller promises the rest as above.
        unsafe {
            match is_natural(size, align) {
                true => mi_realloc(block.cast(), size).cast(),
                false => mi_realloc_aligned(block.cast(), size, align).cast(),
            }
        }
    }
}

/// Gives the system back what is held for this thread and not used.
pub(crate) fn give_back() {
    // SAFETY: any thread may call it at any time.
    unsafe { mi_collect(true) }
}
