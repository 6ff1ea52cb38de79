//! The 407 loop against proxies played here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use sluice_connector_webproxy::{
    Abilities, Action, Credentials, Failure, Handshake, Memory, Password, Proxy, Reply, ReplyReader, Scheme, Target,
};

const RANDOM: [u8; 16] = [7; 16];

fn proxy() -> Proxy {
    Proxy::read("http://proxy.corp.test:3128").unwrap()
}

fn credentials(basic_in_clear: bool) -> Option<Credentials> {
    let (domain, user) = Credentials::split_account("CORP\\svc");
    Some(Credentials { user, domain, password: Password::new("s3cret"), basic_in_clear })
}

fn handshake(credentials: Option<Credentials>, abilities: Abilities, memory: Memory) -> Handshake {
    Handshake::new(proxy(), Target::new("gw.acme.test", 443).unwrap(), credentials, abilities, memory)
}

fn reply(text: &str) -> Reply {
    let mut reader = ReplyReader::default();
    match reader.feed(text.replace('\n', "\r\n").as_bytes()).unwrap() {
        Some(reply) => reply,
        None => reader.end().unwrap(),
    }
}

fn challenge(fields: &[&str]) -> Reply {
    let fields: String = fields.iter().map(|field| format!("Proxy-Authenticate: {field}\n")).collect();
    reply(&format!("HTTP/1.1 407 Proxy Authentication Required\nContent-Length: 0\n{fields}\n"))
}

fn open() -> Reply {
    reply("HTTP/1.1 200 Connection established\n\n")
}

fn sent(action: &Action) -> (String, bool) {
    match action {
        Action::Send { head, reconnect } => (String::from_utf8(head.to_vec()).unwrap(), *reconnect),
        other => panic!("{other:?}"),
    }
}

#[test]
fn c3_a_proxy_without_login_is_asked_once() {
    let mut handshake = handshake(None, Abilities::default(), Memory::Nothing);
    let (head, reconnect) = sent(&handshake.start(RANDOM));
    assert!(head.starts_with("CONNECT gw.acme.test:443 HTTP/1.1\r\nHost: gw.acme.test:443\r\n"), "{head}");
    assert!(head.ends_with("\r\n\r\n") && !head.contains("Authorization") && !reconnect);
    assert_eq!(handshake.replied(&open(), RANDOM), Ok(Action::Open(None)));
    assert_eq!(handshake.memory(), Memory::Nothing);
}

#[test]
fn c3_basic_is_answered_over_tls_or_when_allowed_and_remembered() {
    for (url, allowed, answered) in
        [("http://p:1", false, false), ("http://p:1", true, true), ("https://p:1", false, true)]
    {
        let target = Target::new("h", 1).unwrap();
        let new = |memory| {
            let proxy = Proxy::read(url).unwrap();
            Handshake::new(proxy, target.clone(), credentials(allowed), Abilities::default(), memory)
        };
        let mut first = new(Memory::Nothing);
        first.start(RANDOM);
        let next = first.replied(&challenge(&["Basic realm=\"x\""]), RANDOM);
        let login = "Proxy-Authorization: Basic Q09SUFxzdmM6czNjcmV0\r\n";
        if !answered {
            let Err(Failure::NoCommonScheme { advice, .. }) = next else { panic!("{next:?}") };
            assert!(advice.contains("allow_basic_in_clear"), "{advice}");
            assert!(!sent(&new(Memory::Basic).start(RANDOM)).0.contains("Authorization"));
            continue;
        }
        let next = next.unwrap();
        assert!(sent(&next).0.contains(login));
        let (plain, printed) = ("67, 79, 82, 80", format!("{next:?}"));
        assert!(!printed.contains("Q09SUFxz") && !printed.contains(plain), "{printed}");
        assert_eq!(first.replied(&open(), RANDOM), Ok(Action::Open(Some(Scheme::Basic))));
        let mut second = new(first.memory());
        assert!(sent(&second.start(RANDOM)).0.contains(login), "the second time without being asked");
    }
}

