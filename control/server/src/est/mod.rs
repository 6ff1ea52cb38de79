//! Enrolment over Secure Transport for hubs (RFC 7030, RFC 8951). The tenant is told apart by host name.

mod http;

use std::sync::Arc;

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use sluice_control_domain::{Commit, EnrollCode, HubRecord, Record, Tenant, Typed};
use sluice_control_enroll::{Decision, HubRequest, Issuing, Refused, enroll_hub, reenroll_hub};
use sluice_control_pki::{Csr, certs_only, pem_chain};
use sluice_node_identity::{Fingerprint, HubId, JoinSecret, Principal};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::server::TlsStream;

use crate::{
    ServerParts,
    connection::{DEADLINE, Remote, Shown},
    keys,
    record::one,
    strangers::Asked,
};
use http::{Request, Response, Unread};

const OK: &str = "200 OK";
const ROOT: &str = "/.well-known/est/";
/// How often a decision is made again when what it was based on changed.
const TRIES: u32 = 5;
/// RFC 8951 §3.1: whatever the transfer encoding says, it is base64. Some clients leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const UNAUTHORIZED: &str = "the hub's name or code is wrong, used or expired; ask an administrator for a new code";

/// Serves EST connections, one exchange each.
pub(crate) struct Est {
    parts: ServerParts,
    asked: Arc<Asked>,
}

/// By what right somebody asks for a hub's certificate.
enum Claim {
    /// Name and code.
    Code { hub: HubId, secret: JoinSecret },
    /// A certificate that names the hub, and its key.
    Key { hub: HubId, key: Fingerprint },
}

/// An operation (RFC 7030 §3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    CaCerts,
    CsrAttrs,
    Enroll,
    Reenroll,
}

impl Operation {
    /// The operation at `path`, with or without a label before it.
    fn at(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(ROOT)?;
        let name = match rest.split_once('/') {
            None => rest,
            // One tenant has one authority, so every label names it.
            Some((label, name)) if !label.is_empty() && label.len() <= 63 && label.is_ascii() => name,
            Some(_) => return None,
        };
        match name {
            "cacerts" => Some(Self::CaCerts),
            "csrattrs" => Some(Self::CsrAttrs),
            "simpleenroll" => Some(Self::Enroll),
            "simplereenroll" => Some(Self::Reenroll),
            _ => None,
        }
    }

    const fn method(self) -> &'static str {
        match self {
            Self::CaCerts | Self::CsrAttrs => "GET",
            Self::Enroll | Self::Reenroll => "POST",
        }
    }
}

impl Est {
    pub(crate) const fn new(parts: ServerParts, asked: Arc<Asked>) -> Self {
        Self { parts, asked }
    }

    /// One exchange, in time, then the connection ends.
    pub(crate) async fn serve(&self, mut tls: TlsStream<TcpStream>, remote: &Remote, tenant: &Tenant) {
        let response = match timeout(DEADLINE, http::read(&mut tls)).await {
            Ok(Ok(request)) => self.answer(&request, remote, tenant).await,
            Ok(Err(Unread::Malformed)) => Response::refusal("400 Bad Request", "this request is malformed"),
            Ok(Err(Unread::TooLong)) => Response::refusal("413 Content Too Large", "this request is too long"),
            Ok(Err(Unread::Gone)) | Err(_) => return,
        };
        let status = response.status;
        match timeout(DEADLINE, response.write(&mut tls)).await {
            Ok(Ok(())) => tracing::debug!(address = %remote.address, status, "EST answered"),
            Ok(Err(error)) => tracing::debug!(address = %remote.address, %error, "EST answer not written"),
            Err(_) => tracing::debug!(address = %remote.address, "EST answer not taken in time"),
        }
    }

