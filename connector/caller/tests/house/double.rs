//! An agent that does what the test tells it.

use std::{sync::Arc, time::Duration};

use rustls::sign::CertifiedKey;
use sluice_connector_mux::{Connection, End, Stream, read_frame, write_frame};
use sluice_connector_server::{Arrived, TunnelServer};
use sluice_connector_wire::{AgentHello, AgentSays, ClassPair, GatewaySays, OpenReply, OpenRequest};
use tokio::{
    io::{ReadHalf, WriteHalf, split},
    sync::Mutex,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{House, PATIENCE};

/// Pings that only keep it alive have numbers from here on.
const HEART: u64 = 1 << 32;
const BEAT: Duration = Duration::from_millis(500);

type Line = Arc<Mutex<WriteHalf<Stream>>>;

/// One connection of it.
pub(crate) struct Double {
    pub(crate) connection: Connection,
    pub(crate) line: Line,
    hearing: ReadHalf<Stream>,
    pings: u64,
    _heart: Option<AbortOnDropHandle<()>>,
}

impl Double {
    /// Connects as `shown`, says hello and pings from then on. The gateway has taken note of it when this returns.
    pub(crate) async fn connect(
        house: &House,
        server: &TunnelServer,
        shown: &Arc<CertifiedKey>,
        sid: &str,
        pair: ClassPair,
    ) -> Self {
        let mut double = Self::connect_silent(house, server, shown, sid, pair).await;
        let line = double.line.clone();
        double._heart = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            for number in HEART.. {
                sleep(BEAT).await;
                let ping = AgentSays::Ping { number, rtt_micros: None, streams: 0, room: 100 };
                if write_frame(&mut *line.lock().await, &ping, PATIENCE).await.is_err() {
                    return;
                }
            }
        })));
        double
    }

    /// The same, but it pings when the test says so.
    pub(crate) async fn connect_silent(
        house: &House,
        server: &TunnelServer,
        shown: &Arc<CertifiedKey>,
        sid: &str,
        pair: ClassPair,
    ) -> Self {
        let mut double = Self::half_open(house, server, shown).await.expect("not closed before its hello");
        double.hello(sid, pair).await;
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
        let (hearing, line) = split(connection.opener().open().await.ok()?);
        Some(Self { connection, line: Arc::new(Mutex::new(line)), hearing, pings: 0, _heart: None })
    }

    /// Says hello, to a gateway that may have gone.
    pub(crate) async fn hello(&self, sid: &str, pair: ClassPair) {
        let hello = AgentHello { sid: sid.to_owned(), pair };
        let _sent = write_frame(&mut *self.line.lock().await, &hello, PATIENCE).await;
    }

    pub(crate) async fn say(&self, say: AgentSays) {
        write_frame(&mut *self.line.lock().await, &say, PATIENCE).await.unwrap();
    }

    /// What the gateway says next; answers to its heart do not count.
    pub(crate) async fn hear(&mut self) -> GatewaySays {
        loop {
            match read_frame(&mut self.hearing, PATIENCE).await.unwrap() {
                GatewaySays::Pong { number } if number >= HEART => {}
                said => return said,
            }
        }
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
