//! Finding one's way in an object of zstd frames.

use super::{FOOTER, HEAD, SMALLEST_INDEX, parse_footer, parse_head, parse_index};
use crate::archive::ArchiveError;
use crate::archive::container::{Block, Coded, Frame, LARGEST_INDEX, Layout, damaged};
use crate::archive::read::{ArchiveRead, fetch};

/// Reads head, footer and index of `archive`.
pub(in crate::archive) fn layout(archive: &dyn ArchiveRead) -> Result<Layout, ArchiveError> {
    let (size, head_size) = (archive.size(), HEAD as u64);
    let Some(footer_offset) = size
        .checked_sub(FOOTER as u64)
        .filter(|at| *at >= head_size + SMALLEST_INDEX)
    else {
        return Err(damaged(0, "it is too short"));
    };
    let head = fetch(archive, 0..head_size)?;
    let (profile, marked, limits) = parse_head(&head).map_err(|what| damaged(0, what))?;
    let footer = fetch(archive, footer_offset..size)?;
    let index_size = parse_footer(&footer).map_err(|what| damaged(footer_offset, what))?;
    let Some(index_offset) = footer_offset
        .checked_sub(index_size)
        .filter(|at| *at >= head_size && (SMALLEST_INDEX..=LARGEST_INDEX).contains(&index_size))
    else {
        return Err(damaged(
            footer_offset,
            "the footer names an impossible index size",
        ));
    };
    let mut tail = fetch(archive, index_offset..footer_offset)?;
    let records = parse_index(&tail, limits, index_offset - head_size)
        .map_err(|what| damaged(index_offset, what))?;
    tail.extend_from_slice(&footer);

    let mut blocks = Vec::with_capacity(records.len());
    let (mut offset, mut plain) = (head_size, 0u64);
    for record in records {
        blocks.push(Block {
            offset,
            stored: record.stored,
            plain,
            length: record.plain,
            coded: Coded::Zst(Frame {
                content: record.content,
                limit: limits.content,
                marked,
                checksum: record.checksum,
            }),
        });
        offset = offset.saturating_add(record.stored);
        plain = plain.saturating_add(record.plain);
    }
    if blocks.is_empty() {
        return Err(damaged(index_offset, "there are no blocks"));
    }
    Ok(Layout {
        profile,
        head,
        blocks,
        file_index: None,
        tar_size: plain,
        tail,
    })
}
