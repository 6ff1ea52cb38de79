//! A factory-fresh hub: `udhcpc`, strongSwan's `pki`, `curl` and what its image carries; nobody types anything.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{Ended, output, run},
    topology::Ns,
};

/// What the hub says it is (DHCP option 60).
pub(super) const VENDOR_CLASS: &str = "SluiceHub:m7";
/// Its name, in its image.
pub(super) const NAME: &str = "hub-0001";

/// The device.
#[derive(Debug)]
pub(super) struct Hub {
    ns: Ns,
    folder: PathBuf,
}

/// What its DHCP client was told.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) address: IpAddr,
    pub(super) router: String,
    pub(super) dns: String,
    /// URL in option 43, sub-option 1.
    pub(super) discovery: Option<String>,
    /// URL in option 143 (RFC 8572).
    pub(super) bootstrap: Option<String>,
}

/// Runs when the lease is there; writes everything it was told into a file.
const HOOK: &str = "\
#!/bin/sh
[ \"$1\" = bound ] || [ \"$1\" = renew ] || exit 0
ip -4 addr flush dev $interface
ip addr add $ip/$mask dev $interface
for r in $router; do ip route replace default via $r; done
: > /etc/resolv.conf
for d in $dns; do echo nameserver $d >> /etc/resolv.conf; done
env > \"$SLUICE_LEASE\"
";

impl Hub {
    pub(super) fn new(ns: &Ns, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let hook = folder.join("hook");
        fs::write(&hook, HOOK)?;
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ns: ns.clone(), folder: folder.to_owned() })
    }

    pub(super) fn ns(&self) -> &Ns {
        &self.ns
    }

    /// Writes what the maker put into the image: the right (a code) and the trust (the tenant's hub root).
    pub(super) fn image(&self, code: &str, root: &str) -> Result<()> {
        fs::write(self.folder.join("pin.pem"), root)?;
        // strongSwan reads options from a file: the code never stands in a process list.
        self.secret("options", &format!("--userpass {NAME}:{code}\n"))
    }

    fn secret(&self, name: &str, text: &str) -> Result<()> {
        let mut open = fs::OpenOptions::new();
        let mut file = open.create(true).truncate(true).write(true).mode(0o600).open(self.folder.join(name))?;
        file.write_all(text.as_bytes()).context("cannot write the hub's image")
    }

    /// Asks for a lease.
    pub(super) fn lease(&self) -> Result<Lease> {
        self.lease_as(VENDOR_CLASS)
    }

    /// Asks for a lease, saying that it is a device of this vendor class.
    pub(super) fn lease_as(&self, vendor_class: &str) -> Result<Lease> {
        let told = self.folder.join("lease");
        let mut udhcpc = self.ns.command("udhcpc");
        udhcpc.args(["-f", "-n", "-q", "-t", "5", "-T", "1", "-i", "eth0", "-V", vendor_class]);
        udhcpc.args(["-O", "43", "-O", "114", "-O", "143", "-s"]).arg(self.folder.join("hook"));
        udhcpc.env("SLUICE_LEASE", &told);
        let ended = run(&udhcpc, Duration::from_secs(20))?;
        if ended.code != 0 {
            bail!("udhcpc got no lease: {}", ended.stderr);
        }
        Lease::read(&fs::read_to_string(&told).context("udhcpc ended without calling its script")?)
    }

    /// The address the router advertisement gave it.
    pub(super) fn global_v6(&self) -> Result<Option<IpAddr>> {
        let mut ip = Command::new("ip");
        let listed =
            output(ip.args(["-n", self.ns.name(), "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global"]))?;
        let word = listed.split_whitespace().skip_while(|word| *word != "inet6").nth(1);
        Ok(word.and_then(|cidr| cidr.split('/').next()).and_then(|address| address.parse().ok()))
    }

    /// Asks the resolver it was given for a name; gives the addresses.
    pub(super) fn resolve(&self, name: &str) -> Result<Vec<IpAddr>> {
        let ended = run(self.ns.command("getent").args(["ahosts", name]), Duration::from_secs(15))?;
        let mut found: Vec<IpAddr> =
            ended.stdout.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Asks the edge, its router, for the discovery document.
    pub(super) fn discovery(&self, router: &str) -> Result<String> {
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "-m", "10", "--fail"]).arg(format!("http://{router}/.well-known/sluice/discovery"));
        output(&curl)
    }

    /// Makes a key and enrols at `url`, trusting only the image's pin. The answer may be a refusal.
    pub(super) fn enrol(&self, url: &str) -> Result<Ended> {
        let shell = "\
            set -e; umask 077\n\
            pki --gen --type ecdsa --size 256 --outform pem > hub.key\n\
            pki --req --in hub.key --type ecdsa --dn \"CN=$2\" --outform der > hub.csr\n\
            pki --estca --url \"$1\" --cacert pin.pem --caout root --force --outform pem > /dev/null\n\
            pki --est --url \"$1\" --cacert pin.pem --in hub.csr --outform pem --options options > hub.pem.new\n\
            mv hub.pem.new hub.pem\n";
        let mut sh = self.ns.command("sh");
        sh.args(["-c", shell, "enrol", url, NAME]).current_dir(&self.folder);
        run(&sh, Duration::from_secs(60))
    }

    /// Subject alternative names of the certificate it holds.
    pub(super) fn certificate_names(&self) -> Result<String> {
        let mut openssl = Command::new("openssl");
        openssl.args(["x509", "-noout", "-issuer", "-ext", "subjectAltName", "-in"]).arg(self.folder.join("hub.pem"));
        output(&openssl)
    }

    /// Checks in at the edge with its certificate; gives status code and body.
    pub(super) fn check_in(&self, host: &str) -> Result<Ended> {
        let mut curl = self.ns.command("curl");
        curl.args(["-sS", "-m", "20", "-w", "\n%{http_code}", "-X", "POST", "--cacert"]);
        curl.arg(self.folder.join("pin.pem")).arg("--cert").arg(self.folder.join("hub.pem"));
        curl.arg("--key").arg(self.folder.join("hub.key"));
        curl.arg(format!("https://{host}/.well-known/sluice/checkin"));
        run(&curl, Duration::from_secs(30))
    }
}

