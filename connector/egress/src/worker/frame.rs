//! What goes between the connector and its worker processes: length, then JSON, both ways, bounded.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// Longest frame, bytes: a script of [`MAX_SCRIPT`] with every character escaped.
pub(crate) const MAX_FRAME: usize = 4 * 1024 * 1024;
/// Longest PAC script, bytes.
pub(crate) const MAX_SCRIPT: usize = 512 * 1024;

/// To a worker.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    /// Evaluate a PAC script.
    Pac {
        /// The script.
        script: String,
        /// What is to be fetched.
        url: String,
        /// Its host.
        host: String,
        /// What `myIpAddress` gives.
        mine: String,
    },
    /// The address of the name asked for, if there is one.
    Address(Option<String>),
    /// Make the token of a login.
    Login(Login),
    /// What a KDC answered, or why none did.
    Kdc(Result<Vec<u8>, String>),
}

/// As whom to log in by Kerberos.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// Account.
    pub(crate) name: String,
    /// Its realm.
    pub(crate) realm: String,
    /// How it proves itself.
    pub(crate) secret: Secret,
    /// Service principal, without realm.
    pub(crate) service: String,
    /// What we call this machine.
    pub(crate) workstation: String,
}

/// A principal's secret.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Secret {
    /// Password.
    Password(Zeroizing<String>),
    /// A key of a keytab.
    Key {
        /// Encryption type.
        kind: u16,
        /// The key.
        key: Zeroizing<Vec<u8>>,
    },
}

/// From a worker.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// Resolve this name, please.
    Resolve(String),
    /// What the script returned.
    Result(String),
    /// Send this to a KDC of this realm, please.
    Kdc {
        /// Realm in which the KDC must be.
        realm: String,
        /// Request with its length before it (RFC 4120 §7.2.2).
        request: Vec<u8>,
    },
    /// The token for the proxy.
    Token(Vec<u8>),
    /// It cannot be done.
    Failed(String),
    /// The KDC says that the password or key is wrong.
    WrongSecret(String),
}

/// Makes a frame.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    let body = Zeroizing::new(serde_json::to_vec(message)?);
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a message to a worker is too long"))?;
    Ok(Zeroizing::new([&length.to_be_bytes()[..], &body].concat()))
}

/// Reads a body.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|_| io::Error::other("a worker's message is not understood"))
}

/// A frame's length from its first four bytes.
pub(crate) fn length(header: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_FRAME { Err(io::Error::other("a worker's message is too long")) } else { Ok(length) }
}

/// Writes a message, blocking.
pub(crate) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Reads a message, blocking.
pub(crate) fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut header = [0; 4];
    from.read_exact(&mut header)?;
    let mut body = Zeroizing::new(vec![0; length(header)?]);
    from.read_exact(&mut body)?;
    decode(&body)
}

/// Reads a worker's job; `None` when the connector has no use for it any more.
pub(crate) fn job(from: &mut impl Read) -> io::Result<Option<Ask>> {
    match read(from) {
        Ok(ask) => Ok(Some(ask)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
