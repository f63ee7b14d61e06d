//! Finding one's way in an .xz object.

use super::{EDGE, HEADER, parse_footer, parse_index};
use crate::archive::container::{Block, Coded, LARGEST_BLOCK, LARGEST_INDEX, Layout, damaged};
use crate::archive::read::{ArchiveRead, fetch};
use crate::archive::{ArchiveError, Profile};

/// Reads header, footer and index of `archive`.
pub(in crate::archive) fn layout(archive: &dyn ArchiveRead) -> Result<Layout, ArchiveError> {
    let size = archive.size();
    let edge = EDGE as u64;
    let Some(footer_offset) = size.checked_sub(edge).filter(|at| *at >= edge) else {
        return Err(damaged(0, "it is too short"));
    };
    if fetch(archive, 0..edge)? != HEADER {
        return Err(damaged(0, "it does not begin as an archive does"));
    }
    let footer = fetch(archive, footer_offset..size)?;
    let footer = footer
        .first_chunk::<EDGE>()
        .ok_or_else(|| damaged(footer_offset, "no footer"))?;
    let index_size = parse_footer(footer).map_err(|what| damaged(footer_offset, what))?;
    let Some(index_offset) = footer_offset
        .checked_sub(index_size)
        .filter(|at| *at >= edge && index_size <= LARGEST_INDEX)
    else {
        return Err(damaged(
            footer_offset,
            "the footer names an impossible index size",
        ));
    };
    let mut tail = fetch(archive, index_offset..footer_offset)?;
    let records =
        parse_index(&tail, index_offset - edge).map_err(|what| damaged(index_offset, what))?;
    tail.extend_from_slice(footer);

    let mut blocks = Vec::with_capacity(records.len());
    let (mut offset, mut plain) = (edge, 0u64);
    for record in records {
        blocks.push(Block {
            offset,
            stored: record.total(),
            plain,
            length: record.uncompressed,
            coded: Coded::Xz {
                unpadded: record.unpadded,
            },
        });
        let fits = record
            .uncompressed
            .checked_add(record.uncompressed / 1024 + 4096)
            .is_some_and(|most| record.unpadded <= most);
        offset = offset.saturating_add(record.total());
        if !fits || offset > index_offset {
            return Err(damaged(
                index_offset,
                "the index holds an impossible block size",
            ));
        }
        plain = plain.saturating_add(record.uncompressed);
    }
    let file_index = blocks
        .pop()
        .ok_or_else(|| damaged(index_offset, "there are no blocks"))?;
    if offset != index_offset {
        return Err(damaged(
            index_offset,
            "the index does not account for every byte",
        ));
    }
    if blocks.iter().any(|block| block.length > LARGEST_BLOCK) {
        return Err(damaged(
            index_offset,
            "a block is larger than any level makes",
        ));
    }
    Ok(Layout {
        profile: Profile::Portable,
        head: HEADER.to_vec(),
        tar_size: file_index.plain,
        blocks,
        file_index: Some(file_index),
        tail,
    })
}
