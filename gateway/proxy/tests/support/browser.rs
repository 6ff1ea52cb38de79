//! A browser that can be told to misbehave: raw bytes over TLS, cookies by host.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{LOGIN, PATIENCE, Rig};

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    pub fn one(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or("")
    }
}

pub struct Browser {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    pub jar: BTreeMap<(String, String), String>,
}

impl Browser {
    pub fn new(rig: &Rig) -> Self {
        let mut config = ClientConfig::builder().with_root_certificates(rig.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { address: rig.address, config: Arc::new(config), jar: BTreeMap::new() }
    }

    /// Comes in by IPv6 from now on.
    pub fn over_ipv6(mut self, rig: &Rig) -> Self {
        self.address = rig.address_v6;
        self
    }

    pub async fn connect(&self, host: &str) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(self.config.clone()).connect(name, stream).await.unwrap()
    }

    /// Whether a page can be had.
    pub async fn try_get(&self, host: &str) -> bool {
        let Ok(stream) = TcpStream::connect(self.address).await else { return false };
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(self.config.clone()).connect(name, stream).await.is_ok()
    }

    pub fn cookies(&self, host: &str) -> String {
        let pairs =
            self.jar.iter().filter(|((at, _), _)| at == host).map(|((_, name), value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    /// Sends `bytes` to `host` on a connection of its own; gives everything that comes back.
    pub async fn raw(&self, host: &str, bytes: &[u8]) -> String {
        let mut tls = self.connect(host).await;
        tls.write_all(bytes).await.unwrap();
        let mut all = Vec::new();
        let _cut_off = timeout(PATIENCE, tls.read_to_end(&mut all)).await.expect("an end");
        String::from_utf8_lossy(&all).into_owned()
    }

    /// One exchange with extra header lines; keeps cookies.
    pub async fn send(&mut self, method: &str, host: &str, path: &str, extra: &str, body: &str) -> Answer {
        let cookies = match self.cookies(host) {
            none if none.is_empty() => none,
            some => format!("Cookie: {some}\r\n"),
        };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{cookies}{extra}{length}Connection: close\r\n\r\n{body}"
        );
        let answer = read(&self.raw(host, request.as_bytes()).await);
        for field in answer.all("set-cookie") {
            let (name, value) = field.split(';').next().unwrap().split_once('=').unwrap();
            let kept = (host.to_owned(), name.to_owned());
            if field.contains("Max-Age=0") {
                self.jar.remove(&kept);
            } else {
                self.jar.insert(kept, value.to_owned());
            }
        }
        answer
    }

    pub async fn get(&mut self, host: &str, path: &str) -> Answer {
        self.send("GET", host, path, "", "").await
    }

    /// Follows redirects, at most five.
    pub async fn open(&mut self, host: &str, path: &str) -> Answer {
        let mut answer = self.get(host, path).await;
        for _ in 0..5 {
            let Some(location) = answer.one("location").strip_prefix("https://").map(str::to_owned) else { break };
            let (host, path) = location.split_once('/').unwrap();
            answer = self.get(host, &format!("/{path}")).await;
        }
        answer
    }

    /// Fills in the form of `page` and follows.
    pub async fn sign_in(&mut self, page: &Answer, login: &str, password: &str) -> Answer {
        let body = format!(
            "form_token={}&return={}&login={login}&password={}",
            hidden(&page.body, "form_token"),
            hidden(&page.body, "return"),
            password.replace(' ', "+")
        );
        let answer = self.post_form("/login", &body).await;
        match answer.one("location").strip_prefix("https://").map(str::to_owned) {
            Some(location) => {
                let (host, path) = location.split_once('/').unwrap();
                self.open(host, &format!("/{path}")).await
            }
            None => answer,
        }
    }

    pub async fn post_form(&mut self, path: &str, body: &str) -> Answer {
        let kind = "Content-Type: application/x-www-form-urlencoded\r\nOrigin: https://login.acme.test\r\n";
        self.send("POST", LOGIN, path, kind, body).await
    }

    pub async fn signed_in(rig: &Rig, host: &str, login: &str) -> Self {
        let mut browser = Self::new(rig);
        let page = browser.open(host, "/").await;
        assert_eq!(page.status, 200, "{}", page.body);
        let answer = browser.sign_in(&page, login, &format!("{login}s secret")).await;
        assert_ne!(answer.status, 401, "{}", answer.body);
        browser
    }
}

pub fn read(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub fn hidden(html: &str, name: &str) -> String {
    let (_, rest) = html.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}
