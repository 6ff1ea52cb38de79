//! What reaches the wallet: frames of its sockets, records of its file.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use sluice_control_wallet::{
    Credential, Grant, Key, MAX_FRAME, Owner, RecordName, Request, Response, SealRandom, open, open_tenant_key, seal,
    seal_tenant_key,
};

use crate::{
    codec::accepted,
    wallet_daemon_frame::{read, write},
};

/// Frames: bounded, survive a round trip, are within exactly one grant, and show no password to a log.
///
/// The bytes are read as they are, and once more behind a length that is right.
pub fn wallet_frame(data: &[u8]) {
    one_frame(data);
    let body = data.get(4..).unwrap_or_default();
    one_frame(&[&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat());
}

fn one_frame(data: &[u8]) {
    if let Some(request) = frame::<Request>(data) {
        let grants = Grant::ALL.iter().filter(|grant| grant.permits(&request)).count();
        assert_eq!(grants, 1, "{request:?} is within {grants} grants");
        if let Request::Write { credential, .. } = &request {
            is_kept(credential, &request);
        }
    }
    if let Some(response) = frame::<Response>(data)
        && let Response::Credential { credential } = &response
    {
        is_kept(credential, &response);
    }
}

fn frame<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let mut rest = data;
    let read = read::<T>(&mut rest);
    assert!(data.len() - rest.len() <= 4 + MAX_FRAME);
    let message = read.ok()??;
    accepted();
    let mut written = Vec::new();
    write(&mut written, &message).expect("what fits a frame, fits it again");
    assert_eq!(self::read::<T>(&written[..]).unwrap().as_ref(), Some(&message));
    Some(message)
}

fn is_kept(credential: &Credential, message: &impl Debug) {
    let password = credential.expose_password();
    assert!(password.len() < 8 || !format!("{message:?}").contains(password), "a password is shown");
    assert!(Credential::new(credential.login(), password).is_ok(), "no login that HTTP Basic can carry");
}

/// The seed's record: made again here, it opens; anything else does not.
pub fn wallet_record(data: &[u8]) {
    let (key, kek) = (Key::new([5; 32]), Key::new([6; 32]));
    let name = RecordName {
        tenant: "acme".parse().unwrap(),
        integration: "roundup".parse().unwrap(),
        owner: Owner::Service,
        version: 7,
    };
    let random = SealRandom { key: Key::new([7; 32]), key_nonce: [8; 12], nonce: [9; 12] };
    let sealed = seal(&key, &name, b"a secret", &random).unwrap();
    assert_eq!(open(&key, &name, data).is_ok(), data == sealed);
    if data == sealed {
        accepted();
    }
    let next = RecordName { version: 8, ..name.clone() };
    let other = RecordName { owner: Owner::User("ann".parse().unwrap()), ..name };
    assert!(open(&key, &next, data).is_err() && open(&key, &other, data).is_err(), "it opens under another name");
    assert!(open(&kek, &next, data).is_err());
    let sealed = seal_tenant_key(&kek, &next.tenant, &key, [8; 12]).unwrap();
    assert_eq!(open_tenant_key(&kek, &next.tenant, data).is_ok(), data == sealed);
    if data == sealed {
        accepted();
    }
    assert!(open_tenant_key(&kek, &"other".parse().unwrap(), data).is_err(), "it opens for another tenant");
}