impl Lease {
    fn read(environment: &str) -> Result<Self> {
        let value = |key: &str| {
            let line = environment.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(str::to_owned)
        };
        let address = value("ip").context("the lease has no address")?;
        Ok(Self {
            address: address.parse()?,
            router: value("router").unwrap_or_default(),
            dns: value("dns").unwrap_or_default(),
            discovery: value("opt43").as_deref().and_then(bytes).and_then(|option| vendor_text(&option)),
            bootstrap: value("opt143").as_deref().and_then(bytes).and_then(|option| bootstrap_text(&option)),
        })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| u8::try_from(pair.first()? * 16 + pair.get(1)?).ok()).collect()
}

/// Text of sub-option 1 in option 43 (RFC 2132 §8.4).
fn vendor_text(option: &[u8]) -> Option<String> {
    let mut rest = option;
    while let [code, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *code == 1 {
            return String::from_utf8(value.to_vec()).ok();
        }
        rest = tail.get(usize::from(*length)..)?;
    }
    None
}

/// First URI of option 143 (RFC 8572 §8.1).
fn bootstrap_text(option: &[u8]) -> Option<String> {
    let [high, low, tail @ ..] = option else { return None };
    String::from_utf8(tail.get(..usize::from(u16::from_be_bytes([*high, *low])))?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::Lease;

    #[test]
    fn options_arrive_as_hex_and_are_read() {
        let environment = "ip=10.0.0.5\nrouter=10.0.0.1\ndns=10.0.0.1\nopt43=01056874747073ff00\nopt143=000268690001\n";
        let lease = Lease::read(environment).unwrap();
        assert_eq!(lease.discovery.as_deref(), Some("https"));
        assert_eq!(lease.bootstrap.as_deref(), Some("hi"));
        assert!(Lease::read("router=1").is_err());
    }
}
