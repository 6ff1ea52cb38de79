//! What web proxies, their scripts and the files beside them say to a connector.

use std::collections::BTreeSet;

use sluice_connector_webproxy::{
    Abilities, Action, Credentials, Handshake, HostRules, Keytab, MAX_HEAD, MAX_SKIPPED, Memory, NtlmAnswer, Password,
    Proxy, Reply, ReplyError, ReplyReader, Target, Way, challenges, ntlm_negotiate, pac_result,
};

use crate::codec::{accepted, cuts, lines, text};

/// Longest line of base64 or quotes that one challenge may make us send, times its own length.
const GROWTH: usize = 4;

/// Stands between the replies of one attempt.
const NEXT: u8 = 0x1e;

fn credentials(basic_in_clear: bool) -> Credentials {
    let (domain, user) = Credentials::split_account("CORP\\svc");
    Credentials { user, domain, password: Password::new("hunter2-of-the-proxy"), basic_in_clear }
}

/// Replies to CONNECT, one after the other: each the same however the bytes come, and bounded. The 407 loop ends
/// whatever is offered; what it sends is one request each, Basic only where it may, and never a password that was
/// refused in a weaker form.
pub fn proxy_reply(data: &[u8]) {
    let mut replies = Vec::new();
    for bytes in data.split(|byte| *byte == NEXT).take(16) {
        match one_reply(bytes) {
            Some(reply) => replies.push(reply),
            None => break,
        }
    }
    if replies.is_empty() {
        return;
    }
    accepted();
    let target = Target::new("gw.acme.test", 443).unwrap();
    for abilities in [Abilities::default(), Abilities { ntlm: true, kerberos: true }] {
        for basic in [false, true] {
            let proxy = Proxy::read("http://proxy.corp.test:3128").unwrap();
            let account = Some(credentials(basic));
            attempt(Handshake::new(proxy, target.clone(), account, abilities, Memory::Nothing), &replies, basic, data);
        }
    }
}

fn one_reply(data: &[u8]) -> Option<Reply> {
    let whole = read(&[data]);
    for cut in cuts(data) {
        let (front, back) = data.split_at(cut);
        let cut_up = read(&[front, back]);
        // What follows a complete reply was not asked for; it is only seen when it comes along.
        let late = whole.is_err() && matches!(cut_up, Ok(Some(_)));
        assert!(late || cut_up == whole, "cut at {cut}: {cut_up:?} instead of {whole:?}");
    }
    let reply = whole.ok().flatten()?;
    assert!((200..600).contains(&reply.status) && reply.reason.len() <= 100);
    assert!(data.len() <= 2 * (MAX_HEAD + MAX_SKIPPED));
    Some(reply)
}

/// The last reply is repeated for ever.
fn attempt(mut shake: Handshake, replies: &[Reply], basic: bool, data: &[u8]) {
    let mut next = Ok(shake.start([1; 16]));
    let (mut answers, mut shown) = (replies.iter(), BTreeSet::new());
    let mut last = answers.next();
    for step in 0.. {
        assert!(step < 64, "the loop has no end");
        let Ok(action) = next else { return };
        next = match action {
            Action::Open(_) => return,
            Action::Send { head, .. } => {
                shown.extend(one_request(&head, basic, data.len()));
                assert!(!(shown.contains("Digest") && shown.contains("Basic")), "refused, and shown in a weaker form");
                let reply = last.unwrap();
                last = answers.next().or(last);
                shake.replied(reply, [2; 16])
            }
            Action::Token { .. } => shake.token(Ok(vec![3; 40])),
        };
    }
}

/// Gives the scheme of the login in it.
fn one_request(head: &[u8], basic: bool, from: usize) -> Option<String> {
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut fields);
    let length = request.parse(head).expect("another reader refuses what we send");
    assert_eq!(length, httparse::Status::Complete(head.len()), "more than one request");
    assert!(request.method == Some("CONNECT") && request.path == Some("gw.acme.test:443"));
    let mut logins = request.headers.iter().filter(|field| field.name == "Proxy-Authorization");
    let login = logins.next().map(|field| String::from_utf8_lossy(field.value).into_owned());
    assert!(logins.next().is_none());
    assert!(head.len() <= 1024 + GROWTH * from, "{} bytes from {from}", head.len());
    let scheme = login.and_then(|login| login.split(' ').next().map(str::to_owned));
    assert!(basic || scheme.as_deref() != Some("Basic"), "the password in clear");
    assert!(!String::from_utf8_lossy(head).contains("hunter2"), "the password in clear");
    scheme
}

fn read(pieces: &[&[u8]]) -> Result<Option<Reply>, ReplyError> {
    let mut reader = ReplyReader::default();
    for piece in pieces {
        if let Some(reply) = reader.feed(piece)? {
            return Ok(Some(reply));
        }
    }
    Ok(None)
}

