//! Frames on a stream: length, then JSON; bounded both ways.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use sluice_control_wallet::MAX_FRAME;
use zeroize::Zeroizing;

/// Reads a frame; `None` when the peer closed between frames.
pub(crate) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    if from.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    let mut bytes = Zeroizing::new(vec![0; length]);
    from.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a message"))
}

/// Writes a frame.
pub(crate) fn write<T: Serialize>(mut to: impl Write, message: &T) -> io::Result<()> {
    let body = Zeroizing::new(serde_json::to_vec(message)?);
    let length = u32::try_from(body.len()).ok().filter(|length| *length as usize <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame too long"))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(body.len() + 4));
    bytes.extend(length.to_be_bytes());
    bytes.extend_from_slice(&body);
    to.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use sluice_control_wallet::Response;

    use super::*;

    #[test]
    fn frames_are_bounded_and_whole() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Response::Exists { exists: true }).unwrap();
        assert_eq!(read::<Response>(&bytes[..]).unwrap(), Some(Response::Exists { exists: true }));
        assert!(read::<Response>(&[][..]).unwrap().is_none());
        for cut in 1..bytes.len() {
            assert!(read::<Response>(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(read::<Response>(&[0xff; 64][..]).is_err());
        assert!(write(Vec::new(), &"x".repeat(MAX_FRAME)).is_err());
    }
}
