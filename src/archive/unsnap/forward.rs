//! From a plain block to a transformed one.

use super::super::integer;
use super::control::Run;
use super::{Span, Statistics};

/// Transforms blocks. It holds nothing but buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    control: Vec<u8>,
}

impl Forward {
    /// Transforms `plain`, which `spans` describe, into `content`, whose old bytes go. At most `content_limit` bytes come out,
    /// and the control bytes beside `plain` where the limit is less than that.
    pub(crate) fn transform(
        &mut self,
        plain: &[u8],
        spans: &[Span],
        content_limit: usize,
        content: &mut Vec<u8>,
    ) -> Statistics {
        let _ = (spans, content_limit);
        self.control.clear();
        content.clear();
        let run = Run {
            literal: plain.len() as u64,
            units: 0,
            kind: 0,
        };
        if !plain.is_empty() {
            run.push(&mut self.control);
        }
        integer::push(content, self.control.len() as u64);
        content.extend_from_slice(&self.control);
        content.extend_from_slice(plain);
        Statistics::default()
    }
}
