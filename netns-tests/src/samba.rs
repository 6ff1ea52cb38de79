//! A directory nobody here wrote: Debian's Samba as domain controller of CORP.TEST, with the usual clients.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    process::{Process, output},
    topology::Ns,
};

/// The domain, as Kerberos spells it.
pub const REALM: &str = "CORP.TEST";
/// The controller's name; tickets are for it, so clients must call it so.
pub const HOST: &str = "dc1.corp.test";

/// Time to make the domain; it takes 5 s on an idle machine.
const PROVISION: Duration = Duration::from_secs(60);
/// Time to start; the first start makes an RSA key.
const START: Duration = Duration::from_secs(30);

/// A running domain controller, on `lo` of its namespace only. It ends with the value.
#[derive(Debug)]
pub struct Samba {
    process: Process,
    ns: Ns,
    folder: PathBuf,
}

impl Samba {
    /// Makes the domain in `folder`, with accounts `users` (name, password), and serves it at `address` of `ns`.
    ///
    /// # Errors
    /// A program is missing or refuses.
    pub fn start(ns: &Ns, folder: &Path, address: Ipv4Addr, users: &[(&str, &str)]) -> Result<Self> {
        ns.hosts(&[(IpAddr::V4(address), HOST)])?;
        let configuration = folder.join("smb.conf");
        let own = folder.join("ad");
        let mut tool = ns.command("timeout");
        tool.arg(PROVISION.as_secs().to_string()).args(["samba-tool", "domain", "provision", "--server-role=dc"]);
        tool.args([&format!("--realm={REALM}"), "--domain=CORP", "--dns-backend=SAMBA_INTERNAL", "--host-name=dc1"]);
        tool.arg(format!("--host-ip={address}")).arg(format!("--targetdir={}", own.display()));
        // The tool makes a password of its own; nobody here needs the administrator.
        output(&tool).context("making the domain (Debian packages samba-ad-dc, samba-ad-provision)")?;
        for name in ["cache", "ncalrpc"] {
            fs::create_dir_all(own.join(name))?;
        }
        fs::write(&configuration, options(&own, address))?;
        let samba = |words: &[&str]| -> Result<()> {
            let mut tool = ns.command("samba-tool");
            tool.args(words).arg("-H").arg(own.join("private/sam.ldb")).arg("-s").arg(&configuration);
            output(&tool).map(drop)
        };
        samba(&["domain", "passwordsettings", "set", "--min-pwd-age=0"])?;
        for (name, password) in users {
            samba(&["user", "create", name, password])?;
        }
        // A running one's script would do this some seconds after the start.
        samba(&["spn", "add", &format!("ldap/{HOST}"), "DC1$"])?;
        let mut command = ns.command("samba");
        command.args(["--foreground", "--no-process-group", "--model=single", "-s"]).arg(&configuration);
        let mut process = Process::start("samba", command, folder)?;
        for port in [88, 389, 464, 636] {
            process.wait_for_port(ns, SocketAddr::new(address.into(), port), START)?;
        }
        Ok(Self { process, ns: ns.clone(), folder: own })
    }

    /// Root of its LDAPS certificate.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.join("private/tls/ca.pem")
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &Ns {
        &self.ns
    }
}

/// Everything in its own folder, no file service, no group policy.
fn options(own: &Path, address: Ipv4Addr) -> String {
    let own = own.display();
    format!(
        "[global]\nrealm = {REALM}\nworkgroup = CORP\nnetbios name = DC1\n\
         server role = active directory domain controller\nserver services = ldap cldap kdc dns\n\
         interfaces = {address}\nbind interfaces only = yes\ntls enabled = yes\nlogging = file\nlog file = {own}/log\n\
         private dir = {own}/private\nstate directory = {own}/state\ncache directory = {own}/cache\n\
         lock directory = {own}\nbinddns dir = {own}/bind-dns\npid directory = {own}\nncalrpc dir = {own}/ncalrpc\n\
         ntp signd socket directory = {own}/ntp\nwinbindd socket directory = {own}/winbindd\n"
    )
}

