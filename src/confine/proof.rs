//! Trying what must now be impossible.

use std::{fs::File, io::ErrorKind};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

/// Both attempts would succeed (or fail in another way) in an unconfined process.
pub(super) fn check() -> anyhow::Result<()> {
    match File::open("/") {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
        Err(error) => anyhow::bail!("opening / failed, but not by Landlock: {error}"),
        Ok(_) => anyhow::bail!("/ can still be opened"),
    }
    // Unprivileged processes may open AF_ALG sockets, and no kernel answers EPERM: only our filter does.
    match socket(AddressFamily::Alg, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None) {
        Err(Errno::EPERM) => Ok(()),
        Err(error) => anyhow::bail!("a foreign socket was refused, but not by seccomp: {error}"),
        Ok(_) => anyhow::bail!("sockets of foreign families can still be opened"),
    }
}
