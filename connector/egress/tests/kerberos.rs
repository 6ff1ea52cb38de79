//! Through a squid that takes Kerberos tickets only, with a KDC of MIT's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::fs;

use sluice_connector_egress::{Egress, Kerberos, KerberosSecret};
use sluice_connector_webproxy::{Keytab, Password, Proxy};
use world::{Echo, egress, kdc::Kdc, passes, refused, setup};

fn with(proxy: &Proxy, kerberos: Kerberos) -> Egress {
    let mut setup = setup(proxy, None);
    setup.kerberos = Some(kerberos);
    egress(setup)
}

#[tokio::test]
async fn c3_a_kerberos_proxy_opens_to_a_password_and_to_a_keytab_and_says_what_is_wrong() {
    let (echo, kdc) = (Echo::start(), Kdc::start());
    let squid = kdc.squid();
    let password = |text: &str| KerberosSecret::Password(Password::new(text));
    let by_password = with(&squid.proxy, kdc.account("svc", password("s3cret")));
    passes(&by_password, &echo).await;
    passes(&by_password, &echo).await;

    let keytab = Keytab::read(&fs::read(kdc.path("robot.keytab")).unwrap()).unwrap();
    let key = keytab.key_of("robot@CORP.TEST").unwrap().clone();
    passes(&with(&squid.proxy, kdc.account("robot", KerberosSecret::Key(key))), &echo).await;

    let with_wrong = with(&squid.proxy, kdc.account("svc", password("wr0ng")));
    let wrong = refused(&with_wrong, &echo).await;
    assert!(wrong.contains("password or key of the principal is wrong") && !wrong.contains("wr0ng"), "{wrong}");
    // The KDC is not asked again: it would lock the account.
    let again = refused(&with_wrong, &echo).await;
    assert!(again.contains("is wrong") && again.contains("not tried again for 15 min"), "{again}");
    let unknown = refused(&with(&squid.proxy, kdc.account("nobody", password("x"))), &echo).await;
    assert!(unknown.contains("does not know the principal"), "{unknown}");
    let careless = refused(&with(&squid.proxy, kdc.account("careless", password("s3cret"))), &echo).await;
    assert!(careless.contains("pre-authentication") && careless.contains("requires_preauth"), "{careless}");
    let mut astray = kdc.account("svc", password("s3cret"));
    astray.service = Some("HTTP/other.corp.test".into());
    let astray = refused(&with(&squid.proxy, astray), &echo).await;
    assert!(astray.contains("web_proxy.kerberos.service"), "{astray}");
    let mut away = kdc.account("svc", password("s3cret"));
    away.kdcs.truncate(1);
    let away = refused(&with(&squid.proxy, away), &echo).await;
    assert!(away.contains("no KDC of CORP.TEST answers"), "{away}");
    let none = refused(&egress(setup(&squid.proxy, None)), &echo).await;
    assert!(none.contains("wants a login (Negotiate)"), "{none}");
}

#[tokio::test]
async fn c3_a_clock_that_is_off_does_not_stop_the_ticket_and_one_that_contradicts_is_named() {
    let (echo, kdc) = (Echo::start(), Kdc::with_clock(Some("+3h")));
    let account = || kdc.account("svc", KerberosSecret::Password(Password::new("s3cret")));
    // Ours is the clock that is off: the KDC's time is used.
    let agreeing = kdc.squid_with_clock(Some("+3h"));
    passes(&with(&agreeing.proxy, account()), &echo).await;
    // The proxy's contradicts the KDC's.
    let contradicting = kdc.squid();
    let why = refused(&with(&contradicting.proxy, account()), &echo).await;
    assert!(
        why.contains("refuses our Kerberos ticket for HTTP/proxy.corp.test") && why.contains("clocks agree"),
        "{why}"
    );
}
