//! The line to control: name, connection, TLS, clock.

use std::{sync::Arc, time::SystemTime};

use anyhow::Context;
use http_body_util::Empty;
use hyper::{Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime as TlsTime},
};
use sluice_connector_egress::{Egress, Guard, Io};
use sluice_node_identity::{Fingerprint, UnixTime};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    line::{self, CONNECT},
    report::{Report, Step},
};
use crate::config::connector::ConnectorConfig;

/// A stream token may be this much younger or older than its check, seconds.
const LEEWAY: u64 = 30;
/// A difference that is worth a word.
const WORTH_A_WORD: u64 = 5;

/// How the node root is known.
#[derive(Clone, Debug)]
pub(super) enum Anchor {
    /// By itself.
    Root(CertificateDer<'static>),
    /// By its pin in the join code; control shows it.
    Pin(Fingerprint),
}

/// Looks at the whole line to `url`.
pub(super) async fn look(report: &mut Report, config: &ConnectorConfig, egress: &Egress, url: &str, anchor: Anchor) {
    let Some((host, port)) = place(url) else {
        report.add(Step::bad("control", format!("{url:?} is no URL of a control"), "join anew with a fresh code"));
        return;
    };
    let (dialled, port) =
        config.control.address.map_or_else(|| (host.clone(), port), |at| (at.ip().to_string(), at.port()));
    let Some(direct) = line::way(report, "control: way out", egress, &dialled, port).await else { return };
    let named = if config.control.address.is_some() {
        Step::skipped("control: name", format!("control.address = {dialled} is dialled instead of {host}"))
    } else if direct {
        match line::resolve("control: name", &dialled, port).await {
            Ok(found) => {
                let all: Vec<String> = found.iter().map(ToString::to_string).collect();
                Step::good("control: name", format!("{host} is {}", all.join(", ")))
            }
            Err(step) => step,
        }
    } else {
        Step::skipped("control: name", format!("{host} is for the web proxy to resolve"))
    };
    if !report.add(named) {
        return;
    }
    let connected = match line::lead("control: TCP", egress, &dialled, port, Guard::Operator).await {
        Ok(connected) => connected,
        Err(step) => {
            report.add(step);
            return;
        }
    };
    report.add(Step::good("control: TCP", format!("{host}:{port} answers, {}", connected.via)));
    match line::tls(connected.io, &host, Arc::new(ByRoot(anchor)), b"http/1.1").await {
        Ok(tls) => {
            let said = format!("{host} is this sluice's control; nobody opens TLS on the way");
            report.add(Step::good("control: TLS", said));
            report.add(clock(tls, &host).await);
        }
        Err(why) => {
            report.add(line::distrusted("control: TLS", "control", &host, &connected.via, why));
            report.add(Step::skipped("clock", "control could not be asked"));
        }
    }
}

/// Host and port of `https://host[:port]`.
fn place(url: &str) -> Option<(String, u16)> {
    let uri: hyper::Uri = url.parse().ok()?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), authority.port_u16().unwrap_or(443)))
}

/// Compares this machine's clock with the date of an answer.
async fn clock(tls: TlsStream<Io>, host: &str) -> Step {
    let theirs = match timeout(CONNECT, date(tls, host)).await {
        Ok(Ok(date)) => date,
        Ok(Err(error)) => {
            return Step::note("clock", format!("control told no date: {error:#}"), "compare the clocks by hand");
        }
        Err(_) => return Step::note("clock", "control told no date in time", "compare the clocks by hand"),
    };
    compared(UnixTime::from(SystemTime::now()), theirs)
}

fn compared(ours: UnixTime, theirs: UnixTime) -> Step {
    let (behind, ahead) = (theirs.since(ours), ours.since(theirs));
    let (apart, way) = if behind > 0 { (behind, "behind") } else { (ahead, "ahead of") };
    let said = format!("this machine's clock is {apart} s {way} control's");
    if apart > LEEWAY {
        let todo =
            "set it (an NTP client on this machine); stream tokens live 30 s and are refused beyond 30 s of difference";
        Step::bad("clock", said, todo)
    } else if apart > WORTH_A_WORD {
        Step::note("clock", said, "it still works; let an NTP client keep it")
    } else {
        Step::good("clock", "agrees with control's")
    }
}

async fn date(tls: TlsStream<Io>, host: &str) -> anyhow::Result<UnixTime> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::get("/node/v1/date").header(header::HOST, host).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await;
    driver.abort();
    let answer = answer?;
    let date = answer.headers().get(header::DATE).context("the answer has no Date")?.to_str()?;
    let date = time::OffsetDateTime::parse(date, &time::format_description::well_known::Rfc2822)?;
    Ok(UnixTime(u64::try_from(date.unix_timestamp())?))
}

/// Believes leaves under the node root for the name that was asked.
#[derive(Debug)]
struct ByRoot(Anchor);

impl ByRoot {
    fn root(&self, presented: &[CertificateDer<'_>]) -> Result<CertificateDer<'static>, TlsError> {
        let pin = match &self.0 {
            Anchor::Root(root) => return Ok(root.clone()),
            Anchor::Pin(pin) => pin,
        };
        let is_it = |der: &CertificateDer<'_>| {
            X509Certificate::from_der(der).is_ok_and(|(_, it)| Fingerprint::of(it.public_key().raw) == *pin)
        };
        let root = presented.iter().find(|der| is_it(der)).map(|der| der.clone().into_owned());
        root.ok_or(TlsError::InvalidCertificate(CertificateError::UnknownIssuer))
    }
}

impl ServerCertVerifier for ByRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: TlsTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root(intermediates)?)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| TlsError::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::report::Verdict, *};

    #[test]
    fn a_clock_is_judged_by_what_tokens_bear() {
        for (ours, theirs, verdict, word) in [
            (1_000, 1_000, Verdict::Good, "agrees"),
            (1_005, 1_000, Verdict::Good, "agrees"),
            (1_020, 1_000, Verdict::Note, "20 s ahead of"),
            (700, 1_000, Verdict::Bad, "300 s behind"),
            (1_031, 1_000, Verdict::Bad, "31 s ahead of"),
        ] {
            let step = compared(UnixTime(ours), UnixTime(theirs));
            assert!(step.verdict == verdict && step.said.contains(word), "{step:?}");
        }
    }

    #[test]
    fn only_https_names_a_control() {
        assert_eq!(place("https://node.sluice.test"), Some(("node.sluice.test".to_owned(), 443)));
        assert_eq!(place("https://[::1]:8443"), Some(("::1".to_owned(), 8443)));
        assert_eq!(place("http://node.sluice.test"), None);
        assert_eq!(place("node"), None);
    }
}
