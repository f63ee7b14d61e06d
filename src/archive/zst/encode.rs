//! Packing blocks: the reader's thread fills them in place, workers transform and compress whole ones, the caller's thread
//! puts them in order. A fixed number of slots goes round, so memory does not depend on the data.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use tokio_util::sync::CancellationToken;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use super::{AS_IT_IS, MARK, Parameters, Record, SHREDDED, footer, index};
use crate::archive::pack::Made;
use crate::archive::shred::Shredder;
use crate::archive::stream::{Feed, Origin};
use crate::archive::unsnap::{self, Forward, Span};
use crate::archive::{ArchiveError, Unsnapped};

/// A block on its way; its buffers are used again.
#[derive(Default)]
pub(in crate::archive) struct Slot {
    /// As long as a block may be; the first `filled` bytes mean something.
    plain: Vec<u8>,
    filled: usize,
    spans: Vec<Span>,
    stored: Vec<u8>,
    record: Option<Record>,
    unsnapped: Box<Unsnapped>,
}

impl Slot {
    fn note(&mut self, count: usize, origin: Origin) {
        let next = Span {
            start: self.filled,
            length: count,
            file_offset: origin.offset,
            kind: origin.kind,
        };
        match self.spans.last_mut() {
            Some(last)
                if last.start + last.length == next.start
                    && last.file_offset + last.length as u64 == next.file_offset
                    && last.kind == next.kind =>
            {
                last.length += count;
            }
            _ => self.spans.push(next),
        }
    }

    /// Leaves the first `keep` bytes and moves what is behind them into `next`, which is empty.
    fn split(&mut self, keep: usize, next: &mut Self) {
        let rest = self.plain.get(keep..self.filled).unwrap_or_default();
        if let Some(place) = next.plain.get_mut(..rest.len()) {
            place.copy_from_slice(rest);
        }
        next.filled = rest.len();
        self.filled = keep;
        for span in &mut self.spans {
            let before = keep.saturating_sub(span.start).min(span.length);
            if before < span.length {
                next.spans.push(Span {
                    start: (span.start + before).saturating_sub(keep),
                    length: span.length - before,
                    file_offset: span.file_offset + before as u64,
                    kind: span.kind,
                });
            }
            span.length = before;
        }
        self.spans.retain(|span| span.length > 0);
    }
}

/// A block for whichever worker is free.
struct Job {
    number: u64,
    slot: Option<Slot>,
    made: SyncSender<Made>,
}

impl Job {
    fn done(mut self, result: Result<Slot, ArchiveError>) {
        // A closed channel means that the writer has failed and wants no more.
        let _ = self.made.send(Made::Block(self.number, result));
        self.slot = None;
    }
}

impl Drop for Job {
    /// A worker that ends without a word must not be waited for.
    fn drop(&mut self) {
        if self.slot.is_some() {
            let lost = Err(ArchiveError::WorkerLost);
            let _ = self.made.send(Made::Block(self.number, lost));
        }
    }
}

/// Starts the workers in `scope`. What is fed comes out of `made`'s other end as [`Made::Block`], in any order.
pub(in crate::archive) fn pipeline<'scope>(
    scope: &'scope Scope<'scope, '_>,
    parameters: &'static Parameters,
    threads: NonZeroUsize,
    made: SyncSender<Made>,
    cancel: &'scope CancellationToken,
) -> Result<(Feeder<'scope>, Collector), ArchiveError> {
    let (give_back, free) = channel();
    let (jobs_in, jobs) = channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..threads.get() {
        let mut worker = Worker::new(parameters)?;
        let jobs = Arc::clone(&jobs);
        scope.spawn(move || {
            loop {
                let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(mut job) = next else { break };
                let result = match job.slot.as_mut() {
                    _ if cancel.is_cancelled() => Err(ArchiveError::Cancelled),
                    Some(slot) => worker.block(slot),
                    None => Err(ArchiveError::WorkerLost),
                };
                let slot = job.slot.take().ok_or(ArchiveError::WorkerLost);
                job.done(result.and(slot));
            }
        });
    }
    for _ in 0..parameters.spare + threads.get() * (1 + parameters.spare_each) {
        // The receiver is below.
        let _ = give_back.send(Slot::default());
    }
    let mut feeder = Feeder {
        parameters,
        slot: Slot::default(),
        number: 0,
        free,
        jobs: jobs_in,
        made,
        cancel,
    };
    feeder.slot = feeder.next_slot()?;
    let collector = Collector {
        waiting: BTreeMap::new(),
        records: Vec::new(),
        unsnapped: Box::default(),
        give_back,
    };
    Ok((feeder, collector))
}

