//! What goes between the connector and its web proxy's workers, of which one has read what strangers write.

use std::io::Cursor;

use crate::{
    codec::accepted,
    worker_frame::{Answer, Ask, MAX_FRAME, encode, job, length, read},
};

/// Frames, one after the other, as either end would read them: what is read survives being written.
pub fn worker_frame(data: &[u8]) {
    let (mut as_ask, mut as_answer) = (Cursor::new(data), Cursor::new(data));
    while let Ok(answer) = read::<Answer>(&mut as_answer) {
        accepted();
        let written = encode(&answer).expect("what was read can be written");
        let again: Answer = read(&mut Cursor::new(written.as_slice())).expect("what we write, we read");
        assert_eq!(written, encode(&again).unwrap());
    }
    while let Ok(ask) = read::<Ask>(&mut as_ask) {
        accepted();
        let written = encode(&ask).expect("what was read can be written");
        let again: Ask = read(&mut Cursor::new(written.as_slice())).expect("what we write, we read");
        assert_eq!(*written, *encode(&again).unwrap());
    }
    if let Some(header) = data.first_chunk::<4>() {
        assert!(length(*header).is_ok_and(|length| length <= MAX_FRAME) || length(*header).is_err());
    }
    let none = job(&mut Cursor::new(data)).is_ok_and(|job| job.is_none());
    assert!(
        !none || data.len() < 4 || length(*data.first_chunk().unwrap()).is_ok_and(|length| length > data.len() - 4)
    );
}
