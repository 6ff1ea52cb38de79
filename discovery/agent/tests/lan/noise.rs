//! Bytes that mean nothing, sent to every listening port.

use std::{
    io::Write,
    net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use sluice_netns_tests::topology::Ns;

/// A small generator with a fixed seed, so that a failure repeats.
struct Bytes(u64);

impl Bytes {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn take(&mut self, most: u64) -> Vec<u8> {
        let length = self.next() % most;
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// `rounds` datagrams and a tenth as many connections to each port, from inside `hub`. Gives how many arrived at
/// sockets, as far as a sender can tell.
pub(crate) fn everywhere(hub: &Ns, rounds: usize) -> usize {
    hub.enter(move || {
        let mut sent = 0;
        let mut bytes = Bytes(7);
        let edge: [IpAddr; 2] = ["10.77.0.1".parse().unwrap(), "2001:db8:77::1".parse().unwrap()];
        for to in edge {
            let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
            let socket = UdpSocket::bind(any).unwrap();
            for round in 0..rounds {
                let mut packet = bytes.take(1500);
                // Half of them begin like the real thing.
                if round % 2 == 0 && packet.len() > 240 {
                    packet[..3].copy_from_slice(&[1, 1, 6]);
                    packet[24..28].fill(0);
                    packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
                }
                for port in [53, 67] {
                    // A closed port answers by an error on the next call; that is no concern here.
                    sent += usize::from(socket.send_to(&packet, (to, port)).is_ok());
                }
            }
            for _ in 0..rounds / 10 {
                for port in [53, 80, 443] {
                    let Ok(mut stream) = TcpStream::connect_timeout(&(to, port).into(), Duration::from_secs(5)) else {
                        continue;
                    };
                    sent += usize::from(stream.write_all(&bytes.take(3000)).is_ok());
                    let _gone = stream.shutdown(Shutdown::Both);
                }
            }
        }
        sent
    })
    .unwrap()
}
