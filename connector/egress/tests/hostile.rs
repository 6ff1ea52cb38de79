//! Proxies that do not behave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use sluice_connector_egress::{Egress, Guard, Kerberos, KerberosSecret};
use sluice_connector_webproxy::{Password, Proxy, Way};
use world::{Echo, credentials, egress, free_port, passes, played, refused, request, say, setup};

async fn refusal(proxy: &Proxy) -> String {
    let mut credentials = credentials("s3cret");
    credentials.basic_in_clear = true;
    let target = Echo::start();
    refused(&egress(setup(proxy, Some(credentials))), &target).await
}

#[tokio::test]
async fn c3_a_proxy_that_answers_407_for_ever_is_left() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let proxy = played(move |stream| {
        while !request(stream).is_empty() {
            count.fetch_add(1, Ordering::SeqCst);
            let challenge = "Digest realm=\"x\", nonce=\"n\", qop=\"auth\", stale=true";
            say(stream, &format!("HTTP/1.1 407 No\r\nProxy-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let why = refusal(&proxy).await;
    assert!(why.contains("times in a row"), "{why}");
    assert!(asked.load(Ordering::SeqCst) <= 10);
}

#[tokio::test]
async fn c3_a_proxy_that_hangs_is_given_up_in_time() {
    let proxy = played(|stream| {
        request(stream);
        thread::sleep(Duration::from_secs(60));
    });
    let egress = egress(setup(&proxy, None));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let why = egress.connect("gw.test", 443, Guard::Gateways, deadline).await.unwrap_err().to_string();
    assert!(why.contains("did not answer within 1 s"), "{why}");
}

#[tokio::test]
async fn c3_endless_headers_half_replies_and_garbage_are_named() {
    let endless = played(|stream| {
        request(stream);
        say(stream, "HTTP/1.1 200 OK\r\nX: ");
        let piece = vec![b'a'; 1024 * 1024];
        for _ in 0..10 {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    });
    assert!(refusal(&endless).await.contains("header is longer than"));
    let half = played(|stream| {
        request(stream);
        say(stream, "HTTP/1.1 200 Connec");
    });
    assert!(refusal(&half).await.contains("hung up before its answer was complete"));
    let garbage = played(|stream| {
        request(stream);
        say(stream, "SSH-2.0-OpenSSH_9.2\r\n\r\n");
    });
    assert!(refusal(&garbage).await.contains("does not speak HTTP"));
    let page = played(|stream| {
        request(stream);
        say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>");
    });
    assert!(refusal(&page).await.contains("a page of its own"));
    let mute = played(|stream| drop(request(stream)));
    assert!(refusal(&mute).await.contains("hung up"));
    let missing = Proxy::read(&format!("http://127.0.0.1:{}", free_port())).unwrap();
    assert!(refusal(&missing).await.contains("connection refused"));
    let unknown = Proxy::read("http://no-such-proxy.invalid:3128").unwrap();
    assert!(refusal(&unknown).await.contains("no-such-proxy.invalid cannot be resolved"));
}

#[tokio::test]
async fn c3_a_password_refused_is_not_tried_in_a_weaker_form() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = seen.clone();
    let proxy = played(move |stream| {
        loop {
            let head = request(stream);
            if head.is_empty() {
                return;
            }
            heard.lock().unwrap().push(head);
            say(
                stream,
                "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"x\", nonce=\"n\", qop=\"auth\"\r\n\
                 Proxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let why = refusal(&proxy).await;
    assert!(why.contains("Digest login of svc"), "{why}");
    assert!(seen.lock().unwrap().iter().all(|head| !head.contains("Basic")), "{seen:?}");
}

#[tokio::test]
async fn c3_kdcs_that_are_silent_are_named_and_not_the_proxy() {
    let kdc = played(|_| thread::sleep(Duration::from_secs(60)));
    let proxy = played(|stream| {
        while !request(stream).is_empty() {
            say(stream, "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut setup = setup(&proxy, None);
    setup.kerberos = Some(Kerberos {
        name: "svc".into(),
        realm: "CORP.TEST".into(),
        kdcs: vec![(kdc.host, kdc.port)],
        secret: KerberosSecret::Password(Password::new("s3cret")),
        service: None,
    });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let why = egress(setup).connect("gw.test", 443, Guard::Gateways, deadline).await.unwrap_err().to_string();
    assert!(why.contains("no Negotiate login") && why.contains("web_proxy.kerberos.kdc"), "{why}");
}

#[tokio::test]
async fn c3_a_password_refused_is_not_shown_again_and_again() {
    let shown = Arc::new(AtomicUsize::new(0));
    let count = shown.clone();
    let proxy = played(move |stream| {
        loop {
            let head = request(stream);
            if head.is_empty() {
                return;
            }
            count.fetch_add(usize::from(head.contains("Proxy-Authorization")), Ordering::SeqCst);
            say(
                stream,
                "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=\"x\", nonce=\"n\", qop=\"auth\"\r\n\
                 Content-Length: 0\r\n\r\n",
            );
        }
    });
    let (egress, target) = (egress(setup(&proxy, Some(credentials("wr0ng")))), Echo::start());
    // As the lanes to all gateways and the line to control do.
    let (one, two, three) =
        tokio::join!(refused(&egress, &target), refused(&egress, &target), refused(&egress, &target));
    for why in [one, two, three, refused(&egress, &target).await] {
        assert!(why.contains("Digest login of svc"), "{why}");
    }
    assert!(refused(&egress, &target).await.contains("not tried again for 15 min"));
    assert_eq!(shown.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn c3_a_certificate_of_the_proxys_own_is_called_interception() {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["gw.test".into()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let server = Arc::new(server);
    let proxy = played(move |stream| {
        request(stream);
        say(stream, "HTTP/1.1 200 OK\r\n\r\n");
        let mut tls = rustls::ServerConnection::new(server.clone()).unwrap();
        drop(tls.complete_io(stream));
        drop(tls.complete_io(stream));
    });
    let connected = egress(setup(&proxy, None)).connect("gw.test", 443, Guard::Gateways, world::soon()).await.unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let error = connector.connect("gw.test".try_into().unwrap(), connected.io).await.unwrap_err();
    let named = Egress::interception(&connected.via, "gw.test", 443, &error).expect("interception");
    assert!(named.to_string().contains("breaks TLS open") && named.to_string().contains("have gw.test exempted"));
    assert!(Egress::interception(&Way::Direct, "gw.test", 443, &error).is_none());
}

#[tokio::test]
async fn c3_addresses_are_guarded_directly_and_through_a_proxy() {
    let echo = Echo::start();
    let direct = Egress::new(sluice_connector_egress::Setup::default(), None).unwrap();
    passes(&direct, &echo).await;
    let proxy = played(|stream| {
        request(stream);
        say(stream, "HTTP/1.1 200 OK\r\n\r\n");
    });
    for egress in [direct, egress(setup(&proxy, None))] {
        let refused = egress.connect("127.0.0.1", echo.at.port(), Guard::Gateways, world::soon()).await;
        let why = refused.unwrap_err().to_string();
        assert!(why.contains("gateway_networks"), "{why}");
    }
}