/// A user's desk: MIT Kerberos and OpenLDAP, told to look for the domain at one address.
#[derive(Debug)]
pub struct Desk {
    ns: Ns,
    folder: PathBuf,
}

/// How a Kerberos client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Only TCP.
    Tcp,
    /// UDP first, and TCP when the controller says that its answer is too long for a datagram.
    Udp,
}

impl Desk {
    /// A desk in `ns` for which the domain is at `address`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn new(ns: &Ns, folder: &Path, address: Ipv4Addr) -> Result<Self> {
        // Only this name for the address: SASL asks for the ticket of the name that it finds there.
        fs::write(ns.etc().join("hosts"), format!("{address} {HOST}\n"))?;
        for (wire, limit) in [(Wire::Tcp, 1), (Wire::Udp, 65_000)] {
            let text = format!(
                "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\ndns_lookup_realm = false\nrdns = false\n\
                 dns_canonicalize_hostname = false\nudp_preference_limit = {limit}\n\
                 [realms]\n{REALM} = {{\n kdc = {address}:88\n kpasswd_server = {address}:464\n}}\n"
            );
            fs::write(folder.join(format!("krb5-{wire:?}.conf")), text)?;
        }
        Ok(Self { ns: ns.clone(), folder: folder.to_owned() })
    }

    /// Gets a ticket for `user`; gives what the library says it sent and received.
    ///
    /// # Errors
    /// It was not given.
    pub fn sign_on(&self, user: &str, password: &str, wire: Wire) -> Result<String> {
        let mut command = self.kerberos("kinit", wire);
        self.traced(command.arg(user), &format!("{password}\n"))
    }

    /// Changes a password by the Kerberos password protocol (RFC 3244); gives what was sent and received.
    ///
    /// # Errors
    /// It was refused.
    pub fn change_password(&self, user: &str, old: &str, new: &str) -> Result<String> {
        let mut command = self.kerberos("kpasswd", Wire::Tcp);
        self.traced(command.arg(user), &format!("{old}\n{new}\n{new}\n"))
    }

    /// Searches the directory for an account, with `ldapsearch` and these words before the filter; gives its name.
    ///
    /// # Errors
    /// It was refused.
    pub fn search(&self, root: &Path, words: &[&str], account: &str) -> Result<String> {
        let mut command = self.kerberos("ldapsearch", Wire::Tcp);
        command.env("LDAPTLS_CACERT", root).env("LDAPTLS_REQCERT", "demand");
        command.args(["-LLL", "-N", "-o", "nettimeout=10", "-b", "dc=corp,dc=test"]).args(words);
        let found = output(command.args([&format!("(sAMAccountName={account})"), "dn"]))?;
        let line = found.lines().find_map(|line| line.strip_prefix("dn: ")).context("nothing was found")?;
        Ok(line.to_owned())
    }

    fn kerberos(&self, program: &str, wire: Wire) -> Command {
        let mut command = self.ns.command(program);
        command.env("KRB5_CONFIG", self.folder.join(format!("krb5-{wire:?}.conf")));
        command.env("KRB5CCNAME", format!("FILE:{}", self.folder.join("tickets").display()));
        command
    }

    /// Runs a program that asks for passwords on its standard input; gives its library's trace.
    fn traced(&self, command: &mut Command, text: &str) -> Result<String> {
        let trace = tempfile::NamedTempFile::new_in(&self.folder)?;
        command.env("KRB5_TRACE", trace.path());
        let input = self.folder.join("input");
        fs::write(&input, text)?;
        fs::set_permissions(&input, fs::Permissions::from_mode(0o600))?;
        let mut timed = Command::new("timeout");
        timed.arg("30").arg(command.get_program()).args(command.get_args());
        timed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let ended = timed.stdin(Stdio::from(fs::File::open(&input)?)).output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        ensure!(ended.status.success(), "{:?} gave {}: {said}", command.get_program(), ended.status);
        Ok(fs::read_to_string(trace.path())?)
    }
}