#[test]
fn c3_the_strongest_scheme_offered_is_answered() {
    let all = [
        "Basic realm=\"x\"",
        "NTLM, Negotiate",
        "Digest realm=\"x\", nonce=\"a\", qop=\"auth\", algorithm=MD5",
        "Digest realm=\"x\", nonce=\"b\", qop=\"auth\", algorithm=SHA-256",
    ];
    let chosen = |abilities, offers: &[&str]| {
        let mut handshake = handshake(credentials(true), abilities, Memory::Nothing);
        handshake.start(RANDOM);
        handshake.replied(&challenge(offers), RANDOM).unwrap()
    };
    let both = Abilities { ntlm: true, kerberos: true };
    assert_eq!(chosen(both, &all), Action::Token { scheme: Scheme::Negotiate, challenge: None });
    let ntlm = Abilities { kerberos: false, ..both };
    assert_eq!(chosen(ntlm, &all), Action::Token { scheme: Scheme::Ntlm, challenge: None });
    let (digest, _) = sent(&chosen(Abilities::default(), &all));
    assert!(digest.contains("algorithm=SHA-256") && digest.contains("uri=\"gw.acme.test:443\""), "{digest}");
    assert!(sent(&chosen(Abilities::default(), &all[..1])).0.contains("Basic"));
}

#[test]
fn c3_ntlm_takes_three_messages_on_one_connection() {
    let abilities = Abilities { ntlm: true, kerberos: false };
    let mut shake = handshake(credentials(false), abilities, Memory::Nothing);
    shake.start(RANDOM);
    // Squid closes after the first refusal; a new connection carries all of NTLM.
    let closing = reply("HTTP/1.1 407 No\nConnection: close\nProxy-Authenticate: NTLM\n\n");
    assert_eq!(shake.replied(&closing, RANDOM), Ok(Action::Token { scheme: Scheme::Ntlm, challenge: None }));
    let (first, reconnect) = sent(&shake.token(Ok(b"one".to_vec())).unwrap());
    assert!(first.contains("Proxy-Authorization: NTLM b25l\r\n") && reconnect);
    let next = shake.replied(&challenge(&["NTLM dHdv"]), RANDOM);
    assert_eq!(next, Ok(Action::Token { scheme: Scheme::Ntlm, challenge: Some(b"two".to_vec()) }));
    let (third, reconnect) = sent(&shake.token(Ok(b"three".to_vec())).unwrap());
    assert!(third.contains("NTLM dGhyZWU=") && !reconnect);
    let refused = shake.replied(&challenge(&["NTLM"]), RANDOM).unwrap_err();
    assert!(matches!(&refused, Failure::WrongLogin { scheme: Scheme::Ntlm, account, .. } if account == "CORP\\svc"));
    assert!(!refused.to_string().contains("s3cret"), "{refused}");

    let mut cut = handshake(credentials(false), abilities, Memory::Nothing);
    cut.start(RANDOM);
    cut.replied(&challenge(&["NTLM"]), RANDOM).unwrap();
    cut.token(Ok(b"one".to_vec())).unwrap();
    let closing = reply("HTTP/1.1 407 No\nConnection: close\nProxy-Authenticate: NTLM dHdv\n\n");
    assert!(matches!(cut.replied(&closing, RANDOM), Err(Failure::ClosedMidway { .. })));
}

