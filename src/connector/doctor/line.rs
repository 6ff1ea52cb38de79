//! One line to look at: name, connection, TLS.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime as TlsTime},
    version::TLS13,
};
use sluice_connector_egress::{Connected, Egress, Guard};
use sluice_connector_webproxy::Way;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::report::{Report, Step};

/// For a name.
const RESOLVE: Duration = Duration::from_secs(5);
/// For a connection, and for TLS on it.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// For a connection by the way out, logging in at a proxy included.
const LEAD: Duration = Duration::from_secs(10);
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The addresses of `host` by the system's resolver, or the step that says why there is none.
pub(super) async fn resolve(what: &str, host: &str, port: u16) -> Result<Vec<SocketAddr>, Step> {
    let todo = "check the system's resolver (/etc/resolv.conf), and that the name is spelt as its owner published it";
    let bad = |said: String| Step::bad(what, said, todo);
    match timeout(RESOLVE, lookup_host((host, port))).await {
        Err(_) => Err(bad(format!("{host}: no resolver answered within {} s", RESOLVE.as_secs()))),
        Ok(Err(error)) => Err(bad(format!("{host} cannot be resolved: {error}"))),
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
            if found.is_empty() { Err(bad(format!("{host} has no address"))) } else { Ok(found) }
        }
    }
}

/// Says which way out leads to `host`. Gives whether that is, or may be, the direct one; nothing when none is known.
pub(super) async fn way(report: &mut Report, what: &str, egress: &Egress, host: &str, port: u16) -> Option<bool> {
    match egress.explain(host, port).await {
        Ok(explained) => {
            let direct = explained.ways.contains(&Way::Direct);
            report.add(Step::good(what, explained.to_string()));
            Some(direct)
        }
        Err(error) => {
            report.add(Step::bad(what, error.to_string(), "correct the [web_proxy] table, or the script it names"));
            None
        }
    }
}

/// A connection by the way out that the configuration describes.
pub(super) async fn lead(what: &str, egress: &Egress, host: &str, port: u16, guard: Guard) -> Result<Connected, Step> {
    let connected = egress.connect(host, port, guard, Instant::now() + LEAD).await;
    connected.map_err(|error| {
        let todo = format!("let this machine reach {host} by TCP {port}, directly or through the web proxy");
        Step::bad(what, error.to_string(), todo)
    })
}

/// A connection to the first of `addresses` that answers.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = "there is no address".to_owned();
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => why = format!("{address}: {}", reason(&error)),
            Err(_) => why = format!("{address}: no answer within {} s; something drops the packets", CONNECT.as_secs()),
        }
    }
    Err(why)
}

/// What a failed connection means.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused; nothing listens there, or a firewall says no".to_owned(),
        io::ErrorKind::TimedOut => "no answer; something drops the packets".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "no route".to_owned(),
        _ => error.to_string(),
    }
}

/// Why TLS with somebody failed.
#[derive(Debug)]
pub(super) enum Distrust {
    /// Somebody else's certificate: who it says issued it.
    Issuer(String),
    /// The right issuer, but another name, or another node's.
    Name,
    /// The right issuer, at the wrong time.
    Time(String),
    /// No certificate came so far.
    Other(String),
}

/// TLS 1.3 with whom `verifier` believes, without a certificate of our own.
pub(super) async fn tls<T: AsyncRead + AsyncWrite + Unpin>(
    io: T,
    host: &str,
    verifier: Arc<dyn ServerCertVerifier>,
    alpn: &[u8],
) -> Result<TlsStream<T>, Distrust> {
    let other = |error: &dyn std::fmt::Display| Distrust::Other(error.to_string());
    let name = ServerName::try_from(host.to_owned()).map_err(|error| other(&error))?;
    let watched = Arc::new(Watched { inner: verifier, shown: Mutex::default() });
    let config = config(watched.clone(), alpn).map_err(|error| other(&error))?;
    match timeout(CONNECT, TlsConnector::from(Arc::new(config)).connect(name, io)).await {
        Ok(Ok(tls)) => Ok(tls),
        Ok(Err(error)) => Err(watched.judge(&error)),
        Err(_) => Err(Distrust::Other(format!("no answer within {} s", CONNECT.as_secs()))),
    }
}

/// The configuration of [`tls`].
pub(super) fn config(verifier: Arc<dyn ServerCertVerifier>, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// Remembers what was shown, for the words about it.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn ServerCertVerifier>,
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl Watched {
    fn judge(&self, error: &io::Error) -> Distrust {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        let Some(TlsError::InvalidCertificate(wrong)) = tls else { return Distrust::Other(error.to_string()) };
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let parsed = shown.as_ref().and_then(|der| X509Certificate::from_der(der).ok());
        let Some((_, certificate)) = parsed else { return Distrust::Other(error.to_string()) };
        match wrong {
            CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }
            | CertificateError::ApplicationVerificationFailure => Distrust::Name,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                let validity = certificate.validity();
                Distrust::Time(format!("it is good from {} to {}", validity.not_before, validity.not_after))
            }
            _ => Distrust::Issuer(certificate.issuer().to_string()),
        }
    }
}

impl ServerCertVerifier for Watched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: TlsTime,
    ) -> Result<ServerCertVerified, TlsError> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A step about TLS that failed. `who` is whom we meant, `host` whom we asked, `via` how.
pub(super) fn distrusted(what: &str, who: &str, host: &str, via: &Way, why: Distrust) -> Step {
    match why {
        Distrust::Issuer(issuer) => Step::bad(
            what,
            format!(
                "somebody opens TLS on the way ({via}): what came for {host} was issued by \"{issuer}\", not by {who}'s root"
            ),
            format!("exempt {host} from TLS inspection (a proxy or firewall does it), or correct where the name leads"),
        ),
        Distrust::Name => Step::bad(
            what,
            format!("who answers for {host} is of this sluice, but is not {who}"),
            "check which address the name leads to, and which port",
        ),
        Distrust::Time(times) => Step::bad(
            what,
            format!("the certificate of {who} is not good now by this machine's clock: {times}"),
            "set this machine's clock (an NTP client); if it is right, renew the other side's certificate",
        ),
        Distrust::Other(error) => Step::bad(
            what,
            format!("no TLS 1.3 with {host}: {error}"),
            "a firewall that knows only some kinds of TLS, or another service on this port? let TCP 443 pass untouched",
        ),
    }
}
