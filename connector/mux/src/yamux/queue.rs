//! Received bytes that wait for their reader.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};

/// Smallest piece of memory taken for waiting bytes: so that many small frames share one.
const LEAST: usize = 512;
/// Largest piece that small frames are gathered in.
const MOST: usize = 16 * 1024;

/// A queue of bytes whose memory is never much more than the bytes themselves, however small they came.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pieces: VecDeque<BytesMut>,
    length: usize,
}

impl Queue {
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// Takes a piece as it is; its spare memory is used by what follows.
    pub(crate) fn push(&mut self, piece: BytesMut) {
        self.length += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Takes a copy.
    pub(crate) fn extend(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len();
        while !bytes.is_empty() {
            let spare = self.pieces.back().map_or(0, |last| last.capacity() - last.len());
            if spare == 0 {
                // Grows with what waits, so that a stream with a few bytes takes little.
                let size = bytes.len().max(self.length - bytes.len()).clamp(LEAST, MOST);
                self.pieces.push_back(BytesMut::with_capacity(size));
                continue;
            }
            let (now, later) = bytes.split_at(spare.min(bytes.len()));
            if let Some(last) = self.pieces.back_mut() {
                last.extend_from_slice(now);
            }
            bytes = later;
        }
    }

    /// Gives at most `most` bytes to `take`, in order. Gives how many.
    pub(crate) fn read(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        let mut left = most;
        while let Some(first) = self.pieces.front_mut() {
            let now = left.min(first.len());
            take(first.get(..now).unwrap_or_default());
            first.advance(now);
            left -= now;
            if !first.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        self.length -= most - left;
        most - left
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.pieces.iter().map(BytesMut::capacity).sum()
    }
}
