//! Through Debian's squid and tinyproxy, with everything they can be asked for but Kerberos.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::process::Command;

use sluice_connector_egress::Trust;
use sluice_connector_webproxy::{Proxy, Way};
use world::{
    Echo, LOGIN_WANTED, Running, Squid, credentials, egress, folder, free_port, passes, refused, setup, wait_for_port,
    write,
};

/// As `htpasswd` and `htdigest` write them.
fn hashed(arguments: &[&str]) -> String {
    let made = Command::new("openssl").args(arguments).output().unwrap();
    assert!(made.status.success());
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn c3_squid_without_login_lets_us_through_and_names_what_it_forbids() {
    let (echo, closed) = (Echo::start(), free_port());
    let rules = format!(
        "acl forbidden dstdomain forbidden.test\nhttp_access deny forbidden\nacl p port {} {closed}\n\
         http_access allow p\nhttp_access deny all\n",
        echo.at.port()
    );
    let squid = Squid::start(folder(), &rules, false, &[]);
    let egress = egress(setup(&squid.proxy, None));
    let connected = passes(&egress, &echo).await;
    assert_eq!(connected.via, Way::Proxy(squid.proxy.clone()));
    let connect = async |host, port| {
        let guard = sluice_connector_egress::Guard::Operator;
        egress.connect(host, port, guard, world::soon()).await.unwrap_err().to_string()
    };
    let forbidden = connect("forbidden.test", 443).await;
    assert!(forbidden.contains("forbids forbidden.test:443 by policy"), "{forbidden}");
    let closed = connect("127.0.0.1", closed).await;
    assert!(closed.contains("cannot reach 127.0.0.1") && closed.contains("503"), "{closed}");
}

#[tokio::test]
async fn c3_squid_with_basic_takes_the_password_only_when_it_may_be_shown() {
    let (echo, place) = (Echo::start(), folder());
    let hash = hashed(&["passwd", "-apr1", "s3cret"]);
    write(&place.path().join("passwd"), &format!("svc:{hash}\n"));
    let rules = format!("auth_param basic program /usr/lib/squid/basic_ncsa_auth {{}}/passwd\n{LOGIN_WANTED}");
    let squid = Squid::start(place, &rules, false, &[]);

    let hidden = refused(&egress(setup(&squid.proxy, Some(credentials("s3cret")))), &echo).await;
    assert!(hidden.contains("allow_basic_in_clear"), "{hidden}");
    let shown = |password| {
        let mut credentials = credentials(password);
        credentials.basic_in_clear = true;
        egress(setup(&squid.proxy, Some(credentials)))
    };
    let allowed = shown("s3cret");
    passes(&allowed, &echo).await;
    passes(&allowed, &echo).await;
    let wrong = refused(&shown("wr0ng"), &echo).await;
    assert!(wrong.contains("wrong password") && wrong.contains("svc") && !wrong.contains("wr0ng"), "{wrong}");
    let nobody = refused(&egress(setup(&squid.proxy, None)), &echo).await;
    assert!(nobody.contains("wants a login (Basic)") && nobody.contains("password_file"), "{nobody}");
}

#[tokio::test]
async fn c3_squid_with_digest_takes_our_answer_again_and_again() {
    let (echo, place) = (Echo::start(), folder());
    write(&place.path().join("digest"), "svc:s3cret\n");
    let rules = format!(
        "auth_param digest program /usr/lib/squid/digest_file_auth {{}}/digest\nauth_param digest realm corp\n\
         auth_param digest nonce_max_count 2\n{LOGIN_WANTED}"
    );
    let squid = Squid::start(place, &rules, false, &[]);
    let known = egress(setup(&squid.proxy, Some(credentials("s3cret"))));
    // More often than a nonce is good for.
    for _ in 0..5 {
        passes(&known, &echo).await;
    }
    let wrong = refused(&egress(setup(&squid.proxy, Some(credentials("wr0ng")))), &echo).await;
    assert!(wrong.contains("refuses the Digest login of svc"), "{wrong}");
}

#[tokio::test]
async fn c3_squid_with_ntlm_gets_three_messages_on_one_connection() {
    let echo = Echo::start();
    let rules = format!(
        "auth_param ntlm program /usr/lib/squid/ntlm_fake_auth\nauth_param ntlm keep_alive off\n{LOGIN_WANTED}"
    );
    let squid = Squid::start(folder(), &rules, false, &[]);
    let mut account = credentials("s3cret");
    account.domain = "CORP".into();
    let known = egress(setup(&squid.proxy, Some(account)));
    for _ in 0..3 {
        passes(&known, &echo).await;
    }
    let nobody = refused(&egress(setup(&squid.proxy, None)), &echo).await;
    assert!(nobody.contains("NTLM"), "{nobody}");
}

/// A certificate for `localhost` and its authority, written where squid finds them.
fn certificate(place: &std::path::Path) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    write(&place.join("cert.pem"), &made.pem());
    write(&place.join("key.pem"), &key.serialize_pem());
    made.pem().into_bytes()
}

#[tokio::test]
async fn c3_squid_behind_tls_is_believed_only_by_its_certificate_and_may_see_basic() {
    let (echo, place) = (Echo::start(), folder());
    let own = certificate(place.path());
    let hash = hashed(&["passwd", "-apr1", "s3cret"]);
    write(&place.path().join("passwd"), &format!("svc:{hash}\n"));
    let rules = format!("auth_param basic program /usr/lib/squid/basic_ncsa_auth {{}}/passwd\n{LOGIN_WANTED}");
    let squid = Squid::start(place, &rules, true, &[]);
    let mut trusting = setup(&squid.proxy, Some(credentials("s3cret")));
    trusting.trust = Trust { own: Some(own) };
    passes(&egress(trusting), &echo).await;
    let stranger = refused(&egress(setup(&squid.proxy, Some(credentials("s3cret")))), &echo).await;
    assert!(stranger.contains("no TLS with the web proxy") && stranger.contains("ca_file"), "{stranger}");
}

fn tinyproxy(rules: &str) -> (Proxy, Running, tempfile::TempDir) {
    let (place, port) = (folder(), free_port());
    let config = format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nLogLevel Error\n{rules}\n");
    let file = write(&place.path().join("tinyproxy.conf"), &config);
    let running = Running::start(Command::new("/usr/bin/tinyproxy").arg("-d").arg("-c").arg(file));
    wait_for_port(port);
    (Proxy::read(&format!("http://127.0.0.1:{port}")).unwrap(), running, place)
}

#[tokio::test]
async fn c3_tinyproxy_lets_us_through_with_and_without_a_password() {
    let echo = Echo::start();
    let (open, _running, _place) = tinyproxy("");
    passes(&egress(setup(&open, None)), &echo).await;
    let (closed, _running, _place) = tinyproxy("BasicAuth svc s3cret");
    let with = |password| {
        let mut credentials = credentials(password);
        credentials.basic_in_clear = true;
        egress(setup(&closed, Some(credentials)))
    };
    passes(&with("s3cret"), &echo).await;
    let wrong = refused(&with("wr0ng"), &echo).await;
    assert!(wrong.contains("wrong password"), "{wrong}");
    let nobody = refused(&egress(setup(&closed, None)), &echo).await;
    assert!(nobody.contains("wants a login (Basic)"), "{nobody}");
}