/// The reader's end: fills slots with the tar stream.
pub(in crate::archive) struct Feeder<'a> {
    parameters: &'static Parameters,
    slot: Slot,
    number: u64,
    free: Receiver<Slot>,
    jobs: Sender<Job>,
    made: SyncSender<Made>,
    cancel: &'a CancellationToken,
}

impl Feeder<'_> {
    fn next_slot(&mut self) -> Result<Slot, ArchiveError> {
        let mut slot = self.free.recv().map_err(|_| ArchiveError::WorkerLost)?;
        slot.plain.resize(self.parameters.block, 0);
        slot.filled = 0;
        slot.spans.clear();
        Ok(slot)
    }

    fn give(&mut self, slot: Slot) -> Result<(), ArchiveError> {
        let job = Job {
            number: self.number,
            slot: Some(slot),
            made: self.made.clone(),
        };
        self.number += 1;
        self.jobs.send(job).map_err(|_| ArchiveError::WorkerLost)
    }
}

impl Feed for Feeder<'_> {
    fn room(&mut self) -> &mut [u8] {
        self.slot
            .plain
            .get_mut(self.slot.filled..)
            .unwrap_or_default()
    }

    fn filled(&mut self, count: usize, origin: Option<Origin>) -> Result<(), ArchiveError> {
        if let Some(origin) = origin {
            self.slot.note(count, origin);
        }
        self.slot.filled += count;
        if self.slot.filled < self.parameters.block {
            return Ok(());
        }
        if self.cancel.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let mut next = self.next_slot()?;
        let whole = self.slot.filled;
        let keep = unsnap::cut(&self.slot.plain, &self.slot.spans, self.parameters.content);
        self.slot.split(keep.clamp(1, whole), &mut next);
        let full = std::mem::replace(&mut self.slot, next);
        self.give(full)
    }

    fn end(mut self, _tar_size: u64) -> Result<(), ArchiveError> {
        let last = std::mem::take(&mut self.slot);
        if last.filled == 0 {
            return Ok(());
        }
        self.give(last)
    }
}

/// Makes blocks of slots.
struct Worker {
    parameters: &'static Parameters,
    forward: Forward,
    shredder: Shredder,
    zstd: Compressor<'static>,
    content: Vec<u8>,
    shredded: Vec<u8>,
    compressed: Vec<u8>,
}

impl Worker {
    fn new(parameters: &'static Parameters) -> Result<Self, ArchiveError> {
        let compressor = || {
            let mut zstd = Compressor::new(parameters.level)?;
            zstd.set_parameter(CParameter::ChecksumFlag(true))?;
            zstd.set_parameter(CParameter::ContentSizeFlag(true))?;
            if let Some(window) = parameters.window {
                zstd.set_parameter(CParameter::WindowLog(window))?;
            }
            Ok(zstd)
        };
        Ok(Self {
            parameters,
            forward: if parameters.zlib {
                Forward::with_zlib()
            } else {
                Forward::default()
            },
            shredder: Shredder::default(),
            zstd: compressor().map_err(ArchiveError::Zstd)?,
            content: Vec::new(),
            shredded: Vec::new(),
            compressed: Vec::new(),
        })
    }

    fn block(&mut self, slot: &mut Slot) -> Result<(), ArchiveError> {
        let plain = slot.plain.get(..slot.filled).unwrap_or_default();
        let checksum = crc32fast::hash(plain);
        let unsnapped = &mut *slot.unsnapped;
        *unsnapped = Unsnapped::default();
        self.forward.transform(
            plain,
            &slot.spans,
            self.parameters.content - MARK,
            &mut self.content,
            &mut |kind, found| unsnapped.add(kind, found),
        );
        let is_shredded = self.shred();
        let content = if is_shredded {
            &self.shredded
        } else {
            &self.content
        };
        self.compressed.clear();
        self.compressed.reserve(compress_bound(content.len()));
        self.zstd
            .compress_to_buffer(content, &mut self.compressed)
            .map_err(ArchiveError::Zstd)?;
        // Copied, since the room that zstd wants is that of the worst case, and what waits to be written should not hold it.
        slot.stored.clear();
        slot.stored.extend_from_slice(&self.compressed);
        slot.record = Some(Record {
            stored: self.compressed.len() as u64,
            content: content.len() as u64,
            plain: plain.len() as u64,
            checksum,
        });
        Ok(())
    }

