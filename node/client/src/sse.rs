//! Reads server-sent events from bytes as they come (HTML Living Standard §9.2), bounded.

use std::mem;

use thiserror::Error;

/// Longest event, bytes: a snapshot of a site's state.
pub(crate) const MAX_EVENT: usize = 16 * 1024 * 1024;

/// An event longer than [`MAX_EVENT`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an event of the state feed is longer than {MAX_EVENT} bytes")]
pub(crate) struct TooLong;

/// Collects bytes until events are complete.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

impl Events {
    /// Takes the next bytes; gives the `data` of each event they complete. Other fields and comments are skipped.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut complete = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len().saturating_add(self.data.len()).saturating_add(piece.len()) > MAX_EVENT {
                return Err(TooLong);
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                complete.extend(self.end_of_line());
            }
        }
        Ok(complete)
    }

    fn end_of_line(&mut self) -> Option<Vec<u8>> {
        let line = mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return mem::take(&mut self.has_data).then(|| mem::take(&mut self.data));
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            if mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn events_come_out_whole_and_comments_do_not() {
        let mut events = Events::default();
        let taken = events.take(b": hello\nevent: x\ndata: a\ndata:b\r\n\r\n\ndata: c\n").unwrap();
        assert_eq!(taken, [b"a\nb".to_vec()]);
        assert_eq!(events.take(b"\n").unwrap(), [b"c".to_vec()]);
    }

    #[test]
    fn endless_line_is_refused() {
        let mut events = Events::default();
        let block = vec![b'x'; MAX_EVENT / 2];
        assert_eq!(events.take(&block), Ok(vec![]));
        assert_eq!(events.take(&block), Ok(vec![]));
        assert_eq!(events.take(&block), Err(TooLong));
    }

    proptest! {
        #[test]
        fn cutting_the_bytes_differently_changes_nothing(
            texts in vec("[a-z]{0,20}", 0..8),
            cuts in vec(0..400_usize, 0..8),
        ) {
            let wire: Vec<u8> = texts.iter().flat_map(|text| format!("data: {text}\n\n").into_bytes()).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(wire.len())).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let mut events = Events::default();
            let mut taken = Vec::new();
            for pair in cuts.windows(2) {
                taken.extend(events.take(&wire[pair[0]..pair[1]]).unwrap());
            }
            let expected: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(taken, expected);
        }

        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..600)) {
            let mut events = Events::default();
            for piece in bytes.chunks(7) {
                let _taken = events.take(piece);
            }
        }
    }
}
