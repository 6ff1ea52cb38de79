//! The ClientHello's body (RFC 8446 §4.1.2).

use std::collections::BTreeSet;

use crate::{HelloError, MAX_PROTOCOLS, cursor::Cursor, name};

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// Server name: a DNS host name in lower case.
    pub server_name: Option<String>,
    /// ALPN protocols in the client's order; empty when it names none.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientHello {
    /// Whether the client offers `protocol`.
    #[must_use]
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.alpn.iter().any(|offered| offered == protocol)
    }
}

pub(crate) fn client_hello(body: &[u8]) -> Result<ClientHello, HelloError> {
    let mut body = Cursor(body);
    body.bytes(2 + 32)?; // legacy_version, random
    if body.short()?.0.len() > 32 {
        return Err(HelloError::Malformed); // legacy_session_id
    }
    let suites = body.long()?.0.len();
    if suites == 0 || suites % 2 != 0 {
        return Err(HelloError::Malformed);
    }
    if body.short()?.is_empty() {
        return Err(HelloError::Malformed); // legacy_compression_methods
    }
    if body.is_empty() {
        return Ok(ClientHello::default()); // TLS 1.2 without extensions
    }
    let extensions = body.long()?;
    body.end()?;
    read_extensions(extensions)
}

fn read_extensions(mut extensions: Cursor<'_>) -> Result<ClientHello, HelloError> {
    let mut hello = ClientHello::default();
    let mut seen = BTreeSet::new();
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.long()?;
        if !seen.insert(kind) {
            return Err(HelloError::Duplicate);
        }
        match kind {
            SERVER_NAME => hello.server_name = Some(server_name(content)?),
            ALPN => hello.alpn = protocols(content)?,
            _ => {}
        }
    }
    Ok(hello)
}

fn server_name(mut content: Cursor<'_>) -> Result<String, HelloError> {
    let mut names = content.long()?;
    content.end()?;
    if names.u8()? != HOST_NAME {
        return Err(HelloError::BadName);
    }
    let name = name::host_name(names.long()?.0)?;
    // Only one type of name exists, and only one name of each type may be there.
    if names.is_empty() { Ok(name) } else { Err(HelloError::Duplicate) }
}

fn protocols(mut content: Cursor<'_>) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut list = content.long()?;
    content.end()?;
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.short()?.0;
        if protocol.is_empty() || protocols.len() == MAX_PROTOCOLS {
            return Err(HelloError::BadAlpn);
        }
        protocols.push(protocol.to_vec());
    }
    if protocols.is_empty() { Err(HelloError::BadAlpn) } else { Ok(protocols) }
}
