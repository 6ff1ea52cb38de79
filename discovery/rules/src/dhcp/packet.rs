//! DHCPv4 on the wire: reading what clients send, writing what they get (RFC 2131 §2, RFC 2132, RFC 3396).

use std::{collections::BTreeMap, net::Ipv4Addr};

use thiserror::Error;

use crate::Mac;

/// Longest packet that is read, bytes.
pub const MAX_PACKET: usize = 1500;
/// Length of header and cookie.
const HEADER: usize = 240;
/// Shortest packet that is sent; old clients drop shorter ones (RFC 1542 §2.1).
const MIN_REPLY: usize = 300;
/// What every client takes, bytes (RFC 2131 §2), and what is never exceeded, so that nothing is fragmented.
const REPLY_LIMITS: (u16, u16) = (548, 1472);
/// IP and UDP headers, which option 57 counts and a packet's length here does not.
const IP_UDP: u16 = 28;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Option codes (RFC 2132, RFC 8910, RFC 8572).
pub(super) mod code {
    pub(in crate::dhcp) const PAD: u8 = 0;
    pub(in crate::dhcp) const MASK: u8 = 1;
    pub(in crate::dhcp) const ROUTER: u8 = 3;
    pub(in crate::dhcp) const DNS: u8 = 6;
    pub(in crate::dhcp) const DOMAIN: u8 = 15;
    pub(in crate::dhcp) const NTP: u8 = 42;
    pub(in crate::dhcp) const VENDOR: u8 = 43;
    pub(in crate::dhcp) const REQUESTED: u8 = 50;
    pub(in crate::dhcp) const LEASE: u8 = 51;
    pub(in crate::dhcp) const KIND: u8 = 53;
    pub(in crate::dhcp) const SERVER: u8 = 54;
    pub(in crate::dhcp) const WANTED: u8 = 55;
    pub(in crate::dhcp) const MAX_SIZE: u8 = 57;
    pub(in crate::dhcp) const T1: u8 = 58;
    pub(in crate::dhcp) const T2: u8 = 59;
    pub(in crate::dhcp) const VENDOR_CLASS: u8 = 60;
    pub(in crate::dhcp) const CLIENT_ID: u8 = 61;
    pub(in crate::dhcp) const CAPTIVE: u8 = 114;
    pub(in crate::dhcp) const SZTP: u8 = 143;
    pub(in crate::dhcp) const END: u8 = 255;
}

/// DHCP message types (RFC 2132 §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Is anybody there?
    Discover = 1,
    /// Server: this one is free.
    Offer = 2,
    /// Give me, or let me keep, this one.
    Request = 3,
    /// That one is in use by somebody.
    Decline = 4,
    /// Server: it is yours.
    Ack = 5,
    /// Server: it is not yours.
    Nak = 6,
    /// Thanks, take it back.
    Release = 7,
    /// I have an address; what else is there to know?
    Inform = 8,
}

/// Why a packet is not answered.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// Shorter than a header or longer than [`MAX_PACKET`].
    #[error("a DHCP packet has {HEADER} to {MAX_PACKET} bytes")]
    Length,
    /// Not a request of an Ethernet client with the DHCP cookie.
    #[error("not a DHCP request of an Ethernet client")]
    Header,
    /// Hub LANs are one broadcast domain: relayed requests are not expected.
    #[error("relayed requests are not served")]
    Relayed,
    /// An option runs over the packet's end, or has the wrong length for its code.
    #[error("option {0} is broken")]
    Option(u8),
    /// No message type, or a server's.
    #[error("the message type is missing or a server's")]
    Kind,
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Discover, Request, Decline, Release or Inform.
    pub kind: Kind,
    /// Transaction.
    pub xid: u32,
    /// The flags word, echoed.
    pub flags: u16,
    /// The address it says it has; unspecified when none.
    pub ciaddr: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server: Option<Ipv4Addr>,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// Option 55; empty when it asked for nothing in particular.
    pub wanted: Vec<u8>,
    /// Option 61, echoed (RFC 6842).
    pub client_id: Option<Vec<u8>>,
    /// Longest packet it takes, without IP and UDP headers.
    pub limit: u16,
}

