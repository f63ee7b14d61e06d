//! Where a block should end.

use super::Span;
use super::control::TRAILER;
use super::walk::Walk;

/// How much of `plain` should become the next block, given that the file of the last span may go on behind it. Never nothing.
///
/// It is all of `plain`, unless a page or record at its end is not complete: then the next block should begin with that. That
/// leaves at most half of `plain`: what is longer than half a block may be torn and then stays as it is. Less is taken
/// too where the pages would otherwise be longer than `content_limit` together once they are decompressed.
///
/// `plain` is as long as a block may be. At the end of the stream there is nothing to cut for but the limit.
pub(crate) fn cut(plain: &[u8], spans: &[Span], content_limit: usize) -> usize {
    // The content up to `counted`.
    let mut content = TRAILER;
    let mut counted = 0;
    for span in spans {
        for found in Walk::new(plain, span) {
            if !found.complete {
                let end = span.start.saturating_add(span.length);
                let fits = found.header.total <= plain.len();
                if end >= plain.len() && found.start >= plain.len() / 2 && fits && found.start > 0 {
                    return found.start;
                }
                continue;
            }
            if !found.header.compressed {
                continue;
            }
            let unit = found.shape.head().saturating_add(found.header.content);
            let before = content + found.start.saturating_sub(counted);
            if unit.saturating_add(TRAILER) > content_limit {
                // Stays as it is.
                continue;
            }
            content = before.saturating_add(unit);
            counted = found.start.saturating_add(found.header.total);
            if content > content_limit && found.start > 0 {
                return found.start;
            }
        }
    }
    plain.len()
}
