//! Readers of what comes from outside: examples, models, and any bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::time::Duration;

use proptest::prelude::*;
use sluice_connector_webproxy::{
    Challenge, ChallengeError, Choice, Dead, Environment, HostRules, Keytab, MAX_HEAD, MAX_SKIPPED, Proxy, Reply,
    ReplyError, ReplyReader, Settings, Source, Target, Way, Why, challenges, pac_result,
};

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn read(bytes: &[u8]) -> Result<Option<Reply>, ReplyError> {
    ReplyReader::default().feed(bytes)
}

/// Feeds pieces until there is a reply; what was left unread of the last piece must be nothing.
fn read_pieces(pieces: &[&[u8]]) -> Result<Option<Reply>, ReplyError> {
    let mut reader = ReplyReader::default();
    for piece in pieces {
        if let Some(reply) = reader.feed(piece)? {
            return Ok(Some(reply));
        }
    }
    Ok(None)
}

#[test]
fn c3_proxies_are_read_and_shown_without_credentials() {
    for (text, shown) in [
        ("http://Proxy.Corp.test:3128", "http://proxy.corp.test:3128"),
        ("https://p/", "https://p:443"),
        ("p:8080", "http://p:8080"),
        ("[::1]:3128", "http://[::1]:3128"),
        ("http://10.0.0.1", "http://10.0.0.1:80"),
    ] {
        assert_eq!(Proxy::read(text).unwrap().to_string(), shown);
    }
    for bad in ["", "socks5://p:1", "http://u:secret@p:1", "http://p:1/x", "http://p:0", "http://p:99999", "http://a b"]
    {
        let error = Proxy::read(bad).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
    for bad in ["h\r\nX: y", "h h", "", "h/../", "a@b", "*"] {
        assert!(Target::new(bad, 443).is_err(), "{bad:?} fits into a request line");
    }
    assert_eq!(Target::new("::1", 443).unwrap().to_string(), "[::1]:443");
}

#[test]
fn c3_no_proxy_names_hosts_suffixes_networks_and_ports() {
    let rules = "localhost,.corp.test, *.cloud.test 10.0.0.0/8,192.0.2.7,[2001:db8::1]:8443,fd00::/8,gw.test:8443";
    let rules = HostRules::read(rules).unwrap();
    for (host, rule) in [
        ("localhost:1", Some("localhost")),
        ("corp.test:443", Some(".corp.test")),
        ("a.b.Corp.test:443", Some(".corp.test")),
        ("notcorp.test:443", None),
        ("cloud.test:443", None),
        ("x.cloud.test:443", Some("*.cloud.test")),
        ("10.9.8.7:443", Some("10.0.0.0/8")),
        ("11.0.0.1:443", None),
        ("192.0.2.7:1", Some("192.0.2.7")),
        ("[2001:db8::1]:8443", Some("[2001:db8::1]:8443")),
        ("[2001:db8::1]:443", None),
        ("[fd12::1]:443", Some("fd00::/8")),
        ("gw.test:8443", Some("gw.test:8443")),
        ("gw.test:443", None),
        ("sub.gw.test:8443", Some("gw.test:8443")),
    ] {
        assert_eq!(rules.naming(&target(host)), rule, "{host}");
    }
    assert_eq!(HostRules::read("*").unwrap().naming(&target("any:1")), Some("*"));
    for bad in ["a/b", "10.0.0.0/40", "x:y", "*.10.0.0.1", "a b:c"] {
        assert!(HostRules::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn c3_the_environment_is_read_in_both_cases_and_keeps_its_password_to_itself() {
    let environment = |pairs: &'static [(&str, &str)]| {
        Environment::read(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    };
    let both = environment(&[("HTTPS_PROXY", "http://upper:1"), ("https_proxy", "lower:2"), ("NO_PROXY", "a,b")]);
    let both = both.unwrap();
    assert_eq!(both.proxy.unwrap(), (Proxy::read("lower:2").unwrap(), "https_proxy"));
    assert_eq!(both.no_proxy.naming(&target("a:1")), Some("a"));
    // What curl passes over stops nobody.
    let loose = environment(&[("no_proxy", "192.168.*,<local>, .corp.test,a/b"), ("https_proxy", "p:1")]).unwrap();
    let others = ["192.168.*", "<local>", "a/b"].map(str::to_owned).to_vec();
    assert_eq!(loose.ignored, Some(("no_proxy", others)));
    assert!(loose.no_proxy.naming(&target("x.corp.test:1")).is_some());
    assert!(loose.no_proxy.naming(&target("192.168.1.1:1")).is_none());
    let many = "a,".repeat(1000);
    assert_eq!(HostRules::read_some(&many).1.len(), 16);
    let all = environment(&[("ALL_PROXY", "https://u%40d:p%3A%2f@p:8443"), ("HTTPS_PROXY", "  ")]).unwrap();
    let credentials = all.credentials.unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.expose()), ("u@d", "p:/"));
    assert!(!format!("{credentials:?}").contains("p:/") && credentials.basic_in_clear);
    assert_eq!(environment(&[("HTTP_PROXY", "http://p:1")]).unwrap(), Environment::default(), "not for our traffic");
    for value in ["http://u:hunter2@p:1/x", "ftp://u:hunter2@p", "http://u:%zz@p:1", "http://u:hunter2@"] {
        let error = Environment::read(|name| (name == "https_proxy").then(|| value.to_owned())).unwrap_err();
        assert!(error.to_string().contains("https_proxy") && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn c3_the_way_is_chosen_with_a_reason() {
    let target = target("gw.acme.test:443");
    let proxy = Proxy::read("http://p:1").unwrap();
    let mut settings = Settings { source: Source::Fixed(proxy.clone()), ..Settings::default() };
    assert_eq!(settings.choose(&target), Choice::Ways(vec![Way::Proxy(proxy)], Why::Configured));
    settings.no_proxy = HostRules::read(".acme.test").unwrap();
    assert_eq!(settings.choose(&target), Choice::Ways(vec![Way::Direct], Why::Exempt(".acme.test".into())));
    settings = Settings { source: Source::Pac, ..Settings::default() };
    assert_eq!(settings.choose(&target), Choice::AskScript);
    assert_eq!(Settings::default().choose(&target), Choice::Ways(vec![Way::Direct], Why::NoProxyNamed));
    settings.login_at = HostRules::read(".corp.test").unwrap();
    assert!(settings.may_log_in_at(&Proxy::read("p.corp.test:1").unwrap()));
    assert!(!settings.may_log_in_at(&Proxy::read("evil.test:1").unwrap()));
}

#[test]
fn c3_a_scripts_result_is_read_strictly() {
    let ways = pac_result("PROXY p:8080; HTTPS s:443;SOCKS5 x:1; DIRECT;").unwrap();
    let shown: Vec<String> = ways.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["through the web proxy http://p:8080", "through the web proxy https://s:443", "directly"]);
    assert_eq!(pac_result(" ").unwrap(), [Way::Direct]);
    for bad in ["PROXY", "PROXY a b", "p:1", "DIRECT x", "PROXY p:0", "SOCKS p:1", "null", "PROXY u@p:1; DIRECT"] {
        assert!(pac_result(bad).is_err(), "{bad}");
    }
    assert!(pac_result(&"DIRECT;".repeat(17)).is_err());
}

#[test]
fn c3_dead_proxies_are_tried_last_for_a_while() {
    let (a, b) = (Proxy::read("a:1").unwrap(), Proxy::read("b:1").unwrap());
    let ways = [Way::Proxy(a.clone()), Way::Proxy(b.clone())];
    let mut dead = Dead::default();
    dead.bury(&a, Duration::from_secs(100));
    assert_eq!(dead.order(&ways, Duration::from_secs(101)), [ways[1].clone(), ways[0].clone()]);
    assert_eq!(dead.order(&ways, Duration::from_secs(161)), ways);
    dead.bury(&b, Duration::from_secs(101));
    assert_eq!(dead.order(&ways, Duration::from_secs(102)), ways, "all dead: all tried");
    dead.revive(&a);
    assert_eq!(dead.order(&ways, Duration::from_secs(102)), ways);
}

#[test]
fn c3_several_challenges_in_one_field_are_told_apart() {
    let found =
        challenges(b"Basic realm=\"a, b=\\\"c\\\"\", NTLM, Negotiate YII=, Digest realm=x , nonce = \"n\"").unwrap();
    let names: Vec<&str> = found.iter().map(|challenge| challenge.scheme.as_str()).collect();
    assert_eq!(names, ["basic", "ntlm", "negotiate", "digest"]);
    assert_eq!(found[0].param("realm"), Some("a, b=\"c\""));
    assert_eq!(found[2].token68.as_deref(), Some("YII="));
    assert_eq!((found[3].param("realm"), found[3].param("nonce")), (Some("x"), Some("n")));
    for (bad, error) in [
        ("realm=x", ChallengeError::Malformed),
        ("Basic realm=\"open", ChallengeError::Malformed),
        ("Digest nonce=a, nonce=b", ChallengeError::Twice),
        ("Negotiate a b", ChallengeError::Malformed),
        ("NTLM dHdv, realm=x", ChallengeError::Malformed),
        (&"NTLM,".repeat(17), ChallengeError::TooMany),
    ] {
        assert_eq!(challenges(bad.as_bytes()), Err(error), "{bad}");
    }
}

#[test]
fn c3_replies_are_bounded_and_their_bodies_skipped() {
    let page = "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n";
    let kept = read(format!("{page}Content-Length: 5\r\n\r\n<a/> ").as_bytes()).unwrap().unwrap();
    assert!(kept.keep && kept.status == 407 && kept.challenges.len() == 1);
    let chunked = format!("{page}Transfer-Encoding: chunked\r\n\r\n5;x=y\r\n<a/> \r\n0\r\nT: u\r\n\r\n");
    assert!(read(chunked.as_bytes()).unwrap().unwrap().keep);
    assert!(!read(format!("{page}\r\nuntil the end").as_bytes()).unwrap().unwrap().keep);
    assert!(!read(format!("{page}Connection: close\r\nContent-Length: 9\r\n\r\n").as_bytes()).unwrap().unwrap().keep);
    assert!(!read(b"HTTP/1.0 407 No\r\nContent-Length: 0\r\n\r\n").unwrap().unwrap().keep);
    let old = b"HTTP/1.0 407 No\r\nContent-Length: 0\r\nProxy-Connection: Keep-Alive\r\n\r\n";
    assert!(read(old).unwrap().unwrap().keep);
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(read(interim).unwrap().unwrap().status, 200);

    // RFC 9110 §9.3.6: what a 2xx to CONNECT says of lengths is to be ignored.
    for ignored in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Length: 9\r\nContent-Length: 10",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "content-length: none",
    ] {
        let opened = read(format!("HTTP/1.1 200 OK\r\n{ignored}\r\n\r\n").as_bytes()).unwrap().unwrap();
        assert!(opened.is_open(), "{ignored}");
    }

    assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n<html>"), Err(ReplyError::Early));
    assert_eq!(read(b"SSH-2.0-OpenSSH\r\n\r\n"), Err(ReplyError::NotHttp));
    assert_eq!(read(b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), Err(ReplyError::Malformed));
    let both = format!("{page}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(read(both.as_bytes()), Err(ReplyError::Malformed));
    let two = format!("{page}Content-Length: 5\r\nContent-Length: 6\r\n\r\n");
    assert_eq!(read(two.as_bytes()), Err(ReplyError::Malformed));
    assert_eq!(read(format!("{page}Content-Length: 1\r\n\r\nab").as_bytes()), Err(ReplyError::Malformed));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
    assert_eq!(read(many.as_bytes()), Err(ReplyError::TooManyFields));
    let chunk = format!("{page}Transfer-Encoding: chunked\r\n\r\n2\r\nabXY0\r\n\r\n");
    assert_eq!(read(chunk.as_bytes()), Err(ReplyError::Chunk), "a chunk longer than its size");
    assert_eq!(ReplyReader::default().end(), Err(ReplyError::Cut));
}

#[test]
fn c3_a_header_of_ten_megabytes_and_a_body_without_end_are_given_up() {
    let piece = vec![b'a'; 64 * 1024];
    let mut reader = ReplyReader::default();
    reader.feed(b"HTTP/1.1 407 No\r\nX: ").unwrap();
    assert_eq!(reader.feed(&piece), Err(ReplyError::TooLong));
    let interim: Vec<u8> = b"HTTP/1.1 100 Go on\r\n\r\n".repeat(MAX_HEAD);
    assert_eq!(read(&interim), Err(ReplyError::TooLong));
    let mut reader = ReplyReader::default();
    reader.feed(b"HTTP/1.1 407 No\r\nContent-Length: 10485760\r\n\r\n").unwrap();
    let mut skipped = 0;
    let reply = loop {
        skipped += piece.len();
        assert!(skipped <= MAX_SKIPPED + piece.len());
        if let Some(reply) = reader.feed(&piece).unwrap() {
            break reply;
        }
    };
    assert!(!reply.keep, "its connection is not used again");
}

fn keytab(entries: &[(&str, &str, u8, u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![5, 2];
    for (name, realm, version, kind, key) in entries {
        let text = |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        let names: Vec<u8> = name.split('/').flat_map(text).collect();
        let count = u16::try_from(name.split('/').count()).unwrap();
        let key = [&u16::try_from(key.len()).unwrap().to_be_bytes()[..], key].concat();
        let entry =
            [&count.to_be_bytes()[..], &text(realm), &names, &[0; 8], &[*version], &kind.to_be_bytes(), &key].concat();
        bytes.extend(i32::try_from(entry.len()).unwrap().to_be_bytes());
        bytes.extend(entry);
    }
    bytes
}

#[test]
fn c3_the_newest_aes_key_of_a_keytab_is_taken() {
    let mut bytes = keytab(&[
        ("svc", "CORP.TEST", 2, 18, &[1; 32]),
        ("svc", "CORP.TEST", 3, 17, &[2; 16]),
        ("svc", "CORP.TEST", 3, 18, &[3; 32]),
        ("svc", "CORP.TEST", 4, 23, &[4; 16]),
        ("old", "CORP.TEST", 1, 18, &[6; 32]),
        ("old", "CORP.TEST", 2, 17, &[7; 16]),
        ("HTTP/p", "CORP.TEST", 9, 18, &[5; 32]),
    ]);
    let keys = Keytab::read(&bytes).unwrap();
    assert_eq!(keys.key_of("svc@CORP.TEST").unwrap().key.as_slice(), [3; 32]);
    assert_eq!(keys.key_of("old@CORP.TEST").unwrap().key.as_slice(), [7; 16], "the newest before the strongest");
    let missing = keys.key_of("other@CORP.TEST").unwrap_err().to_string();
    assert!(missing.contains("svc@CORP.TEST") && missing.contains("HTTP/p@CORP.TEST"), "{missing}");
    assert!(!format!("{keys:?}").contains("3, 3, 3"));
    bytes.extend((-3_i32).to_be_bytes());
    bytes.extend([0, 0, 0]);
    assert_eq!(Keytab::read(&bytes).unwrap().keys().len(), 7, "a hole");
    bytes.extend([0, 0, 0, 9, 1]);
    assert!(Keytab::read(&bytes).is_err());
}

prop_compose! {
    fn a_challenge()(
        scheme in "[a-z][a-z0-9-]{0,8}",
        token in proptest::option::of("[A-Za-z0-9+/._~-]{1,20}={0,2}"),
        params in proptest::collection::btree_map("[a-z]{1,8}", proptest::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff], 0..12), 0..4),
    ) -> Challenge {
        let params = if token.is_some() { Vec::new() } else { params.into_iter().collect() };
        Challenge { scheme, token68: token, params }
    }
}

/// Writes challenges as RFC 9110 §11.6.1 has them.
fn written(all: &[Challenge]) -> Vec<u8> {
    let one = |challenge: &Challenge| {
        let quoted = |text: &[u8]| -> Vec<u8> {
            let escaped = text.iter().flat_map(|b| if matches!(b, b'"' | b'\\') { vec![b'\\', *b] } else { vec![*b] });
            std::iter::once(b'"').chain(escaped).chain([b'"']).collect()
        };
        let params: Vec<Vec<u8>> =
            challenge.params.iter().map(|(name, value)| [name.as_bytes(), b"=", &quoted(value)].concat()).collect();
        let rest = challenge.token68.clone().map_or_else(|| params.join(&b", "[..]), String::into_bytes);
        let space: &[u8] = if rest.is_empty() { b"" } else { b" " };
        [challenge.scheme.as_bytes(), space, &rest].concat()
    };
    all.iter().map(one).collect::<Vec<_>>().join(&b", "[..])
}

proptest! {
    #[test]
    fn c3_challenges_survive_being_written(all in proptest::collection::vec(a_challenge(), 1..5)) {
        prop_assert_eq!(challenges(&written(&all)), Ok(all));
    }

    #[test]
    fn c3_any_text_is_no_panic(text in "\\PC*", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(challenges(text.as_bytes()));
        drop(challenges(&bytes));
        drop(HostRules::read(&text));
        drop(pac_result(&text));
        drop(Proxy::read(&text));
        drop(Keytab::read(&bytes));
        drop(Keytab::read(&[&[5, 2], bytes.as_slice()].concat()));
        drop(read(&bytes));
        drop(Environment::read(|_| Some(text.clone())));
    }

    #[test]
    fn c3_a_reply_is_the_same_however_it_is_cut(
        status in 200_u16..600,
        extra in "[ -~]{0,40}",
        chunked in any::<bool>(),
        body in proptest::collection::vec(any::<u8>(), 0..100),
        cuts in proptest::collection::vec(0_usize..300, 0..6),
    ) {
        let measured = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {}", body.len()) };
        let head = format!("HTTP/1.1 {status} R\r\nProxy-Authenticate: {extra}\r\n{measured}\r\n\r\n");
        let chunks = |body: &[u8]| match body {
            [] => b"0\r\n\r\n".to_vec(),
            body => [format!("{:X}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat(),
        };
        let body = if chunked { chunks(&body) } else { body };
        let body = if status < 300 { Vec::new() } else { body };
        let bytes = [head.as_bytes(), &body].concat();
        let whole = read(&bytes);
        prop_assert!(matches!(whole, Ok(Some(_))), "{whole:?}");
        let mut places: Vec<usize> = cuts.into_iter().filter(|at| *at < bytes.len()).collect();
        places.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for at in places {
            pieces.push(&bytes[from..at]);
            from = at;
        }
        pieces.push(&bytes[from..]);
        prop_assert_eq!(read_pieces(&pieces), whole);
    }

    /// The model: the rule's text compared label by label.
    #[test]
    fn c3_a_suffix_names_whole_labels_only(rule in "[a-c]{1,2}(\\.[a-c]{1,2}){0,2}", host in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}") {
        let labels = |text: &str| text.split('.').rev().map(str::to_owned).collect::<Vec<_>>();
        let expected = labels(&host).starts_with(&labels(&rule));
        let rules = HostRules::read(&rule).unwrap();
        prop_assert_eq!(rules.naming(&Target::new(&host, 443).unwrap()).is_some(), expected);
    }
}
