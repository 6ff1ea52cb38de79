//! Which device has an address: the kernel's neighbour table, asked over rtnetlink without privileges.

use std::{
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    time::{TimeVal, TimeValLike},
};
use sluice_discovery_rules::Mac;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_MULTI: u16 = 2;
const NLM_F_DUMP: u16 = 0x300;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const MESSAGE_HEADER: usize = 16;
const NEIGHBOUR_HEADER: usize = 12;
/// States in which the kernel itself would send frames to the entry's address:
/// reachable, stale, delay, probe, permanent.
const USABLE: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;
/// The kernel answers at once; this only bounds a defect, milliseconds.
const PATIENCE_MS: i64 = 500;
/// Longest datagram that is read, bytes, and most of them per question: more than the kernel's own table holds.
const MAX_ANSWER: usize = 32 * 1024;
const MAX_DATAGRAMS: usize = 256;

/// A netlink socket of our own.
#[derive(Clone)]
pub(crate) struct Neighbours(Arc<Mutex<(OwnedFd, u32)>>);

impl Neighbours {
    /// Opens it; afterwards the process needs no right to open others.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        let fd = socket(AddressFamily::Netlink, kind.0, kind.1, kind.2).context("cannot open a netlink socket")?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS))?;
        Ok(Self(Arc::new(Mutex::new((fd, 0)))))
    }

    /// The device that has `address` behind interface number `index`.
    pub(crate) fn owner(&self, index: u32, address: IpAddr) -> Option<Mac> {
        let entries = self.ask(&Question::About(index, address));
        entries.into_iter().find(|entry| entry.index == index && entry.address == address).map(|entry| entry.mac)
    }

    /// IPv6 addresses behind interface number `index` that hosts use beyond their own wire, and whose they are.
    pub(crate) fn routed_v6(&self, index: u32) -> Vec<(Mac, IpAddr)> {
        let entries = self.ask(&Question::AllV6);
        let here = entries.into_iter().filter(|entry| entry.index == index);
        here.filter(|entry| matches!(entry.address, IpAddr::V6(address) if !address.is_unicast_link_local()))
            .map(|entry| (entry.mac, entry.address))
            .collect()
    }

    fn ask(&self, question: &Question) -> Vec<Entry> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (fd, last) = &mut *guard;
        *last = last.wrapping_add(1);
        let mut entries = Vec::new();
        let sent = sendto(fd.as_raw_fd(), &question.bytes(*last), &NetlinkAddr::new(0, 0), MsgFlags::empty());
        let mut answer = vec![0; MAX_ANSWER];
        for _ in 0..if sent.is_ok() { MAX_DATAGRAMS } else { 0 } {
            let Ok(length) = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()) else { break };
            if read_all(answer.get(..length).unwrap_or_default(), *last, &mut entries) {
                break;
            }
        }
        entries
    }
}

enum Question {
    About(u32, IpAddr),
    AllV6,
}

