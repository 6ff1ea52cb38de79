//! Carrying a worker's messages to a KDC (RFC 4120 §7.2.2, TCP).

use std::{net::SocketAddr, time::Duration};

use sluice_connector_webproxy::{KeytabKey, Password};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use crate::dial::{self, Resolver};

/// A Kerberos account for the proxy.
#[derive(Clone, Debug)]
pub struct Kerberos {
    /// Account's name, without its realm.
    pub name: String,
    /// Realm, in capitals.
    pub realm: String,
    /// `host` or `host:port` of its KDCs, in the order in which they are tried.
    pub kdcs: Vec<(String, u16)>,
    /// Password or key.
    pub secret: KerberosSecret,
    /// Service principal of the proxy; `HTTP/` and the proxy's host when not named.
    pub service: Option<String>,
}

/// How the account proves itself.
#[derive(Clone, Debug)]
pub enum KerberosSecret {
    /// By its password.
    Password(Password),
    /// By a key out of a keytab.
    Key(KeytabKey),
}

/// Sends `request` (with its length before it) to the first KDC that answers.
pub(crate) async fn ask(resolver: &Resolver, kerberos: &Kerberos, request: &[u8]) -> Result<Vec<u8>, String> {
    let mut whys = Vec::new();
    for (host, port) in &kerberos.kdcs {
        match timeout(KDC_TIME, exchange(resolver, host, *port, request)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => whys.push(format!("{host}:{port}: {error}")),
            Err(_) => whys.push(format!("{host}:{port}: no answer within {} s", KDC_TIME.as_secs())),
        }
    }
    Err(format!(
        "no KDC of {} answers; check web_proxy.kerberos.kdc and the firewall: {}",
        kerberos.realm,
        whys.join("; ")
    ))
}

async fn exchange(resolver: &Resolver, host: &str, port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let addresses = resolver.resolve(host).await?;
    let addresses: Vec<SocketAddr> = addresses.into_iter().map(|at| SocketAddr::new(at, port)).collect();
    let mut tcp = dial::connect(&addresses, Instant::now() + KDC_TIME).await?;
    tcp.write_all(request).await?;
    let mut header = [0; 4];
    tcp.read_exact(&mut header).await?;
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_REPLY {
        return Err(std::io::Error::other("its answer is too long; is it a KDC?"));
    }
    let mut reply = header.to_vec();
    reply.resize(length.saturating_add(header.len()), 0);
    let (_, body) = reply.split_at_mut(header.len());
    tcp.read_exact(body).await?;
    Ok(reply)
}

/// What one KDC may take.
const KDC_TIME: Duration = Duration::from_secs(3);
/// Longest answer of a KDC, bytes.
const MAX_REPLY: usize = 64 * 1024;