#[test]
fn c3_a_ticket_that_cannot_be_had_falls_back_and_a_wrong_password_does_not() {
    let both = Abilities { ntlm: true, kerberos: true };
    let offers = challenge(&["Negotiate", "NTLM", "Basic realm=\"x\""]);
    let mut shake = handshake(credentials(true), both, Memory::Nothing);
    shake.start(RANDOM);
    shake.replied(&offers, RANDOM).unwrap();
    let (bare, _) = sent(&shake.token(Err("no KDC answers".into())).unwrap());
    assert!(!bare.contains("Authorization"));
    assert_eq!(shake.replied(&offers, RANDOM), Ok(Action::Token { scheme: Scheme::Ntlm, challenge: None }));
    shake.token(Ok(b"one".to_vec())).unwrap();
    shake.replied(&challenge(&["NTLM dHdv"]), RANDOM).unwrap();
    shake.token(Ok(b"three".to_vec())).unwrap();
    assert!(matches!(shake.replied(&offers, RANDOM), Err(Failure::WrongLogin { scheme: Scheme::Ntlm, .. })));

    // With nothing to fall back to, what went wrong with the strongest is said.
    let only = Abilities { ntlm: false, kerberos: true };
    let mut shake = handshake(None, only, Memory::Nothing);
    shake.start(RANDOM);
    shake.replied(&offers, RANDOM).unwrap();
    shake.token(Err("no KDC answers".into())).unwrap();
    assert!(shake.replied(&offers, RANDOM).unwrap_err().to_string().contains("no KDC answers"));
    for (named, service) in [(None, "for HTTP/proxy.corp.test:"), (Some("HTTP/p.other.test"), "for HTTP/p.other.test:")]
    {
        let mut shake = handshake(None, only, Memory::Token(Scheme::Negotiate));
        if let Some(named) = named {
            shake = shake.with_service(named.to_owned());
        }
        assert!(matches!(shake.start(RANDOM), Action::Token { .. }));
        shake.token(Ok(b"ticket".to_vec())).unwrap();
        let refused = shake.replied(&offers, RANDOM).unwrap_err().to_string();
        assert!(refused.contains(service), "{refused}");
    }
}

#[test]
fn c3_a_ticket_refused_with_a_token_falls_back_too() {
    let both = Abilities { ntlm: true, kerberos: true };
    for closing in ["", "Connection: close\n"] {
        let mut shake = handshake(credentials(true), both, Memory::Nothing);
        shake.start(RANDOM);
        shake.replied(&challenge(&["Negotiate", "NTLM"]), RANDOM).unwrap();
        shake.token(Ok(b"ticket".to_vec())).unwrap();
        // A NegTokenResp that says "reject"; some list nothing else beside it.
        let with_token =
            format!("HTTP/1.1 407 No\nContent-Length: 0\n{closing}Proxy-Authenticate: Negotiate oQcwBaADCgEC\n\n");
        let (bare, reconnect) = sent(&shake.replied(&reply(&with_token), RANDOM).unwrap());
        assert!(!bare.contains("Authorization") && reconnect != closing.is_empty());
        let next = shake.replied(&challenge(&["Negotiate", "NTLM"]), RANDOM);
        assert_eq!(next, Ok(Action::Token { scheme: Scheme::Ntlm, challenge: None }));
    }
}

#[test]
fn c3_digest_goes_on_when_stale_and_remembers_the_next_nonce() {
    let field = |nonce: &str, more: &str| format!("Digest realm=\"x\", nonce=\"{nonce}\", qop=\"auth\"{more}");
    let mut shake = handshake(credentials(false), Abilities::default(), Memory::Nothing);
    shake.start(RANDOM);
    let (first, _) = sent(&shake.replied(&challenge(&[&field("a", "")]), RANDOM).unwrap());
    assert!(first.contains("nonce=\"a\"") && first.contains("nc=00000001"));
    let (again, _) = sent(&shake.replied(&challenge(&[&field("b", ", stale=true")]), RANDOM).unwrap());
    assert!(again.contains("nonce=\"b\""));
    let opened = reply("HTTP/1.1 200 OK\nProxy-Authentication-Info: nextnonce=\"c\", qop=auth\n\n");
    assert_eq!(shake.replied(&opened, RANDOM), Ok(Action::Open(Some(Scheme::Digest))));
    let mut later = handshake(credentials(false), Abilities::default(), shake.memory());
    let (at_once, _) = sent(&later.start(RANDOM));
    assert!(at_once.contains("nonce=\"c\"") && at_once.contains("nc=00000001"), "{at_once}");
    // A proxy that was restarted knows neither nonce nor count: that is not yet a wrong password.
    let (fresh, _) = sent(&later.replied(&challenge(&[&field("d", "")]), RANDOM).unwrap());
    assert!(fresh.contains("nonce=\"d\""));
    assert!(matches!(later.replied(&challenge(&[&field("e", "")]), RANDOM), Err(Failure::WrongLogin { .. })));
}

