//! The LAN's resolver: the tenant's own names answered here, everything else forwarded for admitted devices only.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, SRV, TXT},
    },
};
use ipnetwork::IpNetwork;

use crate::{EdgeDocument, discovery_hint};

/// Longest query that is read, bytes.
pub const MAX_QUERY: usize = 1232;
/// Longest answer over UDP (avoids fragments; DNS flag day 2020).
pub const MAX_UDP: u16 = 1232;
/// Longest answer over TCP, bytes.
pub const MAX_TCP: u16 = u16::MAX;
/// Lifetime of our own answers, seconds: they change with the document.
const TTL_SECONDS: u32 = 60;
/// Port of the EST service, as gateways splice it.
const EST_PORT: u16 = 443;
const HEADER: usize = 12;

/// How the question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// One datagram.
    Udp,
    /// One length-prefixed message.
    Tcp,
}

/// What to do with one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask the configured resolver, and give its answer back.
    Forward(Question),
    /// Say nothing: not a question, or not from this LAN.
    Drop,
}

/// A forwarded question: the answer must repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    bytes: Vec<u8>,
    id: u16,
    name: Name,
    kind: RecordType,
    limit: u16,
}

/// The names answered here, and who may ask.
#[derive(Clone, Debug)]
pub struct Zone {
    lan: Vec<IpNetwork>,
    names: Vec<(Name, Vec<RData>)>,
    hint_suffix: Option<Name>,
    forwards: bool,
}

impl Zone {
    /// The zone of an edge with these LAN prefixes (each the edge's own address in it); `domain` is what DHCP option
    /// 15 says, under which SRV and TXT hints are found; `forwards` when a resolver is configured.
    ///
    /// Names that are not DNS names are left out; [`EdgeDocument::check`] has refused those before.
    #[must_use]
    pub fn new(document: Option<&EdgeDocument>, lan: &[IpNetwork], domain: Option<&str>, forwards: bool) -> Self {
        let mut zone = Self { lan: lan.to_vec(), names: Vec::new(), hint_suffix: None, forwards };
        zone.hint_suffix = domain.and_then(name);
        let Some(document) = document else { return zone };
        let service = &document.service;
        zone.add(&service.est_host, service.est_addresses.iter().map(|address| rdata(*address)).collect());
        zone.add(&service.checkin_host, lan.iter().map(|network| rdata(network.ip())).collect());
        if let (Some(suffix), Some(target)) = (domain, name(&service.est_host)) {
            zone.add(&format!("_sluice-est._tcp.{suffix}"), vec![RData::SRV(SRV::new(0, 0, EST_PORT, target))]);
            let hint = discovery_hint(document);
            let pieces: Vec<&[u8]> = hint.as_bytes().chunks(255).collect();
            zone.add(&format!("_sluice._tcp.{suffix}"), vec![RData::TXT(TXT::from_bytes(pieces))]);
        }
        zone
    }

    fn add(&mut self, text: &str, data: Vec<RData>) {
        if let Some(name) = name(text) {
            self.names.push((name, data));
        }
    }