    async fn answer(&self, request: &Request, remote: &Remote, tenant: &Tenant) -> Response {
        let host = request.host.as_deref().map(|host| host.split(':').next().unwrap_or(host));
        if host.is_some_and(|host| !host.eq_ignore_ascii_case(&tenant.est_host)) {
            return Response::refusal("421 Misdirected Request", "this host is not served here");
        }
        let path = request.path.split('?').next().unwrap_or_default();
        let Some(operation) = Operation::at(path) else {
            return Response::refusal("404 Not Found", "there is no such operation");
        };
        if request.method != operation.method() {
            return Response::refusal("405 Method Not Allowed", "this operation takes another method");
        }
        let answered = match operation {
            Operation::CaCerts => self.ca_certs(tenant),
            Operation::CsrAttrs => Ok(Response { status: "204 No Content", headers: "", body: Vec::new() }),
            Operation::Enroll | Operation::Reenroll => self.certify(operation, request, remote, tenant).await,
        };
        answered.unwrap_or_else(|error| {
            tracing::error!("an enrolment failed: {error:#}");
            Response {
                headers: "Retry-After: 5\r\n",
                ..Response::refusal("503 Service Unavailable", "try again in a few seconds")
            }
        })
    }

    fn ca_certs(&self, tenant: &Tenant) -> anyhow::Result<Response> {
        let root = self.parts.keys.hub_root(tenant)?;
        certificates(&[root.der()])
    }

    /// An address whose requests are refused again and again waits a while.
    async fn certify(
        &self,
        operation: Operation,
        request: &Request,
        remote: &Remote,
        tenant: &Tenant,
    ) -> anyhow::Result<Response> {
        if self.asked.begin(remote.address, (self.parts.clock)()).is_err() {
            return Ok(Response {
                headers: "Retry-After: 60\r\nContent-Type: text/plain\r\n",
                ..Response::refusal("429 Too Many Requests", "too many tries; try again in a minute")
            });
        }
        let answered = match operation {
            Operation::Enroll => self.enroll(request, remote, tenant).await,
            _ => self.reenroll(request, remote, tenant).await,
        };
        if answered.as_ref().is_ok_and(|response| response.status == OK) {
            self.asked.granted(remote.address);
        }
        answered
    }

    /// With the hub's certificate and no code, enrolment is re-enrolment (RFC 7030 §3.3.2).
    async fn enroll(&self, request: &Request, remote: &Remote, tenant: &Tenant) -> anyhow::Result<Response> {
        match request.authorization.as_deref().and_then(basic) {
            Some((hub, secret)) => self.decided(tenant, &Claim::Code { hub, secret }, &request.body).await,
            None if remote.certificate.is_some() => self.reenroll(request, remote, tenant).await,
            None => Ok(unauthorized()),
        }
    }

    async fn reenroll(&self, request: &Request, remote: &Remote, tenant: &Tenant) -> anyhow::Result<Response> {
        let claim = remote.certificate.as_ref().and_then(|shown| {
            let key = shown.key.clone();
            Some(Claim::Key { hub: self.hub(shown, tenant)?, key })
        });
        match claim {
            Some(claim) => self.decided(tenant, &claim, &request.body).await,
            None => Ok(Response::refusal("403 Forbidden", "this needs the hub's own certificate")),
        }
    }

    /// The hub of this tenant that a certificate names.
    fn hub(&self, shown: &Shown, tenant: &Tenant) -> Option<HubId> {
        match &shown.name.principal {
            Principal::Hub { tenant: named, id }
                if *named == tenant.id && shown.name.trust_domain == *self.parts.keys.trust_domain() =>
            {
                Some(id.clone())
            }
            _ => None,
        }
    }

    async fn load<R: Record>(&self, tenant: &Tenant, hub: &HubId) -> anyhow::Result<Option<Typed<R>>> {
        one(&*self.parts.store, tenant.id.as_str(), hub.as_str()).await
    }

    /// Decides until a decision is committed, then tells it.
    async fn decided(&self, tenant: &Tenant, claim: &Claim, body: &[u8]) -> anyhow::Result<Response> {
        let csr = match csr(body) {
            Ok(csr) => csr,
            Err(refusal) => return Ok(refusal),
        };
        let authority = self.parts.keys.hub_root(tenant)?;
        for _ in 0..TRIES {
            let trust_domain = self.parts.keys.trust_domain();
            let issuing =
                Issuing { authority: &authority, trust_domain, now: (self.parts.clock)(), serial: keys::serial()? };
            let decision = self.judge(tenant, claim, &csr, &issuing).await?;
            if let Some(set) = decision.changes
                && self.parts.store.commit(set).await? == Commit::Conflict
            {
                continue;
            }
            return match decision.answer {
                Ok(pem) => {
                    let chain = pem_chain(&pem)?;
                    certificates(&chain.iter().map(Vec::as_slice).collect::<Vec<_>>())
                }
                Err(Refused::Code) => Ok(unauthorized()),
                Err(Refused::Pki(error)) => Err(error.into()),
                Err(refused) => Ok(Response::refusal("403 Forbidden", &refused.to_string())),
            };
        }
        anyhow::bail!("a hub's record changed under every try")
    }

