//! The least tunnel there can be, to measure a connection by itself: whoever connects to the gateway's second port gets a
//! stream to the agent's target. `pipe gateway TUNNEL USERS DIR` and `pipe agent TUNNEL TARGET DIR tcp|quic`; the
//! gateway leaves a certificate in DIR.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a tool for measuring")]

use std::{net::SocketAddr, path::Path, sync::Arc};

use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs as provider},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    version::TLS13,
};
use sluice_connector_mux::{
    Connection, End, Metered,
    quic::{self, AcceptLimits, Acceptor, Marks},
};
use sluice_connector_wire::{ALPN_TUNNEL, ClassPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream},
};

const HOST: &str = "gw.test";

/// As in the real program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn crypto() -> Arc<CryptoProvider> {
    let mut crypto = provider::default_provider();
    crypto.cipher_suites = vec![provider::cipher_suite::TLS13_AES_256_GCM_SHA384];
    Arc::new(crypto)
}

fn server(dir: &Path) -> rustls::ServerConfig {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join("leaf.der"), leaf.der()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = rustls::ServerConfig::builder_with_provider(crypto()).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    config.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    config
}

fn client(dir: &Path) -> rustls::ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(dir.join("leaf.der")).unwrap())).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(crypto()).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    config
}

const BUFFER: usize = 32 * 1024;

async fn carry(mut a: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, mut b: TcpStream) {
    b.set_nodelay(true).unwrap();
    let buffer = std::env::var("PIPE_BUFFER").ok().and_then(|size| size.parse().ok()).unwrap_or(BUFFER);
    let _ended = copy_bidirectional_with_sizes(&mut a, &mut b, buffer, buffer).await;
}

async fn gateway(tunnel: SocketAddr, users: SocketAddr, dir: &Path) {
    let tls = server(dir);
    let endpoint = quic::gateway_endpoint(
        quic::bind(tunnel).unwrap(),
        quic::server_config(tls.clone()).unwrap(),
        &[7; 32],
        Marks::default(),
    );
    let mut acceptor = Acceptor::new(endpoint.unwrap(), AcceptLimits::default());
    let listener = TcpListener::bind(tunnel).await.unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let users = TcpListener::bind(users).await.unwrap();
    loop {
        let connection = tokio::select! {
            accepted = acceptor.next() => Connection::over_quic(accepted.unwrap().connection, End::Gateway),
            accepted = listener.accept() => {
                let (tcp, _) = accepted.unwrap();
                tcp.set_nodelay(true).unwrap();
                let (tcp, heard) = Metered::over_tcp(tcp);
                let Ok(tls) = tls.accept(tcp).await else { continue };
                Connection::over_metered_tcp(tls, End::Gateway, heard)
            }
        };
        serve(connection, &users).await;
    }
}

async fn serve(mut connection: Connection, users: &TcpListener) {
    let mut line = connection.next().await.unwrap().unwrap();
    line.read_u8().await.unwrap();
    eprintln!("up over {}", connection.transport());
    let opener = connection.opener();
    loop {
        tokio::select! {
            _ = line.read_u8() => return,
            user = users.accept() => {
                let (user, _) = user.unwrap();
                let opener = opener.clone();
                tokio::spawn(async move { carry(opener.open().await.unwrap(), user).await });
            }
        }
    }
}

async fn agent(tunnel: SocketAddr, target: SocketAddr, dir: &Path, transport: &str) {
    let mut connection = if transport == "quic" {
        let bind = if tunnel.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let endpoint = quic::agent_endpoint(quic::bind(bind.parse().unwrap()).unwrap(), ClassPair::Standard).unwrap();
        let config = quic::client_config(client(dir)).unwrap();
        Connection::over_quic(endpoint.connect_with(config, tunnel, HOST).unwrap().await.unwrap(), End::Agent)
    } else {
        let tcp = TcpStream::connect(tunnel).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let (tcp, heard) = Metered::over_tcp(tcp);
        let tls = tokio_rustls::TlsConnector::from(Arc::new(client(dir)));
        let tls = tls.connect(HOST.try_into().unwrap(), tcp).await.unwrap();
        Connection::over_metered_tcp(tls, End::Agent, heard)
    };
    let mut line = connection.opener().open().await.unwrap();
    line.write_all(b"!").await.unwrap();
    while let Some(Ok(stream)) = connection.next().await {
        tokio::spawn(async move {
            if let Ok(target) = TcpStream::connect(target).await {
                carry(stream, target).await;
            }
        });
    }
}

#[tokio::main]
async fn main() {
    let said: Vec<String> = std::env::args().skip(1).collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    match said.as_slice() {
        ["gateway", tunnel, users, dir] => {
            gateway(tunnel.parse().unwrap(), users.parse().unwrap(), Path::new(dir)).await;
        }
        ["agent", tunnel, target, dir, transport] => {
            agent(tunnel.parse().unwrap(), target.parse().unwrap(), Path::new(dir), transport).await;
        }
        _ => eprintln!("usage: see the first lines of this file"),
    }
}
