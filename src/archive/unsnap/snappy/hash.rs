//! The hashes: four bytes to a place in the table.

use super::encode::{self, Sink};
use super::{Table, Window, follow};

/// One of them, for a table of some size.
pub(super) trait Hash: Copy {
    /// The largest table.
    const LARGEST: usize;

    /// For a table of `size`, a power of two.
    fn new(size: usize) -> Self;

    /// Where those four bytes belong; less than the size of the table.
    fn slot(self, bytes: u32) -> usize;

    /// [`follow::fragment`] with this hash.
    fn follow<'a>(
        self,
        table: &mut Table,
        window: &Window,
        length: usize,
        stream: &'a [u8],
    ) -> Option<&'a [u8]> {
        follow::fragment(table, self, window, length, stream)
    }

    /// [`encode::fragment`] with this hash.
    fn encode(self, table: &mut Table, window: &Window, length: usize, sink: &mut Sink) {
        encode::fragment(table, self, window, length, sink);
    }
}

/// What the multiplications multiply by.
const FACTOR: u32 = 0x1E35_A7BD;

/// The highest bits of the product.
#[derive(Clone, Copy)]
pub(super) struct Classic {
    shift: u32,
}

impl Hash for Classic {
    const LARGEST: usize = 1 << 14;

    fn new(size: usize) -> Self {
        Self {
            shift: 32 - size.trailing_zeros(),
        }
    }

    #[inline(always)]
    fn slot(self, bytes: u32) -> usize {
        (bytes.wrapping_mul(FACTOR) >> (self.shift & 31)) as usize
    }
}

/// Of the highest `BITS` bits of the product the lowest that address the table.
#[derive(Clone, Copy)]
pub(super) struct Masked<const BITS: u32> {
    mask: u32,
}

impl<const BITS: u32> Hash for Masked<BITS> {
    const LARGEST: usize = 1 << BITS;

    fn new(size: usize) -> Self {
        Self {
            mask: (size as u32).wrapping_sub(1),
        }
    }

    #[inline(always)]
    fn slot(self, bytes: u32) -> usize {
        ((bytes.wrapping_mul(FACTOR) >> (32 - BITS)) & self.mask) as usize
    }
}

/// CRC32C of the bytes and the size of the table in bytes, less two.
#[derive(Clone, Copy)]
pub(super) struct Crc {
    mask: u32,
}

impl Hash for Crc {
    const LARGEST: usize = 1 << 15;

    fn new(size: usize) -> Self {
        Self {
            mask: (size as u32).wrapping_sub(1) << 1,
        }
    }

    #[inline(always)]
    fn slot(self, bytes: u32) -> usize {
        let [b0, b1, b2, b3] = (bytes ^ self.mask).to_le_bytes();
        let [t0, t1, t2, t3] = &CRC;
        let of = |table: &[u32; 256], byte| table.get(usize::from(byte)).copied().unwrap_or(0);
        let crc = of(t3, b0) ^ of(t2, b1) ^ of(t1, b2) ^ of(t0, b3);
        ((crc & self.mask) >> 1) as usize
    }
}

/// The same where the processor has an instruction for it.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct CrcInstruction {
    mask: u32,
}

#[cfg(target_arch = "x86_64")]
impl CrcInstruction {
    /// Whether it has. Else this hash must not be used.
    pub(super) fn there() -> bool {
        std::arch::is_x86_feature_detected!("sse4.2")
    }

    #[target_feature(enable = "sse4.2")]
    fn follow_by_instruction<'a>(
        self,
        table: &mut Table,
        window: &Window,
        length: usize,
        stream: &'a [u8],
    ) -> Option<&'a [u8]> {
        follow::fragment(table, self, window, length, stream)
    }

    #[target_feature(enable = "sse4.2")]
    fn encode_by_instruction(
        self,
        table: &mut Table,
        window: &Window,
        length: usize,
        sink: &mut Sink,
    ) {
        encode::fragment(table, self, window, length, sink);
    }
}

#[cfg(target_arch = "x86_64")]
impl Hash for CrcInstruction {
    const LARGEST: usize = Crc::LARGEST;

    fn new(size: usize) -> Self {
        let Crc { mask } = Crc::new(size);
        Self { mask }
    }

    #[inline(always)]
    fn slot(self, bytes: u32) -> usize {
        // SAFETY: reached only through the two functions above, which the callers below enter on such processors only.
        let crc = unsafe { std::arch::x86_64::_mm_crc32_u32(bytes, self.mask) };
        ((crc & self.mask) >> 1) as usize
    }

    fn follow<'a>(
        self,
        table: &mut Table,
        window: &Window,
        length: usize,
        stream: &'a [u8],
    ) -> Option<&'a [u8]> {
        // SAFETY: `Encoder` uses this hash only where `there` says so.
        unsafe { self.follow_by_instruction(table, window, length, stream) }
    }

    fn encode(self, table: &mut Table, window: &Window, length: usize, sink: &mut Sink) {
        // SAFETY: `Encoder` uses this hash only where `there` says so.
        unsafe { self.encode_by_instruction(table, window, length, sink) }
    }
}

/// CRC32C of a byte with none, one, two, three zeros behind it.
static CRC: [[u32; 256]; 4] = crc_tables();

#[allow(
    clippy::indexing_slicing,
    reason = "runs in the compiler, which refuses an index out of bounds"
)]
const fn crc_tables() -> [[u32; 256]; 4] {
    const REFLECTED: u32 = 0x82F6_3B78;
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut zeros = 0;
        while zeros < 4 {
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ (REFLECTED & (crc & 1).wrapping_neg());
                bit += 1;
            }
            tables[zeros][byte] = crc;
            zeros += 1;
        }
        byte += 1;
    }
    tables
}