/// Fields of challenges, one a line: what is read survives being written.
pub fn proxy_challenge(data: &[u8]) {
    for line in lines(data) {
        let Ok(found) = challenges(line) else { continue };
        if found.is_empty() {
            continue;
        }
        accepted();
        let quoted = |value: &[u8]| {
            let escaped = value.iter().flat_map(|b| if matches!(b, b'"' | b'\\') { vec![b'\\', *b] } else { vec![*b] });
            std::iter::once(b'"').chain(escaped).chain([b'"']).collect::<Vec<u8>>()
        };
        let written: Vec<Vec<u8>> = found
            .iter()
            .map(|challenge| {
                let params =
                    challenge.params.iter().map(|(name, value)| [name.as_bytes(), b"=", &quoted(value)].concat());
                let rest = challenge.token68.clone().map(String::into_bytes);
                let rest = rest.unwrap_or_else(|| params.collect::<Vec<_>>().join(&b", "[..]));
                [challenge.scheme.as_bytes(), b" ", &rest].concat()
            })
            .collect();
        let written = written.join(&b", "[..]);
        assert_eq!(challenges(&written), Ok(found), "{}", String::from_utf8_lossy(&written));
    }
}

/// `NO_PROXY`, then targets, one a line: one that is named stays named when rules are added, and a suffix names only
/// whole labels.
pub fn no_proxy(data: &[u8]) {
    let text = text(data);
    let (rules, hosts) = text.split_once('\n').unwrap_or((&text, "gw.acme.test:443"));
    let Ok(read) = HostRules::read(rules) else { return };
    accepted();
    let more = HostRules::read(&format!("{rules},added.invalid")).ok();
    for host in hosts.split('\n') {
        let Ok(target) = host.parse::<Target>() else { continue };
        let Some(rule) = read.naming(&target) else { continue };
        assert!(more.as_ref().is_none_or(|more| more.naming(&target) == Some(rule)));
        let name = rule.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        let name = name.split([':', '/']).next().unwrap_or_default().trim_end_matches('.');
        if target.address().is_none() && !name.is_empty() && name != "*" {
            let whole = target.host() == name || target.host().ends_with(&format!(".{name}"));
            assert!(whole, "{rule} names {target}");
        }
    }
}

/// What a PAC script returns: every way is one that can be asked for, and survives being written.
pub fn pac(data: &[u8]) {
    let text = text(data);
    let Ok(ways) = pac_result(&text) else { return };
    accepted();
    assert!(!ways.is_empty() && ways.len() <= 16);
    let written: Vec<String> = ways
        .iter()
        .map(|way| match way {
            Way::Direct => "DIRECT".to_owned(),
            Way::Proxy(proxy) => {
                assert!(Target::new(&proxy.host, proxy.port).is_ok(), "{proxy}");
                assert_eq!(Proxy::read(&proxy.to_string()).as_ref(), Ok(proxy));
                let kind = if proxy.tls { "HTTPS" } else { "PROXY" };
                format!("{kind} {}", proxy.to_string().split_once("//").unwrap().1)
            }
        })
        .collect();
    assert_eq!(pac_result(&written.join(";")), Ok(ways));
}

/// Keytabs: no key is printed, and the key chosen is one of those read.
pub fn keytab(data: &[u8]) {
    let Ok(keytab) = Keytab::read(data) else { return };
    accepted();
    for key in keytab.keys() {
        let chosen = keytab.key_of(&key.principal);
        assert!(chosen.is_err() || chosen.is_ok_and(|chosen| keytab.keys().contains(chosen)));
        let printed = format!("{key:?}");
        assert!(key.key.len() < 8 || !printed.contains(&format!("{:?}", key.key.as_slice()).replace(['[', ']'], "")));
    }
}

/// NTLM challenges: the answer is whole, bounded, and never older than version 2.
pub fn ntlm(data: &[u8]) {
    let credentials = credentials(false);
    let answer = NtlmAnswer { credentials: &credentials, workstation: "CONNECTOR", now: 1_700_000_000, random: [5; 8] };
    let Ok(message) = answer.to(data) else { return };
    accepted();
    assert!(message.starts_with(b"NTLMSSP\0\x03\0\0\0") && message.len() <= data.len() + 512);
    let field = |number: usize| {
        let at = 12 + 8 * number;
        let length = usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
        let place = u32::from_le_bytes(message[at + 4..at + 8].try_into().unwrap()) as usize;
        &message[place..place + length]
    };
    assert_eq!(field(0).len(), 24);
    assert!(field(1).len() >= 48 && field(1)[16..18] == [1, 1], "not version 2");
    assert!(ntlm_negotiate().len() == 32);
}