    async fn judge(
        &self,
        tenant: &Tenant,
        claim: &Claim,
        csr: &Csr,
        issuing: &Issuing<'_>,
    ) -> anyhow::Result<Decision<String>> {
        let (Claim::Code { hub, .. } | Claim::Key { hub, .. }) = claim;
        let record = self.load::<HubRecord>(tenant, hub).await?;
        Ok(match (claim, record) {
            (Claim::Code { secret, .. }, Some(record)) => match self.load::<EnrollCode>(tenant, hub).await? {
                Some(code) => enroll_hub(&record, &code, secret, &HubRequest { csr }, issuing),
                None => Decision { changes: None, answer: Err(Refused::Code) },
            },
            (Claim::Key { key, .. }, Some(record)) => reenroll_hub(&record, key, &HubRequest { csr }, issuing),
            (Claim::Code { .. }, None) => Decision { changes: None, answer: Err(Refused::Code) },
            (Claim::Key { .. }, None) => Decision { changes: None, answer: Err(Refused::Key) },
        })
    }
}

fn unauthorized() -> Response {
    Response {
        headers: "WWW-Authenticate: Basic realm=\"estrealm\"\r\nContent-Type: text/plain\r\n",
        ..Response::refusal("401 Unauthorized", UNAUTHORIZED)
    }
}

/// The body is one line of base64: stock clients do not read folded ones.
fn certificates(der: &[&[u8]]) -> anyhow::Result<Response> {
    let body = STANDARD.encode(certs_only(der)?).into_bytes();
    Ok(Response {
        status: OK,
        headers: "Content-Type: application/pkcs7-mime; smime-type=certs-only\r\nContent-Transfer-Encoding: base64\r\n",
        body,
    })
}

/// RFC 7617: hub and code.
fn basic(value: &str) -> Option<(HubId, JoinSecret)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
    let (hub, code) = text.split_once(':')?;
    Some((hub.parse().ok()?, JoinSecret::from_text(code).ok()?))
}

fn csr(body: &[u8]) -> Result<Csr, Response> {
    let refuse = |text: &str| Response::refusal("400 Bad Request", text);
    let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = BASE64.decode(text).map_err(|_| refuse("the body is not base64 (RFC 8951 section 3.1)"))?;
    Csr::from_der(&der).map_err(|error| refuse(&error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn paths_with_and_without_label_lead_to_operations() {
        assert_eq!(Operation::at("/.well-known/est/cacerts"), Some(Operation::CaCerts));
        assert_eq!(Operation::at("/.well-known/est/branch/simpleenroll"), Some(Operation::Enroll));
        for path in ["/", "/.well-known/est/", "/.well-known/est//cacerts", "/.well-known/est/a/b/cacerts", "/cacerts"]
        {
            assert_eq!(Operation::at(path), None, "{path}");
        }
    }

    #[test]
    fn credentials_are_hub_and_code() {
        let code = JoinSecret::new([7; 16]);
        let header = format!("Basic {}", STANDARD.encode(format!("hub-1:{}", code.to_text())));
        let (hub, secret) = basic(&header).unwrap();
        assert!(hub.as_str() == "hub-1" && secret == code);
        for bad in ["", "Basic", "Basic !!", "Bearer x", "Basic aHViLTE="] {
            assert!(basic(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn every_head_fits_what_stock_clients_read() {
        for response in [unauthorized(), Response::refusal("503 Service Unavailable", "x"), certificates(&[]).unwrap()]
        {
            assert!(response.headers.len() + response.status.len() + 200 < 1024);
        }
    }
}
