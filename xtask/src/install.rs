//! What the demo and the tests need on a fresh Debian 12, installed once and named on the terminal.

use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{build::cache, say};

/// Debian packages, and why.
const PACKAGES: &[(&str, &str)] = &[
    ("bind9-dnsutils", "DNS client"),
    ("build-essential", "C compiler for aws-lc and SQLCipher"),
    ("ca-certificates", "download of peers"),
    ("cmake", "aws-lc and zlib-ng builds"),
    ("conntrack", "connection tables"),
    ("coreutils", "timeout"),
    ("curl", "browser and hub client"),
    ("dnsmasq-base", "DHCP and DNS peer"),
    ("ethtool", "single frames on an emulated line"),
    ("git", "list of source files in tests"),
    ("iperf3", "load"),
    ("iproute2", "namespaces, tc"),
    ("iputils-ping", "reachability"),
    ("irtt", "round-trip probes"),
    ("krb5-admin-server", "accounts of the Kerberos test realm"),
    ("krb5-kdc", "KDC of the Kerberos test realm"),
    ("krb5-user", "Kerberos client"),
    ("ldap-utils", "LDAP client"),
    ("libsasl2-modules-gssapi-mit", "LDAP by Kerberos ticket"),
    ("libfaketime", "clocks that are off"),
    ("libstrongswan-standard-plugins", "ECDSA for strongSwan's pki"),
    ("nftables", "packet filter"),
    ("openssl", "throw-away certificate authority"),
    ("openssh-server", "tunnel peer ssh -R"),
    ("perl", "OpenSSL build of SQLCipher"),
    ("pkg-config", "C library look-up"),
    ("python3-venv", "Roundup's environment"),
    ("samba-ad-dc", "domain controller"),
    ("samba-ad-provision", "domain controller"),
    ("softhsm2", "PKCS#11 token"),
    ("squid-openssl", "web proxy: Basic, Digest, NTLM, Kerberos, over TLS"),
    ("strongswan-pki", "EST client"),
    ("tinyproxy", "web proxy"),
    ("udhcpc", "DHCP client"),
    ("util-linux", "setpriv, unshare"),
    ("procps", "process tables"),
];

/// Roundup as PyPI has it; the digest is the release file's.
const ROUNDUP: (&str, &str) = ("2.6.0", "12fd8fb806047415f22131f965c6ab4026a28dc63f7054e055c8f891950591d4");

/// Keeps Debian packages from starting daemons.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs whatever is missing.
pub(crate) fn install() -> Result<()> {
    debian_packages()?;
    roundup()
}

fn debian_packages() -> Result<()> {
    let missing: Vec<_> = PACKAGES.iter().filter(|(name, _)| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    if !is_root()? {
        bail!("these Debian packages are missing; install them as root: apt-get install {}", names.join(" "));
    }
    for (name, reason) in &missing {
        say(&format!("installing Debian package {name} ({reason})"));
    }
    let _policy = NoDaemons::declare()?;
    apt(&["update", "-qq"])?;
    // Some exclude others (squid-openssl and squid): what a machine has is not taken away for our tests.
    apt(&[&["install", "-y", "-qq", "--no-install-recommends", "--no-remove"], names.as_slice()].concat())
        .context("if a package of this machine stands in the way (squid before squid-openssl), remove it yourself")
}

fn installed(package: &str) -> bool {
    let asked = Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]).output();
    asked.is_ok_and(|answer| answer.stdout == b"installed")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let done = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("apt-get is missing; this command needs Debian")?;
    if !done.success() {
        bail!("apt-get {} failed", arguments.first().unwrap_or(&""));
    }
    Ok(())
}

/// While it lives, packages do not start daemons. A policy that was there before stays.
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    fn declare() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(POLICY).is_err() {
            say(&format!("please remove {POLICY}; it keeps packages from starting daemons"));
        }
    }
}

fn roundup() -> Result<()> {
    let (version, digest) = ROUNDUP;
    let folder = cache()?.join("peers").join(format!("roundup-{version}"));
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(());
    }
    say(&format!("installing Roundup {version} from PyPI into {}", folder.display()));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    fs::create_dir_all(&folder)?;
    // Roundup runs as `nobody`, who must be able to read the interpreter: Debian's, not the user's own.
    let made = Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&folder).status()?;
    if !made.success() {
        bail!("python3 -m venv failed; is python3-venv installed?");
    }
    let wanted = folder.join("requirements.txt");
    fs::write(&wanted, format!("roundup=={version} --hash=sha256:{digest}\n"))?;
    let pip = ["install", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r"];
    let done = Command::new(folder.join("bin/pip")).args(pip).arg(&wanted).status()?;
    if !done.success() {
        bail!("pip could not install Roundup {version}");
    }
    fs::write(complete, "").context("cannot mark Roundup as installed")
}

fn is_root() -> Result<bool> {
    let answer = Command::new("id").arg("-u").output().context("cannot run id")?;
    Ok(answer.stdout.trim_ascii() == b"0")
}
