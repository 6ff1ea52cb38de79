//! Collects the first handshake message from records (RFC 8446 §5.1, §4).

use crate::{HelloError, MAX_BYTES, Progress};

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const MAX_RECORD: usize = 1 << 14;

/// The body of the ClientHello at the start of `bytes`.
pub(crate) fn message(bytes: &[u8]) -> Result<Progress<Vec<u8>>, HelloError> {
    let mut collected = Vec::new();
    let mut rest = bytes.get(..MAX_BYTES).unwrap_or(bytes);
    loop {
        match record(rest)? {
            Some((fragment, behind)) => {
                collected.extend_from_slice(fragment);
                if let Some(body) = complete(&collected)? {
                    return Ok(Progress::Done(body));
                }
                rest = behind;
            }
            None if bytes.len() >= MAX_BYTES => return Err(HelloError::TooLong),
            None => {
                complete(&collected)?;
                return Ok(Progress::More);
            }
        }
    }
}

/// The fragment of a record, and what is behind the record.
type Fragment<'a> = (&'a [u8], &'a [u8]);

/// The next record; `None` when more bytes are needed.
fn record(bytes: &[u8]) -> Result<Option<Fragment<'_>>, HelloError> {
    let header_begins = [HANDSHAKE, 3];
    if !bytes.iter().zip(header_begins).all(|(byte, expected)| *byte == expected) {
        return Err(HelloError::NotTls);
    }
    let Some((&[_, _, minor, high, low], behind)) = bytes.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if minor > 4 || length == 0 || length > MAX_RECORD {
        return Err(HelloError::NotTls);
    }
    Ok(behind.split_at_checked(length))
}

/// The body once all of it is there.
fn complete(collected: &[u8]) -> Result<Option<Vec<u8>>, HelloError> {
    if collected.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::NotClientHello);
    }
    let Some((&[_, high, middle, low], body)) = collected.split_first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).map_err(|_| HelloError::TooLong)?;
    if length > MAX_BYTES {
        return Err(HelloError::TooLong);
    }
    Ok(body.get(..length).map(<[u8]>::to_vec))
}
