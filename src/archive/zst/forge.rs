//! Containers as they are made by somebody who may write the store; for tests, see [`crate::archive::forge`].

use super::{FOOTER, FRAME, HEAD, MAGIC, SKIPPABLE, VERSION, footer, with_checksum};

/// `object` with the checksums of head, index and footer mended, and their frames, so that what else was changed in them is
/// read. What a block holds keeps its checksums.
pub(in crate::archive) fn mend(mut object: Vec<u8>) -> Vec<u8> {
    let size = object.len();
    let Some(footer_at) = size.checked_sub(FOOTER).filter(|at| *at >= HEAD) else {
        return object;
    };
    put(&mut object, FRAME, &MAGIC);
    put(&mut object, FRAME + MAGIC.len(), &[VERSION]);
    close(&mut object, 0, HEAD);
    let stated = object
        .get(footer_at + FRAME..)
        .and_then(<[u8]>::first_chunk::<8>);
    let stated = stated.map_or(0, |size| u64::from_le_bytes(*size));
    let index_size = usize::try_from(stated).unwrap_or(usize::MAX);
    put(&mut object, footer_at, &footer(index_size));
    if let Some(index_at) = footer_at.checked_sub(index_size) {
        close(&mut object, index_at, index_size);
    }
    object
}

/// Makes `size` bytes at `at` a skippable frame that ends with its checksum.
fn close(object: &mut [u8], at: usize, size: usize) {
    let Some(content_size) = size.checked_sub(FRAME + 4) else {
        return;
    };
    put(object, at, &SKIPPABLE);
    let frame_size = u32::try_from(content_size + 4).unwrap_or(u32::MAX);
    put(object, at + 4, &frame_size.to_le_bytes());
    let begin = at + FRAME;
    if let Some(content) = object.get(begin..begin + content_size) {
        let closed = with_checksum(content.to_vec());
        put(object, begin, &closed);
    }
}

fn put(object: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in object.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}
