//! Signing in once, and everything that must not be enough.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sluice_gateway_proxy::Limits;
use support::{
    LOGIN, MAIL, PATIENCE, Rig, TOOL, WIKI,
    browser::{Browser, hidden},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;

fn assertion_of(body: &str) -> String {
    let line = body.lines().find(|line| line.to_ascii_lowercase().starts_with("sluice-identity:"));
    line.unwrap().split_once(':').unwrap().1.trim().to_owned()
}

fn session_id(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn g2_one_login_opens_two_apps() {
    let rig = Rig::start().await;
    let mut bob = Browser::new(&rig);
    let form = bob.open(WIKI, "/page?a=b").await;
    assert!(form.body.contains("name=\"password\"") && form.body.contains("<strong>WIKI</strong>"), "{}", form.body);
    let wiki = bob.sign_in(&form, "bob", "bobs secret").await;
    assert_eq!(wiki.status, 200);
    assert!(wiki.body.starts_with("GET /page?a=b HTTP/1.1"), "{}", wiki.body);
    // No form in between: the login host knows the browser.
    let mail = bob.open(MAIL, "/inbox").await;
    assert!(mail.body.starts_with("GET /inbox HTTP/1.1"), "{}", mail.body);
    // The pages of both were made for the same person, by our own key.
    let wiki = session_id(&assertion_of(&wiki.body));
    let mail = session_id(&assertion_of(&mail.body));
    assert_eq!((&wiki["sub"], &wiki["aud"]), (&json!("bob"), &json!("wiki")));
    assert_eq!((&mail["sub"], &mail["aud"]), (&json!("bob"), &json!("mail")));
    let home = bob.get(LOGIN, "/").await;
    assert!(home.body.contains("https://wiki.acme.test/"), "{}", home.body);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_are_refused_alike_and_slowed() {
    let rig = Rig::start().await;
    let mut browser = Browser::new(&rig);
    let form = browser.open(WIKI, "/").await;
    let mut bodies = vec![];
    for login in ["bob", "nobody"] {
        let answer = browser.sign_in(&form, login, "guess").await;
        assert_eq!(answer.status, 401);
        bodies.push(answer.body.replace(login, "?").replace(&hidden(&answer.body, "form_token"), "?"));
    }
    assert_eq!(bodies[0], bodies[1], "nobody learns whether an account exists");
    let mut last = 0;
    for _ in 0..12 {
        last = browser.sign_in(&form, "bob", "guess").await.status;
    }
    assert_eq!(last, 429);
    assert_eq!(browser.sign_in(&form, "away", "x").await.status, 503);
    assert_eq!(browser.get(WIKI, "/").await.status, 303, "still nobody");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g7_a_user_without_the_group_is_refused_everywhere() {
    let rig = Rig::start().await;
    let mut eve = Browser::signed_in(&rig, WIKI, "eve").await;
    let answer = eve.open(WIKI, "/").await;
    assert_eq!(answer.status, 403);
    assert!(!answer.body.contains("HTTP/1.1"));
    assert!(!eve.get(LOGIN, "/").await.body.contains("https://wiki.acme.test/"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_cookie_is_nothing_on_another_host() {
    let rig = Rig::start().await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let stolen = bob.jar[&(WIKI.to_owned(), "__Host-sluice".to_owned())].clone();
    let mut thief = Browser::new(&rig);
    for host in [MAIL, LOGIN] {
        thief.jar.insert((host.to_owned(), "__Host-sluice".to_owned()), stolen.clone());
    }
    assert_eq!(thief.get(MAIL, "/").await.status, 303);
    assert!(thief.get(LOGIN, "/").await.body.contains("name=\"password\""));
    // One changed letter, and two cookies at once, are nothing either.
    let mut changed = stolen.clone().into_bytes();
    changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
    thief.jar.insert((WIKI.to_owned(), "__Host-sluice".to_owned()), String::from_utf8(changed).unwrap());
    assert_eq!(thief.get(WIKI, "/").await.status, 303);
    thief.jar.insert((WIKI.to_owned(), "__Host-sluice".to_owned()), format!("{stolen}; __Host-sluice={stolen}"));
    assert_eq!(thief.get(WIKI, "/").await.status, 303);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_code_is_good_once_for_one_browser_and_host() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let to_login = bob.get(MAIL, "/x").await;
    let (_, path) = to_login.one("location").strip_prefix("https://").unwrap().split_once('/').unwrap();
    let handed = bob.get(LOGIN, &format!("/{path}")).await;
    let code = handed.one("location").strip_prefix("https://mail.acme.test").unwrap().to_owned();
    assert!(code.starts_with("/.sluice/enter?code="));
    let mut thief = Browser::new(&rig);
    thief.get(MAIL, "/x").await;
    assert_eq!(thief.get(MAIL, &code).await.status, 400, "another browser");
    let nonce = bob.jar[&(MAIL.to_owned(), "__Host-sluice-nonce".to_owned())].clone();
    thief.jar.insert((WIKI.to_owned(), "__Host-sluice-nonce".to_owned()), nonce.clone());
    assert_eq!(thief.get(WIKI, &code).await.status, 400, "another host");
    assert_eq!(bob.get(MAIL, &code).await.one("location"), "https://mail.acme.test/x");
    thief.jar.insert((MAIL.to_owned(), "__Host-sluice-nonce".to_owned()), nonce);
    assert_eq!(thief.get(MAIL, &code).await.status, 400, "used");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_form_from_elsewhere_is_refused() {
    let rig = Rig::start().await;
    let mut mine = Browser::new(&rig);
    let page = mine.open(WIKI, "/").await;
    // Under `no-referrer` browsers would send `Origin: null` with this very form, and nobody could log in.
    assert_eq!(page.one("referrer-policy"), "same-origin");
    let body = format!("form_token={}&return=&login=bob&password=bobs+secret", hidden(&page.body, "form_token"));
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    let elsewhere = format!("{kind}Origin: https://evil.test\r\n");
    assert_eq!(mine.send("POST", LOGIN, "/login", &elsewhere, &body).await.status, 403);
    let mut other = Browser::new(&rig);
    other.open(WIKI, "/").await;
    assert_eq!(other.post_form("/login", &body).await.status, 400, "the token is another browser's");
    assert_eq!(mine.post_form("/login", "form_token=&login=bob&password=bobs+secret").await.status, 400);
    assert_eq!(mine.post_form("/login", &format!("{body}&login=eve")).await.status, 400, "said twice");
    assert_eq!(mine.post_form("/login", &"x".repeat(20_000)).await.status, 400);
    assert_eq!(mine.post_form("/login", &body).await.status, 303);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_gets_a_verifiable_assertion_and_no_spoof() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let spoof = "Sluice-Identity: forged\r\nsluice_identity: forged\r\nX-Remote-User: root\r\nx_remote_user: root\r\n\
                 X-Forwarded-For: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\nX-Real-IP: 10.9.9.9\r\nConnection: close, Sluice-Identity, X-Remote-User, Cookie\r\n";
    let seen = bob.send("GET", WIKI, "/", spoof, "").await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    for forged in ["forged", "root", "10.9.9.9", "__Host-sluice"] {
        assert!(!seen.body.contains(forged), "{forged} in {}", seen.body);
    }
    let lower = seen.body.to_ascii_lowercase();
    assert!(lower.contains("x-remote-user: bob\r\n") && lower.contains("x-forwarded-for: 127.0.0.1\r\n"), "{lower}");
    // An independent library believes it with the key from the login host, and nothing else.
    let keys = bob.get(LOGIN, "/.well-known/jwks.json").await;
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&keys.body).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(&keys.keys[0]).unwrap();
    let mut expect = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
    expect.set_audience(&["wiki"]);
    expect.set_issuer(&["https://login.acme.test"]);
    let token = assertion_of(&seen.body);
    let claims = jsonwebtoken::decode::<Value>(&token, &key, &expect).unwrap().claims;
    assert_eq!(
        (&claims["sub"], &claims["tenant"], &claims["groups"]),
        (&json!("bob"), &json!("acme"), &json!(["staff"]))
    );
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    expect.set_audience(&["mail"]);
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &expect).is_err());
    let again = session_id(&assertion_of(&bob.get(WIKI, "/").await.body));
    assert_ne!(again["jti"], claims["jti"]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_cannot_set_our_cookies_or_lead_around_us() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let mine = bob.jar.clone();
    let answer = bob.get(WIKI, "/cookies").await;
    assert_eq!(answer.all("set-cookie"), ["app=1; Path=/"]);
    assert!(answer.all("alt-svc").is_empty());
    assert_eq!(bob.jar.len(), mine.len() + 1);
    let seen = bob.get(WIKI, "/").await;
    assert!(seen.body.to_ascii_lowercase().contains("cookie: app=1\r\n"), "{}", seen.body);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_behind_tunnels_and_control_are_reached() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, TOOL, "bob").await;
    let tool = bob.open(TOOL, "/deep").await;
    assert!(tool.body.to_ascii_lowercase().contains("host: tool.internal:8080\r\n"), "{}", tool.body);
    for (app, status) in [("lost", 503), ("full", 503), ("slow", 504)] {
        let page = bob.open(&format!("{app}.acme.test"), "/").await;
        assert_eq!(page.status, status, "{app}");
        assert!(page.head.to_ascii_lowercase().contains("\r\nretry-after: "), "{app}: {}", page.head);
        assert!(!page.body.contains("secret") && !page.body.contains("connector"), "{app}: {}", page.body);
    }
    let feed = bob.open("feed.acme.test", "/").await;
    assert!(feed.body.to_ascii_lowercase().contains("host: pages.sluice.test\r\n"), "{}", feed.body);
    assert_eq!(session_id(&assertion_of(&feed.body))["aud"], json!("feed"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_and_own_addresses_are_not_dialled() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    for host in ["meta.acme.test", "self.acme.test"] {
        let answer = bob.open(host, "/").await;
        assert_eq!(answer.status, 502, "{host}");
        assert!(answer.body.contains("tell your administrator"));
        assert!(!answer.body.contains("169.254") && !answer.body.contains("127.0.0.1"));
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_session_on_every_host() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    assert_eq!(bob.open(MAIL, "/").await.status, 200);
    let home = bob.get(LOGIN, "/").await;
    let kept = bob.jar.clone();
    assert_eq!(bob.post_form("/logout", "form_token=forged").await.status, 400);
    assert_eq!(bob.get(WIKI, "/").await.status, 200);
    let token = hidden(&home.body, "form_token");
    assert_eq!(bob.post_form("/logout", &format!("form_token={token}")).await.status, 200);
    // Cookies copied before are worth nothing now.
    bob.jar = kept;
    for host in [WIKI, MAIL] {
        assert_eq!(bob.get(host, "/").await.status, 303, "{host}");
    }
    assert!(bob.get(LOGIN, "/").await.body.contains("name=\"password\""));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_signed_out_stays_so_when_the_gateway_is_killed() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let home = bob.get(LOGIN, "/").await;
    let out = bob.jar.clone();
    let token = hidden(&home.body, "form_token");
    assert_eq!(bob.post_form("/logout", &format!("form_token={token}")).await.status, 200);
    let in_again = Browser::signed_in(&rig, WIKI, "bob").await.jar;
    let rig = rig.restart().await;
    let mut browser = Browser::new(&rig);
    browser.jar = out;
    assert_eq!(browser.get(WIKI, "/").await.status, 303, "signed out");
    browser.jar = in_again;
    assert_eq!(browser.get(WIKI, "/").await.status, 200, "not signed out");
    rig.stop().await;
}

/// An open socket of `bob`'s that has answered.
async fn open_socket(bob: &Browser) -> TlsStream<TcpStream> {
    let mut socket = bob.connect(WIKI).await;
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {WIKI}\r\nCookie: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://{WIKI}\r\n\r\n",
        bob.cookies(WIKI)
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let some = timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap().unwrap();
    assert!(buffer[..some].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&buffer[..some]));
    socket.write_all(b"hello").await.unwrap();
    let some = timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..some], b"hello");
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_user_cuts_his_socket_also_while_the_gateway_stops() {
    let rig = Rig::with(Limits { drain: Duration::from_secs(300), ..Limits::default() }).await;
    let bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let (mut socket, mut buffer) = (open_socket(&bob).await, [0; 1024]);
    rig.begin_to_stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    socket.write_all(b"still").await.unwrap();
    let some = timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..some], b"still");
    rig.set_state("user/bob", json!({"sessions_end": u32::MAX}));
    let ended = timeout(PATIENCE, socket.read(&mut buffer)).await.expect("cut");
    assert!(matches!(ended, Ok(0) | Err(_)));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_user_cuts_an_open_socket_and_refuses_the_next_request() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let (mut socket, mut buffer) = (open_socket(&bob).await, [0; 1024]);
    let began = std::time::Instant::now();
    rig.set_state("user/bob", json!({"sessions_end": u32::MAX}));
    let ended = timeout(PATIENCE, socket.read(&mut buffer)).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert!(began.elapsed().as_secs() < 5, "promised within 1 s");
    assert_eq!(bob.get(WIKI, "/").await.status, 303);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_asked_for_by_another_site_is_refused() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Origin: https://mail.acme.test\r\n";
    assert_eq!(bob.send("GET", WIKI, "/socket", upgrade, "").await.status, 403);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_an_app_from_a_group_acts_at_once() {
    let rig = Rig::start().await;
    let mut bob = Browser::signed_in(&rig, WIKI, "bob").await;
    assert_eq!(bob.get(WIKI, "/").await.status, 200);
    let mut document = rig.document.clone();
    document["apps"][0]["groups"] = json!(["others"]);
    rig.plan.send(Some(std::sync::Arc::new(support::checked(&document)))).unwrap();
    assert_eq!(bob.get(WIKI, "/").await.status, 403);
    rig.stop().await;
}