impl Request {
    /// Reads one UDP payload.
    ///
    /// # Errors
    /// [`Malformed`]; such a packet is dropped without an answer.
    pub fn read(packet: &[u8]) -> Result<Self, Malformed> {
        if packet.len() > MAX_PACKET {
            return Err(Malformed::Length);
        }
        let (header, options) = packet.split_first_chunk::<HEADER>().ok_or(Malformed::Length)?;
        let [1, 1, 6, _hops, x0, x1, x2, x3, _, _, f0, f1, c0, c1, c2, c3, ..] = *header else {
            return Err(Malformed::Header);
        };
        if !header.ends_with(&COOKIE) {
            return Err(Malformed::Header);
        }
        if header.get(24..28) != Some(&[0; 4]) {
            return Err(Malformed::Relayed);
        }
        let mac = header.get(28..34).and_then(|bytes| Mac::try_from(bytes).ok()).ok_or(Malformed::Header)?;
        let mut options = read_options(options)?;
        let limit = match options.remove(&code::MAX_SIZE) {
            Some(bytes) => u16::from_be_bytes(exact(code::MAX_SIZE, &bytes)?).saturating_sub(IP_UDP),
            None => 0,
        };
        Ok(Self {
            kind: client_kind(options.get(&code::KIND).map(Vec::as_slice))?,
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
            flags: u16::from_be_bytes([f0, f1]),
            ciaddr: Ipv4Addr::new(c0, c1, c2, c3),
            mac,
            requested: address(code::REQUESTED, &options)?,
            server: address(code::SERVER, &options)?,
            vendor_class: options.remove(&code::VENDOR_CLASS).unwrap_or_default(),
            wanted: options.remove(&code::WANTED).unwrap_or_default(),
            client_id: options.remove(&code::CLIENT_ID).filter(|id| id.len() <= usize::from(u8::MAX)),
            limit: limit.clamp(REPLY_LIMITS.0, REPLY_LIMITS.1),
        })
    }

    /// Whether the client asked for `code`.
    #[must_use]
    pub fn wants(&self, code: u8) -> bool {
        self.wanted.contains(&code)
    }
}

fn client_kind(option: Option<&[u8]>) -> Result<Kind, Malformed> {
    match option {
        Some([1]) => Ok(Kind::Discover),
        Some([3]) => Ok(Kind::Request),
        Some([4]) => Ok(Kind::Decline),
        Some([7]) => Ok(Kind::Release),
        Some([8]) => Ok(Kind::Inform),
        _ => Err(Malformed::Kind),
    }
}

/// Splits options; parts of one option are joined (RFC 3396).
fn read_options(mut rest: &[u8]) -> Result<BTreeMap<u8, Vec<u8>>, Malformed> {
    let mut options = BTreeMap::<u8, Vec<u8>>::new();
    loop {
        rest = match rest {
            [] | [code::END, ..] => return Ok(options),
            [code::PAD, tail @ ..] => tail,
            [option, length, tail @ ..] => {
                let (value, tail) = tail.split_at_checked(usize::from(*length)).ok_or(Malformed::Option(*option))?;
                options.entry(*option).or_default().extend_from_slice(value);
                tail
            }
            [option] => return Err(Malformed::Option(*option)),
        };
    }
}

fn exact<const N: usize>(option: u8, bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed::Option(option))
}

fn address(option: u8, options: &BTreeMap<u8, Vec<u8>>) -> Result<Option<Ipv4Addr>, Malformed> {
    options.get(&option).map(|bytes| exact::<4>(option, bytes).map(Ipv4Addr::from)).transpose()
}

/// Builds one answer. Options that no longer fit the client's limit are left out, so the vital ones go first.
pub(super) struct Writer {
    bytes: Vec<u8>,
    limit: usize,
}

impl Writer {
    pub(super) fn new(kind: Kind, request: &Request, yiaddr: Ipv4Addr, server: Ipv4Addr) -> Self {
        let mut bytes = vec![2, 1, 6, 0];
        bytes.extend(request.xid.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(request.flags.to_be_bytes());
        let ciaddr = if kind == Kind::Ack { request.ciaddr } else { Ipv4Addr::UNSPECIFIED };
        bytes.extend(ciaddr.octets());
        bytes.extend(yiaddr.octets());
        bytes.extend([0; 8]);
        bytes.extend(request.mac.bytes());
        bytes.resize(HEADER - COOKIE.len(), 0);
        bytes.extend(COOKIE);
        let mut writer = Self { bytes, limit: usize::from(request.limit) };
        writer.option(code::KIND, &[kind as u8]);
        writer.option(code::SERVER, &server.octets());
        if let Some(id) = &request.client_id {
            writer.option(code::CLIENT_ID, id);
        }
        writer
    }

    /// Appends an option if it, and the end mark, still fit.
    pub(super) fn option(&mut self, code: u8, value: &[u8]) {
        let Ok(length) = u8::try_from(value.len()) else { return };
        if self.bytes.len() + 2 + value.len() < self.limit {
            self.bytes.extend([code, length]);
            self.bytes.extend(value);
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(code::END);
        if self.bytes.len() < MIN_REPLY {
            self.bytes.resize(MIN_REPLY, code::PAD);
        }
        self.bytes
    }
}
