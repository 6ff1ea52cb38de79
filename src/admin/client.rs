//! HTTPS to control: one connection per request, control's own root and nothing else believed.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use sluice_control_server::admin_api::SecretText;
use sluice_node_identity::api::ErrorBody;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::call::Call;

/// Connecting, with the handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Whole answer; a first full sync may take minutes.
const ANSWER: Duration = Duration::from_secs(600);
/// Longest answer.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// Most pages of one list: a million entries.
const MAX_PAGES: usize = 1000;

/// Talks to one control.
pub(super) struct Client {
    authority: String,
    host: String,
    port: u16,
    address: Option<SocketAddr>,
    tls: TlsConnector,
    token: Option<SecretText>,
}

impl Client {
    pub(super) fn new(
        url: &str,
        address: Option<SocketAddr>,
        root: &Path,
        token: Option<SecretText>,
    ) -> anyhow::Result<Self> {
        let uri: hyper::Uri = url.parse().context("--server is not a URL")?;
        let https = uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|_| https).context("--server is https://host[:port] and no more")?;
        let mut roots = RootCertStore::empty();
        let file = || format!("cannot read the root certificate {}", root.display());
        for certificate in CertificateDer::pem_file_iter(root).with_context(file)? {
            roots.add(certificate.with_context(file)?).with_context(file)?;
        }
        anyhow::ensure!(!roots.is_empty(), "{} holds no certificate", root.display());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            authority: authority.to_string(),
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(443),
            address,
            tls: TlsConnector::from(Arc::new(config)),
            token,
        })
    }

    /// Sends `call` (and, for lists, what follows it) and gives the answer.
    pub(super) async fn run(&self, call: &Call) -> anyhow::Result<Value> {
        let Some(limit) = call.items else {
            return self.send(call, &call.path).await;
        };
        let (mut items, mut connectors) = (Vec::new(), None);
        let first = format!("{}{}limit=1000", call.path, if call.path.contains('?') { '&' } else { '?' });
        let mut path = first.clone();
        for _ in 0..MAX_PAGES {
            let mut page = self.send(call, &path).await?;
            if let Some(Value::Array(mut more)) = page.get_mut("items").map(Value::take) {
                items.append(&mut more);
            }
            // How far a list of streams can be relied on; the same on every page.
            connectors = connectors.or_else(|| page.get_mut("connectors").map(Value::take));
            match page.get("next").and_then(Value::as_str) {
                Some(next) if items.len() < limit => path = format!("{first}&after={}", encode(next)),
                _ => {
                    items.truncate(limit);
                    let mut list = json!({ "items": items });
                    if let (Some(list), Some(connectors)) = (list.as_object_mut(), connectors) {
                        list.insert("connectors".to_owned(), connectors);
                    }
                    return Ok(list);
                }
            }
        }
        anyhow::bail!("the list has more than {MAX_PAGES} pages; ask the API page by page")
    }

    async fn send(&self, call: &Call, path: &str) -> anyhow::Result<Value> {
        let (status, body) = timeout(ANSWER, self.exchange(&call.method, path, call.body.as_ref()))
            .await
            .with_context(|| format!("{} gave no answer within {} s", self.authority, ANSWER.as_secs()))??;
        if status.is_success() {
            if body.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&body).context("control's answer is not JSON; is --server the console?");
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(refusal) => {
                anyhow::bail!("{} ({}, HTTP {})", refusal.error.message, refusal.error.code, status.as_u16())
            }
            Err(_) => anyhow::bail!("{} answered HTTP {status}; is --server the console?", self.authority),
        }
    }

    async fn exchange(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Bytes)> {
        let stream = timeout(CONNECT, self.connect())
            .await
            .with_context(|| format!("{} did not answer within {} s", self.authority, CONNECT.as_secs()))??;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.expose()))
                .context("the token holds characters no token has; is --token-file the right file?")?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(serde_json::to_vec(body)?)
            }
            None => Bytes::new(),
        };
        let answer = sender.send_request(request.body(Full::new(bytes))?).await.context("the connection broke")?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        driver.abort();
        let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
        Ok((status, body.to_bytes()))
    }

    async fn connect(&self) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.host.clone()).context("--server has no usable host name")?;
        let tcp = match self.address {
            Some(address) => {
                TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?
            }
            None => TcpStream::connect((self.host.as_str(), self.port))
                .await
                .with_context(|| format!("cannot connect to {}", self.authority))?,
        };
        self.tls
            .connect(name, tcp)
            .await
            .with_context(|| format!("{} is not who --root vouches for, or refuses this connection", self.authority))
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
