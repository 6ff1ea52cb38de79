#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    io::{Read, Write},
    thread::{self, JoinHandle},
};

use sluice_discovery_rules::{HubService, StagingDestination};
use sluice_qos_plan::QosPolicy;

use super::*;

fn document(port: u16) -> EdgeDocument {
    EdgeDocument {
        tenant: "acme".parse().unwrap(),
        site: "branch-1".parse().unwrap(),
        classes: Vec::new(),
        service: HubService {
            discovery_url: "https://est.acme.test".into(),
            est_host: "est.acme.test".into(),
            est_addresses: Vec::new(),
            checkin_host: "checkin.acme.test".into(),
        },
        staging: vec![StagingDestination { address: "192.0.2.1".parse().unwrap(), port }],
        qos: QosPolicy::default(),
    }
}

/// A kernel writer that refuses what `refuses` says; gives what it was asked.
fn kernel(
    mut socket: StdUnixStream,
    refuses: impl Fn(&ToKernel) -> bool + Send + 'static,
) -> JoinHandle<Vec<ToKernel>> {
    thread::spawn(move || {
        let mut asked = Vec::new();
        let mut prefix = [0; 4];
        while socket.read_exact(&mut prefix).is_ok() {
            let mut body = vec![0; message::body_length(prefix).unwrap()];
            socket.read_exact(&mut body).unwrap();
            let request: ToKernel = message::decode(&body).unwrap();
            let answer = if refuses(&request) { FromKernel::Refused { reason: "no".into() } } else { FromKernel::Done };
            asked.push(request);
            socket.write_all(&message::encode(&answer).unwrap()).unwrap();
        }
        asked
    })
}

fn ports(asked: &[ToKernel]) -> Vec<u16> {
    let lists =
        asked.iter().filter_map(|ask| if let ToKernel::Pinholes { pinholes } = ask { Some(pinholes) } else { None });
    lists.flatten().map(|hole| hole.port).collect()
}

#[tokio::test]
async fn a_refused_policy_brings_the_former_pinholes_back() {
    let (mine, theirs) = StdUnixStream::pair().unwrap();
    let mut policies = 0;
    let counter = std::sync::atomic::AtomicUsize::new(0);
    let kernel = kernel(theirs, move |ask| {
        matches!(ask, ToKernel::Policy { .. }) && counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1
    });
    let (mut writer, _gone) = connect(mine, Vec::new()).unwrap();
    for (port, expected) in [(443, Ok(())), (444, Err("no".to_owned())), (445, Ok(()))] {
        assert_eq!(writer.document(&document(port)).await.unwrap(), expected);
        policies += 1;
    }
    assert_eq!(policies, 3);
    drop(writer);
    assert_eq!(ports(&kernel.join().unwrap()), [443, 444, 443, 445]);
}

#[tokio::test]
async fn an_admission_that_is_refused_is_an_error() {
    let (mine, theirs) = StdUnixStream::pair().unwrap();
    let kernel = kernel(
        theirs,
        |ask| matches!(ask, ToKernel::Devices { changes } if matches!(changes[..], [Change::Admit { .. }, ..])),
    );
    let (mut writer, _gone) = connect(mine, Vec::new()).unwrap();
    let (mac, address) = ("02:00:00:00:00:01".parse().unwrap(), "10.0.0.1".parse().unwrap());
    assert!(writer.apply(&[Action::Admit { mac, address }]).await.is_err());
    writer.apply(&[Action::Restage { mac, address }]).await.unwrap();
    drop(writer);
    assert_eq!(kernel.join().unwrap().len(), 2);
}

#[tokio::test]
async fn a_kernel_writer_that_goes_or_talks_nonsense_is_noticed() {
    for nonsense in [&b""[..], b"\x00\x00\x00\x02{}", b"\xff\xff\xff\xff"] {
        let (mine, mut theirs) = StdUnixStream::pair().unwrap();
        let (mut writer, mut gone) = connect(mine, Vec::new()).unwrap();
        theirs.write_all(nonsense).unwrap();
        drop(theirs);
        gone.wait_for(|gone| *gone).await.unwrap();
        assert!(writer.ask(&ToKernel::RestageAll).await.is_err());
    }
}

#[tokio::test]
async fn e2_staged_hubs_may_ask_the_time_servers_they_are_told() {
    let (mine, theirs) = StdUnixStream::pair().unwrap();
    let kernel = kernel(theirs, |_| false);
    let (mut writer, _gone) = connect(mine, vec![[192, 0, 2, 123].into()]).unwrap();
    writer.document(&document(443)).await.unwrap().unwrap();
    drop(writer);
    let asked = kernel.join().unwrap();
    let Some(ToKernel::Pinholes { pinholes }) = asked.first() else { panic!("{asked:?}") };
    let clock = Pinhole { transport: Transport::Udp, address: [192, 0, 2, 123].into(), port: 123 };
    assert!(pinholes.contains(&clock) && pinholes.len() == 2, "{pinholes:?}");
}