    /// Judges one message from `source`; `admitted` says whether that device has left staging.
    #[must_use]
    pub fn judge(&self, message: &[u8], source: IpAddr, admitted: bool, carrier: Carrier) -> Verdict {
        let on_lan = self.lan.iter().any(|network| network.contains(source)) || is_link_local(source);
        let Some(header) = message.first_chunk::<HEADER>() else { return Verdict::Drop };
        let is_response = header.get(2).is_none_or(|flags| flags & 0x80 != 0);
        if !on_lan || is_response || message.len() > MAX_QUERY {
            return Verdict::Drop;
        }
        let [id0, id1, ..] = *header;
        let Ok(query) = Message::from_vec(message) else {
            let id = u16::from_be_bytes([id0, id1]);
            return reply(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr));
        };
        let limit = match carrier {
            Carrier::Udp => query.max_payload().min(MAX_UDP),
            Carrier::Tcp => MAX_TCP,
        };
        match self.consider(&query, admitted) {
            Ok(answers) => fit(&answer(&query, answers), limit),
            Err(Refusal::Code(code)) => {
                let mut message = answer(&query, Vec::new());
                message.metadata.response_code = code;
                message.metadata.authoritative = false;
                reply(&message)
            }
            Err(Refusal::Forward(name, kind)) => {
                let id = query.metadata.id;
                Verdict::Forward(Question { bytes: message.to_vec(), id, name, kind, limit })
            }
        }
    }

    fn consider(&self, query: &Message, admitted: bool) -> Result<Vec<Record>, Refusal> {
        if query.metadata.message_type != MessageType::Query || query.metadata.op_code != OpCode::Query {
            return Err(Refusal::Code(ResponseCode::NotImp));
        }
        if query.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Err(Refusal::Code(ResponseCode::BADVERS));
        }
        let [question] = query.queries.as_slice() else { return Err(Refusal::Code(ResponseCode::FormErr)) };
        let kind = question.query_type();
        let whole_zone = matches!(kind, RecordType::ANY | RecordType::AXFR | RecordType::IXFR);
        if question.query_class() != DNSClass::IN || whole_zone {
            return Err(Refusal::Code(ResponseCode::Refused));
        }
        let asked = question.name();
        if let Some((_, data)) = self.names.iter().find(|(name, _)| name == asked) {
            let matching = data.iter().filter(|data| data.record_type() == kind);
            return Ok(matching.map(|data| Record::from_rdata(asked.clone(), TTL_SECONDS, data.clone())).collect());
        }
        if self.hint_suffix.as_ref().is_some_and(|suffix| asked.iter().any(is_hint_label) && suffix.zone_of(asked)) {
            return Err(Refusal::Code(ResponseCode::NXDomain));
        }
        if admitted && self.forwards {
            Err(Refusal::Forward(asked.clone(), kind))
        } else {
            Err(Refusal::Code(ResponseCode::Refused))
        }
    }
}

impl Question {
    /// What to send to the resolver, under a fresh random `id`, so that an outsider cannot guess the answer's.
    #[must_use]
    pub fn ask(&self, id: u16) -> Vec<u8> {
        with_id(&self.bytes, id)
    }

    /// Turns the resolver's answer to [`Self::ask`] with `id` into the client's; none when it answers something else.
    #[must_use]
    pub fn relay(&self, answer: &[u8], id: u16) -> Option<Vec<u8>> {
        let message = Message::from_vec(answer).ok()?;
        let [question] = message.queries.as_slice() else { return None };
        let same = question.name() == &self.name && question.query_type() == self.kind;
        if message.metadata.id != id || message.metadata.message_type != MessageType::Response || !same {
            return None;
        }
        if answer.len() <= usize::from(self.limit) {
            return Some(with_id(answer, self.id));
        }
        let mut short = message.truncate();
        short.metadata.id = self.id;
        short.to_vec().ok()
    }

    /// The answer when no resolver answered.
    #[must_use]
    pub fn failed(&self) -> Option<Vec<u8>> {
        let query = Message::from_vec(&self.bytes).ok()?;
        let mut message = answer(&query, Vec::new());
        message.metadata.response_code = ResponseCode::ServFail;
        message.metadata.authoritative = false;
        message.to_vec().ok()
    }
}

enum Refusal {
    Code(ResponseCode),
    Forward(Name, RecordType),
}

fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

const fn rdata(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// A link-local source reached us over the LAN's own wire: the socket is bound to it.
const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_hint_label(label: &[u8]) -> bool {
    label.starts_with(b"_sluice")
}

fn answer(query: &Message, answers: Vec<Record>) -> Message {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata = Metadata::response_from_request(&query.metadata);
    message.metadata.authoritative = true;
    message.metadata.recursion_available = true;
    message.queries.clone_from(&query.queries);
    message.answers = answers;
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP);
        message.edns = Some(edns);
    }
    message
}

fn reply(message: &Message) -> Verdict {
    message.to_vec().map_or(Verdict::Drop, Verdict::Reply)
}

fn fit(message: &Message, limit: u16) -> Verdict {
    match reply(message) {
        Verdict::Reply(bytes) if bytes.len() > usize::from(limit) => reply(&message.truncate()),
        verdict => verdict,
    }
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend(message.iter().skip(2));
    bytes
}

#[cfg(test)]
mod tests;