#[test]
fn c3_every_refusal_says_whose_it_is_and_what_to_do() {
    for (status, words) in [
        ("403 Forbidden", "forbids gw.acme.test:443 by policy"),
        ("502 Bad Gateway", "cannot reach gw.acme.test:443 itself"),
        ("503 Service Unavailable", "DNS and firewall"),
        ("504 Gateway Timeout", "cannot reach"),
        ("405 Method Not Allowed", "looks like a web server"),
        ("302 Found", "portal"),
        ("429 Slow Down", "refuses gw.acme.test:443 (429 Slow Down)"),
    ] {
        let mut shake = handshake(None, Abilities::default(), Memory::Nothing);
        shake.start(RANDOM);
        let failure = shake.replied(&reply(&format!("HTTP/1.1 {status}\n\n")), RANDOM).unwrap_err();
        assert!(failure.to_string().contains(words) && !failure.is_the_proxys(), "{failure}");
    }
    // Tinyproxy says 401 to a wrong password.
    let mut shake = handshake(credentials(true), Abilities::default(), Memory::Nothing);
    shake.start(RANDOM);
    shake.replied(&challenge(&["Basic realm=\"x\""]), RANDOM).unwrap();
    let failure = shake.replied(&reply("HTTP/1.1 401 Unauthorized\n\n"), RANDOM);
    assert!(matches!(failure, Err(Failure::WrongLogin { .. })), "{failure:?}");
    let mut shake = handshake(None, Abilities::default(), Memory::Nothing);
    shake.start(RANDOM);
    let failure = shake.replied(&challenge(&["Negotiate", "Bearer"]), RANDOM).unwrap_err();
    assert!(failure.to_string().contains("Negotiate, bearer"), "{failure}");
    let mut shake = handshake(None, Abilities::default(), Memory::Nothing);
    shake.start(RANDOM);
    assert!(matches!(shake.replied(&challenge(&["\"\""]), RANDOM), Err(Failure::BadChallenge { .. })));
}

#[test]
fn c3_a_proxy_that_asks_for_ever_is_given_up() {
    let stale = challenge(&["Digest realm=\"x\", nonce=\"n\", qop=\"auth\", stale=true"]);
    let mut shake = handshake(credentials(false), Abilities::default(), Memory::Nothing);
    shake.start(RANDOM);
    let mut rounds = 0;
    let failure = loop {
        rounds += 1;
        assert!(rounds < 100, "no end");
        if let Err(failure) = shake.replied(&stale, RANDOM) {
            break failure;
        }
    };
    assert!(matches!(failure, Failure::Endless { .. }), "{failure}");
    // Tokens without end, too.
    let mut shake = handshake(credentials(false), Abilities { ntlm: true, kerberos: false }, Memory::Nothing);
    shake.start(RANDOM);
    let more = challenge(&["NTLM dHdv"]);
    let mut next = shake.replied(&more, RANDOM);
    for _ in 0..100 {
        next = match next {
            Ok(Action::Token { .. }) => shake.token(Ok(b"t".to_vec())),
            Ok(Action::Send { .. }) => shake.replied(&more, RANDOM),
            _ => break,
        };
    }
    assert!(matches!(next, Err(Failure::Endless { .. })), "{next:?}");
}

#[test]
fn c3_a_kept_connection_that_closes_is_made_anew_once() {
    let mut shake = handshake(credentials(true), Abilities::default(), Memory::Nothing);
    shake.start(RANDOM);
    assert!(shake.closed(RANDOM).is_err(), "a new connection without an answer");
    let mut shake = handshake(credentials(true), Abilities::default(), Memory::Nothing);
    shake.start(RANDOM);
    shake.replied(&challenge(&["Basic realm=\"x\""]), RANDOM).unwrap();
    let (head, reconnect) = sent(&shake.closed(RANDOM).unwrap());
    assert!(reconnect && head.contains("Basic"));
    for _ in 0..100 {
        if shake.closed(RANDOM).is_err() {
            return;
        }
    }
    panic!("no end");
}
