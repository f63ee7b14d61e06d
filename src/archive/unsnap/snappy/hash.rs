//! The hashes: four bytes to a place in the table.

/// One of them, for a table of some size.
pub(super) trait Hash: Copy {
    /// The largest table.
    const LARGEST: usize;

    /// For a table of `size`, a power of two.
    fn new(size: usize) -> Self;

    /// Where those four bytes belong; less than the size of the table.
    fn slot(self, bytes: u32) -> usize;
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
