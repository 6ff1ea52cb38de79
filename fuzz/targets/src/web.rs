//! What browsers and EST clients send over HTTP.

use sluice_gateway_access::{
    Cookies, HeadError, HeadReader, LOGIN_COOKIE, MAX_HEADERS, NONCE_COOKIE, SESSION_COOKIE, SpentCodes,
    header_ambiguity, may_set_cookie, removed_from_request,
};
use sluice_node_identity::UnixTime;
use tokio::io::AsyncReadExt;

use crate::{
    codec::{accepted, cuts, run, text},
    est,
    fixtures::{APP_HOST, BROWSER, NOW, plan, random, user},
};

/// Longest body control takes from EST clients.
const EST_BODY: usize = 32 * 1024;

/// Heads of HTTP/1.1 requests: the same however the bytes come, and the common reader finds the same boundary, one
/// host, and one way to measure the body.
pub fn http_head(data: &[u8]) {
    let whole = head(&[data]);
    for cut in cuts(data) {
        let (front, back) = data.split_at(cut);
        assert_eq!(head(&[front, back]), whole, "cut at {cut}");
    }
    assert_eq!(head(&data.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    let Ok(Some(length)) = whole else { return };
    accepted();
    assert!(length <= data.len() && data[..length].ends_with(b"\r\n\r\n"));
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let theirs = request.parse(data).expect("a head we let pass is refused by another reader");
    assert_eq!(theirs, httparse::Status::Complete(length), "two readers, two boundaries");
    assert!(request.path.unwrap().starts_with('/'));
    let count = |name: &str| request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    let (hosts, lengths, codings) = (count("host"), count("content-length"), count("transfer-encoding"));
    assert!(hosts == 1 && lengths + codings <= 1, "{hosts} hosts, {lengths} lengths, {codings} codings");
    assert!(codings == 0 || request.version == Some(1), "a coding over HTTP/1.0");
    let fields = request.headers.iter().map(|field| (field.name, field.value.trim_ascii()));
    let over_http2 = header_ambiguity(fields);
    assert!(over_http2.is_none() || (codings > 0 && over_http2 == Some(HeadError::Length)), "{over_http2:?}");
}

fn head(pieces: &[&[u8]]) -> Result<Option<usize>, HeadError> {
    let mut reader = HeadReader::default();
    for (at, piece) in pieces.iter().enumerate() {
        if let Some(head) = reader.feed(piece)? {
            assert_eq!(reader.into_bytes(), pieces[..=at].concat(), "bytes were lost");
            return Ok(Some(head.length));
        }
    }
    Ok(None)
}

/// `Cookie` fields, one a line: nothing of ours reaches an app, however it splits them.
pub fn cookies(data: &[u8]) {
    let text = text(data);
    let fields: Vec<&str> = text.split('\n').collect();
    let cookies = Cookies::new(&fields);
    let left = cookies.for_app().unwrap_or_default();
    assert!(left.len() <= text.len() + 2 * text.matches(';').count() + 2 * fields.len());
    for pair in left.split([';', ',']).take_while(|_| !left.contains(',')) {
        assert!(!is_ours(pair), "{pair:?} reaches the app");
    }
    for name in [SESSION_COOKIE, NONCE_COOKIE, LOGIN_COOKIE] {
        if let Some(value) = cookies.value(name) {
            accepted();
            assert!(!value.contains(';') && fields.iter().any(|field| field.contains(name)));
            let again = format!("{name}={value}");
            let twice = [fields.clone(), vec![&again]].concat();
            assert_eq!(Cookies::new(&twice).value(name), None, "one of two cookies was chosen");
        }
    }
}

/// What an app's cookie parser may take for one of ours.
fn is_ours(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default().trim();
    name.to_ascii_lowercase().starts_with("__host-sluice")
}

/// `Set-Cookie` of an app, then a header name: a browser (RFC 6265bis §5.6) that keeps the cookie never sends it back
/// as one of ours, and a spelling of our headers never reaches an app.
pub fn set_cookie(data: &[u8]) {
    let text = text(data);
    let (field, name) = text.split_once('\n').unwrap_or((&text, ""));
    if may_set_cookie(field) {
        accepted();
        let pair = field.split(';').next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        let (name, value) = (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t']));
        let sent = if name.is_empty() { value.to_owned() } else { format!("{name}={value}") };
        let dropped = pair.chars().any(|c| c.is_ascii_control() && c != '\t');
        assert!(dropped || !is_ours(&sent), "{field:?} comes back as {sent:?}");
    }
    // As CGI programs name headers: everything but letters and digits is one sign.
    let cgi: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if cgi.starts_with("SLUICE_") || cgi.starts_with("X_FORWARDED_") || cgi == "X_REMOTE_USER" {
        assert!(removed_from_request(name, Some("X-Remote-User")), "{name:?} reaches the app");
    }
}

/// Sealed texts: what opens was sealed for exactly this purpose, host and browser; nothing else is said in them than
/// what the seeds say, because nobody else has the key.
pub fn sealed(data: &[u8]) {
    let text = text(data);
    let text = text.trim();
    let mut opened = 0;
    for host in ["login.acme.test", APP_HOST, "roundup.acme.test"] {
        let field = format!("{SESSION_COOKIE}={text}");
        if let Some(session) = plan().session(host, &Cookies::new(&[&field]), NOW) {
            assert_eq!(session.user, user().user);
            assert!(session.is_running(NOW));
            assert!(plan().session(host, &Cookies::new(&[&field]), session.expires).is_none(), "it never ends");
            opened += 1;
        }
    }
    if let Ok(to) = plan().return_to(text, NOW) {
        assert_eq!(to.host(), APP_HOST);
        assert!(plan().return_to(text, NOW.plus(600)).is_err(), "it never ends");
        opened += 1;
    }
    for browser in [BROWSER, "CAgICAgICAgICAgICAgICA"] {
        let form = format!("{LOGIN_COOKIE}={browser}");
        opened += usize::from(plan().check_form(text, &Cookies::new(&[&form]), NOW).is_ok());
        opened += usize::from(enters(text, &format!("{NONCE_COOKIE}={browser}")));
    }
    if opened > 0 {
        accepted();
    }
    assert!(opened <= 1, "one sealed text opens for {opened} purposes, hosts or browsers");
}

/// Whether a hand-over code opens the app; if so, once, and without leading elsewhere.
fn enters(code: &str, nonce: &str) -> bool {
    let mut spent = SpentCodes::new(UnixTime(NOW.0 - 60));
    let fields = [nonce];
    let enter = |spent: &mut SpentCodes, host: &str, at| {
        plan().enter(host, code, &Cookies::new(&fields), spent, at, &mut random)
    };
    assert!(enter(&mut spent, "roundup.acme.test", NOW).is_err(), "a code opens another host");
    assert!(enter(&mut spent, APP_HOST, NOW.plus(30)).is_err(), "a code outlives its time");
    let Ok(entered) = enter(&mut spent, APP_HOST, NOW) else { return false };
    assert!(entered.location.starts_with("https://wiki.acme.test/"), "{}", entered.location);
    assert!(!entered.location.bytes().any(|b| b.is_ascii_control()));
    assert!(enter(&mut spent, APP_HOST, NOW).is_err(), "a code opens twice");
    true
}

/// Requests of EST clients: the same however the bytes come, bounded, and one body each.
pub fn est_request(data: &[u8]) {
    let whole = request(data, data.len());
    for cut in cuts(data) {
        let cut_up = request(data, cut);
        // Bytes behind the body are only seen when they have come.
        let late = whole == Err(est::Unread::Malformed) && cut_up.is_ok();
        assert!(late || cut_up == whole, "cut at {cut}: {cut_up:?} instead of {whole:?}");
    }
    let Ok(read) = whole else { return };
    accepted();
    assert!(read.body.len() <= EST_BODY && data.ends_with(&read.body));
    assert!(read.host.as_deref().is_none_or(|host| !host.contains(['\r', '\n'])));
    assert!(!read.method.is_empty() && !read.path.contains(' '));
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut other = httparse::Request::new(&mut fields);
    let theirs = other.parse(data).unwrap().unwrap();
    assert_eq!(theirs + read.body.len(), data.len(), "bytes that are neither head nor body");
    // The gateway's reader is stricter; where it lets a head pass, both see the same one.
    if let Ok(Some(length)) = head(&[data]) {
        assert_eq!(length, theirs);
    }
}

fn request(data: &[u8], cut: usize) -> Result<est::Request, est::Unread> {
    let (front, back) = data.split_at(cut);
    run(est::read(&mut front.chain(back)))
}
