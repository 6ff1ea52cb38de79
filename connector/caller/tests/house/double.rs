//! An agent that does what the test tells it.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use sluice_connector_mux::{Connection, End, Stream, read_frame, write_frame};
use sluice_connector_server::{Arrived, TunnelServer};
use sluice_connector_wire::{AgentHello, AgentSays, ClassPair, GatewaySays, OpenReply, OpenRequest};
use tokio::time::timeout;

use super::{House, PATIENCE};

/// One connection of it, whose hello has been taken.
pub(crate) struct Double {
    pub(crate) connection: Connection,
    pub(crate) line: Stream,
    pings: u64,
}

impl Double {
    /// Connects as `shown` and says hello. The gateway has taken note of it when this returns.
    pub(crate) async fn connect(
        house: &House,
        server: &TunnelServer,
        shown: &Arc<CertifiedKey>,
        sid: &str,
        pair: ClassPair,
    ) -> Self {
        let mut double = Self::half_open(house, server, shown).await.expect("not closed before its hello");
        let hello = AgentHello { sid: sid.to_owned(), pair };
        write_frame(&mut double.line, &hello, PATIENCE).await.unwrap();
        // Whoever answers a ping has read the hello before it.
        double.ping(Some(1_000), 0, 100).await;
        double
    }

    /// Connects and says nothing; `None` when the gateway has closed it already.
    pub(crate) async fn half_open(house: &House, server: &TunnelServer, shown: &Arc<CertifiedKey>) -> Option<Self> {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let own = house.gateway.cert.first().unwrap().to_vec();
        let (door, leaf) = (server.clone(), shown.cert.first().unwrap().to_vec());
        tokio::spawn(async move { drop(door.serve_tunnel(Arrived::over_tcp(far, leaf, own)).await) });
        let connection = Connection::over_tcp(near, End::Agent);
        let line = connection.opener().open().await.ok()?;
        Some(Self { connection, line, pings: 0 })
    }

    pub(crate) async fn say(&mut self, say: AgentSays) {
        write_frame(&mut self.line, &say, PATIENCE).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> GatewaySays {
        read_frame(&mut self.line, PATIENCE).await.unwrap()
    }

    /// Pings and waits for the answer, so that everything said before has been heard.
    pub(crate) async fn ping(&mut self, rtt_micros: Option<u32>, streams: u32, room: u32) {
        self.pings += 1;
        let number = self.pings;
        self.say(AgentSays::Ping { number, rtt_micros, streams, room }).await;
        assert_eq!(self.hear().await, GatewaySays::Pong { number });
    }

    /// The next stream that the gateway opens, and its token.
    pub(crate) async fn asked(&mut self) -> (Stream, String) {
        let next = timeout(PATIENCE, self.connection.next()).await.expect("a stream in time");
        let mut stream = next.expect("the connection lives").unwrap();
        match read_frame(&mut stream, PATIENCE).await.unwrap() {
            OpenRequest::Direct { token } => (stream, token),
            OpenRequest::Sealed => panic!("a sealed stream"),
        }
    }

    /// Takes the next stream as an agent does that reached the target.
    pub(crate) async fn open_next(&mut self) -> Stream {
        let (mut stream, _token) = self.asked().await;
        write_frame(&mut stream, &OpenReply::Open, PATIENCE).await.unwrap();
        stream
    }

    /// Whether the gateway has closed the connection, now or soon.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let next = timeout(PATIENCE, self.connection.next()).await;
        next.is_ok_and(|next| next.is_none_or(|next| next.is_err()))
    }
}
