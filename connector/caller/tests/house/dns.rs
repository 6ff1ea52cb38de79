//! DNS servers: Debian's dnsmasq, and a double that answers what a test tells it to.

use std::{
    net::{IpAddr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::{
    net::{TcpStream, UdpSocket},
    process::{Child, Command},
    time::timeout,
};

use super::PATIENCE;

/// A question's answer: addresses and their TTL in seconds; `None` is silence.
pub(crate) type Answer = Option<(Vec<IpAddr>, u32)>;

/// Answers A and AAAA questions over UDP with what `answer` says to (name without the last dot, family).
pub(crate) async fn double(mut answer: impl FnMut(&str, RecordType) -> Answer + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(buffer.get(..length).unwrap()).unwrap();
            let query = question.queries.first().unwrap().clone();
            let name = query.name().to_string().trim_end_matches('.').to_owned();
            let Some((addresses, ttl)) = answer(&name, query.query_type()) else { continue };
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            reply.metadata.message_type = MessageType::Response;
            reply.metadata.recursion_desired = true;
            reply.metadata.recursion_available = true;
            reply.metadata.response_code = ResponseCode::NoError;
            reply.add_query(query.clone());
            for address in addresses.into_iter().filter(|at| at.is_ipv4() == (query.query_type() == RecordType::A)) {
                reply.add_answer(Record::from_rdata(query.name().clone(), ttl, RData::from(address)));
            }
            socket.send_to(&reply.to_vec().unwrap(), asker).await.unwrap();
        }
    });
    address
}

/// A dnsmasq of the test's own. It ends with the value.
pub(crate) struct Dnsmasq {
    _child: Child,
    pub(crate) address: SocketAddr,
}

impl Dnsmasq {
    /// Answers for `hosts`, each `name,address[,address]`, over UDP and TCP, and knows nothing else.
    pub(crate) async fn with(hosts: &[&str]) -> Self {
        // Both protocols are wanted on one port; another test may take it in between.
        for _ in 0..10 {
            let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            let mut command = Command::new("dnsmasq");
            command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll"]);
            command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--user=root", "--pid-file="]);
            command.args(["--log-facility=-", "--edns-packet-max=4096"]).arg(format!("--port={}", free.port()));
            command.args(hosts.iter().map(|host| format!("--host-record={host}")));
            let mut child = command.stderr(Stdio::null()).kill_on_drop(true).spawn().expect("dnsmasq (dnsmasq-base)");
            let up = async {
                loop {
                    if TcpStream::connect(free).await.is_ok() {
                        return true;
                    }
                    if child.try_wait().unwrap().is_some() {
                        return false;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            if timeout(PATIENCE, up).await.expect("dnsmasq in time") {
                return Self { _child: child, address: free };
            }
        }
        panic!("dnsmasq finds no port");
    }
}