    /// Marks the transformed block, whose payload is shredded if there is something in it to take apart; whether it is.
    fn shred(&mut self) -> bool {
        if let Ok((payload, control)) = unsnap::split_payload(&self.content) {
            let leaves = self.forward.leaves();
            if self.shredder.shred(payload, leaves, &mut self.shredded)
                && self.shredded.len() + control.len() + MARK <= self.parameters.content
            {
                self.shredded.extend_from_slice(control);
                self.shredded.push(SHREDDED);
                return true;
            }
        }
        self.content.push(AS_IT_IS);
        false
    }
}

/// The writer's end: takes blocks in any order, gives their bytes out in the stream's, and remembers what the index says.
pub(in crate::archive) struct Collector {
    waiting: BTreeMap<u64, Slot>,
    records: Vec<Record>,
    unsnapped: Box<Unsnapped>,
    give_back: Sender<Slot>,
}

impl Collector {
    /// Block `number` was made. `write` receives all that can be written now.
    pub(in crate::archive) fn take(
        &mut self,
        number: u64,
        slot: Slot,
        write: &mut dyn FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        self.waiting.insert(number, slot);
        while let Some(slot) = self.waiting.remove(&(self.records.len() as u64)) {
            write(&slot.stored)?;
            self.records.extend(slot.record);
            *self.unsnapped += *slot.unsnapped;
            // A reader that has come to its end wants none.
            let _ = self.give_back.send(slot);
        }
        Ok(())
    }

    /// Index and footer, the number of blocks, and what was found in them.
    pub(in crate::archive) fn finish(self) -> (Vec<u8>, u64, Unsnapped) {
        let mut tail = index(&self.records);
        tail.extend_from_slice(&footer(tail.len()));
        (tail, self.records.len() as u64, *self.unsnapped)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archive::unsnap::FileKind;

    /// Where each byte of the slot comes from, by its spans.
    fn origins(slot: &Slot) -> Vec<Option<u64>> {
        let mut origins = vec![None; slot.filled];
        for span in &slot.spans {
            assert!(span.length > 0);
            for (at, place) in origins[span.start..span.start + span.length]
                .iter_mut()
                .enumerate()
            {
                assert_eq!(place.replace(span.file_offset + at as u64), None);
            }
        }
        origins
    }

    proptest! {
        #[test]
        fn a_cut_moves_bytes_and_what_is_known_of_them(
            pieces in prop::collection::vec((1usize..50, prop::option::of(0u64..1000)), 1..20),
            place in any::<prop::sample::Index>(),
        ) {
            let mut slot = Slot::default();
            for (length, offset) in pieces {
                slot.plain.extend((0..length).map(|at| at as u8));
                if let Some(offset) = offset {
                    slot.note(length, Origin { kind: FileKind::Data, offset });
                }
                slot.filled += length;
            }
            let (bytes, known) = (slot.plain.clone(), origins(&slot));
            let keep = place.index(slot.filled) + 1;
            let mut next = Slot {
                plain: vec![0; bytes.len()],
                ..Slot::default()
            };
            slot.split(keep, &mut next);
            prop_assert_eq!([origins(&slot), origins(&next)].concat(), known);
            prop_assert_eq!(slot.filled, keep);
            prop_assert_eq!([&slot.plain[..keep], &next.plain[..next.filled]].concat(), bytes);
        }
    }

    #[test]
    fn stated_memory_covers_what_zstd_says_it_takes() {
        for parameters in [&super::super::FAST, &super::super::SMALL] {
            let mut worker = Worker::new(parameters).unwrap();
            let mut slot = Slot {
                plain: b"some bytes".repeat(parameters.block / 10),
                ..Slot::default()
            };
            slot.filled = slot.plain.len();
            worker.block(&mut slot).unwrap();
            let taken = worker.zstd.context_mut().sizeof() as u64;
            let stated = parameters.state;
            assert!(
                taken <= stated && taken > stated / 8,
                "zstd says {taken}, we state {stated}"
            );
        }
    }

    #[test]
    fn reads_that_follow_each_other_are_one_span() {
        let mut slot = Slot::default();
        for offset in [0, 100, 200] {
            let kind = FileKind::Data;
            slot.note(100, Origin { kind, offset });
            slot.filled += 100;
        }
        assert_eq!(slot.spans.len(), 1);
        // A hole in the file, then a header in the stream.
        for (gap, offset) in [(0, 5000), (512, 5100)] {
            slot.filled += gap;
            let kind = FileKind::Data;
            slot.note(100, Origin { kind, offset });
            slot.filled += 100;
        }
        assert_eq!(slot.spans.len(), 3);
    }
}
