//! A customer's web proxy that lets nobody out without a Kerberos ticket: MIT's KDC and Debian's squid.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::PATIENCE;
use crate::{
    process::{Process, output},
    topology::Ns,
};

const REALM: &str = "CORP.TEST";
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 30, 0, 30)), 3128);
const KDC: SocketAddr = SocketAddr::new(PROXY.ip(), 88);

/// Both, running.
#[derive(Debug)]
pub struct KerberosProxy {
    folder: PathBuf,
    _kdc: Process,
    _squid: Process,
}

impl KerberosProxy {
    /// Starts both in `ns` (10.30.0.30); `folder` becomes theirs.
    ///
    /// # Errors
    /// A program is missing or does not come up.
    pub fn start(ns: &Ns, folder: &Path, logs: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        write_files(folder)?;
        let inside = |program: &str| {
            let mut command = ns.command(program);
            command.env("KRB5_CONFIG", folder.join("krb5.conf")).env("KRB5_KDC_PROFILE", folder.join("kdc.conf"));
            command
        };
        output(inside("/usr/sbin/kdb5_util").args(["create", "-s", "-P", "master", "-r", REALM]))?;
        let (proxy, robot) = (folder.join("proxy.keytab"), folder.join("robot.keytab"));
        for query in [
            "addprinc -randkey HTTP/proxy.corp.test".to_owned(),
            "addprinc -randkey robot".to_owned(),
            format!("ktadd -k {} HTTP/proxy.corp.test", proxy.display()),
            format!("ktadd -k {} robot", robot.display()),
        ] {
            output(inside("/usr/sbin/kadmin.local").args(["-r", REALM, "-q", &query]))?;
        }
        fs::set_permissions(&robot, fs::Permissions::from_mode(0o600))?;
        // Squid and its helper run as another user.
        fs::set_permissions(&proxy, fs::Permissions::from_mode(0o644))?;
        let mut kdc = inside("/usr/sbin/krb5kdc");
        kdc.arg("-n");
        let mut kdc = Process::start("kdc", kdc, logs)?;
        kdc.wait_for_port(ns, KDC, PATIENCE)?;
        let mut squid: Command = inside("/usr/sbin/squid");
        squid.args(["-N", "-f"]).arg(folder.join("squid.conf"));
        let mut squid = Process::start("squid", squid, logs)?;
        squid.wait_for_port(ns, PROXY, PATIENCE)?;
        Ok(Self { folder: folder.to_owned(), _kdc: kdc, _squid: squid })
    }

    /// What a connector's file says to go out this way.
    #[must_use]
    pub fn section(&self) -> String {
        format!(
            "\n[web_proxy]\nurl = \"http://proxy.corp.test:{}\"\n[web_proxy.kerberos]\nprincipal = \"robot\"\n\
             realm = \"{REALM}\"\nkdc = [\"{KDC}\"]\nkeytab = \"{}\"\n",
            PROXY.port(),
            self.folder.join("robot.keytab").display()
        )
    }

    /// What the proxy has let through so far; it writes a line when a connection ends.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("access.log")).unwrap_or_default()
    }
}

fn write_files(folder: &Path) -> Result<()> {
    let place = folder.display();
    let files = [
        (
            "krb5.conf",
            format!(
                "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\nrdns = false\n\
                 dns_canonicalize_hostname = false\n[realms]\n{REALM} = {{\nkdc = {KDC}\n}}\n"
            ),
        ),
        (
            "kdc.conf",
            format!(
                "[realms]\n{REALM} = {{\ndatabase_name = {place}/db\nkey_stash_file = {place}/stash\n\
                 kdc_listen = {KDC}\nkdc_tcp_listen = {KDC}\ndefault_principal_flags = +preauth\n}}\n"
            ),
        ),
        (
            "squid.conf",
            format!(
                "auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k {place}/proxy.keytab \
                 -s HTTP/proxy.corp.test@{REALM}\nauth_param negotiate children 2\n\
                 acl u proxy_auth REQUIRED\nhttp_access allow u\nhttp_access deny all\nhttp_port {PROXY}\n\
                 visible_hostname proxy.corp.test\npid_filename none\naccess_log stdio:{place}/access.log\n\
                 cache_log /dev/null\ncache deny all\nshutdown_lifetime 1 seconds\nnetdb_filename none\n"
            ),
        ),
        ("access.log", String::new()),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(if name == "access.log" { 0o666 } else { 0o644 }))?;
    }
    Ok(())
}
