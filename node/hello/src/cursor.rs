//! Reads TLS's length-prefixed structures without ever looking past the end.

use crate::HelloError;

/// What is left to read of one structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], HelloError> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, HelloError> {
        let (first, rest) = self.0.split_first().ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, HelloError> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    /// A structure behind a one-byte length.
    pub(crate) fn short(&mut self) -> Result<Self, HelloError> {
        let length = self.u8()?;
        self.bytes(length.into()).map(Self)
    }

    /// A structure behind a two-byte length.
    pub(crate) fn long(&mut self) -> Result<Self, HelloError> {
        let length = self.u16()?;
        self.bytes(length.into()).map(Self)
    }

    /// Everything must have been read.
    pub(crate) const fn end(&self) -> Result<(), HelloError> {
        if self.is_empty() { Ok(()) } else { Err(HelloError::Malformed) }
    }
}