impl Question {
    fn bytes(&self, sequence: u32) -> Vec<u8> {
        let (family, index, octets, flags) = match self {
            Self::About(index, IpAddr::V4(address)) => (AF_INET, *index, address.octets().to_vec(), NLM_F_REQUEST),
            Self::About(index, IpAddr::V6(address)) => (AF_INET6, *index, address.octets().to_vec(), NLM_F_REQUEST),
            Self::AllV6 => (AF_INET6, 0, Vec::new(), NLM_F_REQUEST | NLM_F_DUMP),
        };
        let mut body = vec![family, 0, 0, 0];
        body.extend(index.to_ne_bytes());
        body.extend([0; 4]);
        if !octets.is_empty() {
            let attribute = u16::try_from(octets.len() + 4).unwrap_or(u16::MAX);
            body.extend(attribute.to_ne_bytes());
            body.extend(NDA_DST.to_ne_bytes());
            body.extend(octets);
        }
        let total = u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or(u32::MAX);
        let mut bytes = total.to_ne_bytes().to_vec();
        bytes.extend(RTM_GETNEIGH.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        bytes
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    index: u32,
    address: IpAddr,
    mac: Mac,
}

/// Reads one datagram's messages into `entries`. True when the answer to `sequence` is complete.
fn read_all(mut bytes: &[u8], sequence: u32, entries: &mut Vec<Entry>) -> bool {
    while let Some(total) = u32_at(bytes, 0).and_then(|total| usize::try_from(total).ok()) {
        let Some(message) = bytes.get(..total).filter(|message| message.len() >= MESSAGE_HEADER) else { return true };
        bytes = bytes.get(total.next_multiple_of(4)..).unwrap_or_default();
        if u32_at(message, 8) != Some(sequence) {
            continue;
        }
        let is_part = u16_at(message, 6).is_some_and(|flags| flags & NLM_F_MULTI != 0);
        if u16_at(message, 4) != Some(RTM_NEWNEIGH) {
            return true;
        }
        entries.extend(read(message));
        if !is_part {
            return true;
        }
    }
    false
}

/// One entry, if it is in use and has an Ethernet address.
fn read(message: &[u8]) -> Option<Entry> {
    let index = u32_at(message, MESSAGE_HEADER + 4)?;
    if u16_at(message, MESSAGE_HEADER + 8)? & USABLE == 0 {
        return None;
    }
    let mut rest = message.get(MESSAGE_HEADER + NEIGHBOUR_HEADER..)?;
    let (mut address, mut mac) = (None, None);
    while rest.len() >= 4 {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        match u16_at(rest, 2)? {
            NDA_DST => address = ip(value),
            NDA_LLADDR => mac = Mac::try_from(value).ok(),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Entry { index, address: address?, mac: mac? })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const HUB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 50));

    fn answer(state: u16, flags: u16) -> Vec<u8> {
        let mut bytes = Question::About(3, HUB).bytes(1);
        bytes[4..6].copy_from_slice(&RTM_NEWNEIGH.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[MESSAGE_HEADER + 8..MESSAGE_HEADER + 10].copy_from_slice(&state.to_ne_bytes());
        bytes.extend(10_u16.to_ne_bytes());
        bytes.extend(NDA_LLADDR.to_ne_bytes());
        bytes.extend([2, 0, 0, 0, 0, 7, 0, 0]);
        let total = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&total.to_ne_bytes());
        bytes
    }

    fn entries(bytes: &[u8], sequence: u32) -> (bool, usize) {
        let mut found = Vec::new();
        let is_complete = read_all(bytes, sequence, &mut found);
        (is_complete, found.len())
    }

    #[test]
    fn an_entry_in_use_names_its_device_and_others_nobody() {
        let mut found = Vec::new();
        assert!(read_all(&answer(0x02, 0), 1, &mut found));
        assert_eq!(found, [Entry { index: 3, address: HUB, mac: "02:00:00:00:00:07".parse().unwrap() }]);
        assert_eq!(entries(&answer(0x20, 0), 1), (true, 0), "failed");
        assert_eq!(entries(&answer(0x01, 0), 1), (true, 0), "incomplete");
        assert_eq!(entries(&answer(0x02, 0), 2), (false, 0), "an answer to something else");
        let two = [answer(0x02, NLM_F_MULTI), answer(0x04, NLM_F_MULTI)].concat();
        assert_eq!(entries(&two, 1), (false, 2), "more follows");
    }

    #[test]
    fn the_running_kernel_knows_no_owner_of_an_unused_address() {
        let neighbours = Neighbours::open().unwrap();
        for address in [IpAddr::from([192, 0, 2, 77]), "2001:db8::77".parse().unwrap()] {
            assert_eq!(neighbours.owner(1, address), None);
            assert_eq!(neighbours.owner(1, address), None, "the error answer was consumed");
        }
        assert_eq!(neighbours.routed_v6(1), []);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..120), at in 0_usize..60, byte: u8, cut in 0_usize..60,
        ) {
            entries(&bytes, 1);
            let mut damaged = answer(2, NLM_F_MULTI);
            if let Some(slot) = damaged.get_mut(at) { *slot = byte; }
            damaged.truncate(damaged.len().saturating_sub(cut));
            entries(&damaged, 1);
        }
    }
}
