//! Staging judged by real packets: a hub, an edge and the world as three network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::Command,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use sluice_qos_kernel::KernelWriter;
use sluice_qos_plan::{
    LanPort, Links, Pinhole, Transport, WanPort,
    message::{self, Change, FromKernel, ToKernel},
};

const HUB_MAC: &str = "02:00:00:00:0b:01";
/// Long enough for anything that should happen on one machine; only refusals by silence wait for it.
const PATIENCE: Duration = Duration::from_secs(1);

struct World {
    prefix: String,
    kernel: UnixStream,
    serving: Option<JoinHandle<anyhow::Result<()>>>,
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
}

impl World {
    fn new() -> Self {
        let prefix = format!("staging{}", std::process::id());
        let [hub, edge, world] = ["hub", "edge", "world"].map(|name| format!("{prefix}-{name}"));
        for name in [&hub, &edge, &world] {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        ip(&["link", "add", "lan", "netns", &edge, "type", "veth", "peer", "name", "eth0", "netns", &hub]);
        ip(&["link", "add", "wan", "netns", &edge, "type", "veth", "peer", "name", "eth0", "netns", &world]);
        ip(&["-n", &hub, "link", "set", "eth0", "address", HUB_MAC]);
        for (name, port, v4, v6) in [
            (&hub, "eth0", "10.98.1.2/24", "fd98:1::2/64"),
            (&edge, "lan", "10.98.1.1/24", "fd98:1::1/64"),
            (&edge, "wan", "10.98.2.1/24", "fd98:2::1/64"),
            (&world, "eth0", "10.98.2.2/24", "fd98:2::2/64"),
        ] {
            ip(&["-n", name, "addr", "add", v4, "dev", port]);
            ip(&["-n", name, "addr", "add", v6, "dev", port, "nodad"]);
            ip(&["-n", name, "link", "set", port, "up"]);
        }
        for (name, v4, v6) in [(&hub, "10.98.1.1", "fd98:1::1"), (&world, "10.98.2.1", "fd98:2::1")] {
            ip(&["-n", name, "route", "add", "default", "via", v4]);
            ip(&["-n", name, "-6", "route", "add", "default", "via", v6]);
        }
        let (kernel, theirs) = UnixStream::pair().unwrap();
        let serving = within(&edge, move || KernelWriter::start(&links()).unwrap().serve(theirs));
        Self { prefix, kernel, serving: Some(serving) }
    }

    fn ask(&mut self, message: &ToKernel) {
        self.kernel.write_all(&message::encode(message).unwrap()).unwrap();
        let mut prefix = [0; 4];
        self.kernel.read_exact(&mut prefix).unwrap();
        let mut body = vec![0; message::body_length(prefix).unwrap()];
        self.kernel.read_exact(&mut body).unwrap();
        assert_eq!(message::decode::<FromKernel>(&body).unwrap(), FromKernel::Done);
    }

    /// Echoes in the named namespace.
    fn echo(&self, name: &str, address: SocketAddr) {
        let listener =
            within(&format!("{}-{name}", self.prefix), move || TcpListener::bind(address).unwrap()).join().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read(&mut byte).is_ok_and(|read| read == 1) && stream.write_all(&byte).is_ok() {}
                });
            }
        });
    }

    fn connect(&self, name: &str, address: SocketAddr) -> std::io::Result<TcpStream> {
        within(&format!("{}-{name}", self.prefix), move || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        })
        .join()
        .unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _closed = self.kernel.shutdown(std::net::Shutdown::Both);
        let served = self.serving.take().map(JoinHandle::join);
        for name in ["hub", "edge", "world"] {
            let _gone = Command::new("ip").args(["netns", "del", &format!("{}-{name}", self.prefix)]).status();
        }
        if !thread::panicking() {
            assert!(served.unwrap().is_ok());
        }
    }
}

fn links() -> Links {
    Links {
        lan: LanPort { interface: "lan".parse().unwrap(), tcp_services: vec![443], udp_services: vec![53] },
        wan: WanPort { interface: "wan".parse().unwrap(), up_kbit: 20_000, down_kbit: Some(20_000) },
    }
}

/// Runs `work` on a thread whose network is the named namespace.
fn within<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

fn answers(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
}

#[test]
fn e2_a_staged_hub_reaches_pinholes_only_and_restaging_cuts_running_flows() {
    let mut world = World::new();
    let mac = HUB_MAC.parse().unwrap();
    for (hub, there, edge) in [("10.98.1.2", "10.98.2.2", "10.98.1.1"), ("fd98:1::2", "fd98:2::2", "fd98:1::1")] {
        let (hub, there, edge): (IpAddr, IpAddr, IpAddr) =
            (hub.parse().unwrap(), there.parse().unwrap(), edge.parse().unwrap());
        let [service, est] = [5000, 443].map(|port| SocketAddr::new(there, port));
        world.echo("world", service);
        world.echo("world", est);
        world.echo("edge", SocketAddr::new(edge, 443));
        world.echo("edge", SocketAddr::new(edge, 22));
        world.echo("hub", SocketAddr::new(hub, 7000));

        assert!(world.connect("hub", service).is_err(), "staged: {service} must be refused");
        assert!(world.connect("hub", est).is_err(), "no pinhole yet");
        assert!(answers(&mut world.connect("hub", SocketAddr::new(edge, 443)).unwrap()), "the edge's own service");
        assert!(world.connect("hub", SocketAddr::new(edge, 22)).is_err(), "not a service of the edge");

        world.ask(&ToKernel::Pinholes {
            pinholes: vec![Pinhole { transport: Transport::Tcp, address: there, port: 443 }],
        });
        assert!(answers(&mut world.connect("hub", est).unwrap()), "staged hubs reach EST");
        assert!(world.connect("hub", service).is_err(), "and nothing else");

        world.ask(&ToKernel::Devices { changes: vec![Change::Admit { mac, address: hub }] });
        let mut running = world.connect("hub", service).unwrap();
        assert!(answers(&mut running));
        assert!(world.connect("world", SocketAddr::new(hub, 7000)).is_err(), "nobody reaches into the hub LAN");

        world.ask(&ToKernel::Devices { changes: vec![Change::Restage { mac, address: hub }] });
        assert!(!answers(&mut running), "a running flow stops");
        assert!(world.connect("hub", service).is_err());

        let stranger = "02:00:00:00:0b:02".parse().unwrap();
        world.ask(&ToKernel::Devices { changes: vec![Change::Admit { mac: stranger, address: hub }] });
        assert!(world.connect("hub", service).is_err(), "another device's admission is no use");
        world.ask(&ToKernel::RestageAll);
    }
}
