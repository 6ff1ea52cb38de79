//! MIT's KDC with two accounts, and a squid that takes its tickets only.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use sluice_connector_egress::{Kerberos, KerberosSecret};

use super::{LOGIN_WANTED, Running, Squid, dated, folder, free_port, wait_for_port, write};

pub(crate) const REALM: &str = "CORP.TEST";

/// MIT's KDC with an account `svc` and the proxy's service principal.
pub(crate) struct Kdc {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
    _running: Running,
}

impl Kdc {
    pub(crate) fn start() -> Self {
        Self::with_clock(None)
    }

    /// Whose clock is off by that (as `faketime` writes it).
    pub(crate) fn with_clock(off: Option<&str>) -> Self {
        let (folder, port) = (folder(), free_port());
        let place = folder.path().display();
        write(
            &folder.path().join("krb5.conf"),
            &format!(
                "[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\nrdns = false\n\
                 dns_canonicalize_hostname = false\n[realms]\n{REALM} = {{\nkdc = 127.0.0.1:{port}\n}}\n"
            ),
        );
        write(
            &folder.path().join("kdc.conf"),
            &format!(
                "[realms]\n{REALM} = {{\ndatabase_name = {place}/db\nkey_stash_file = {place}/stash\n\
                 kdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n\
                 default_principal_flags = +preauth\n}}\n"
            ),
        );
        let kdc = |program: &str| {
            let mut command = Command::new(program);
            command.envs(Self::environment(folder.path()));
            command
        };
        let run = |command: &mut Command| {
            let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
            assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        run(kdc("/usr/sbin/kdb5_util").args(["create", "-s", "-P", "master", "-r", REALM]));
        let (proxy, account) = (folder.path().join("proxy.keytab"), folder.path().join("robot.keytab"));
        for query in [
            "addprinc -pw s3cret svc".to_owned(),
            "addprinc -randkey HTTP/proxy.corp.test".to_owned(),
            "addprinc -randkey robot".to_owned(),
            "addprinc -pw s3cret -requires_preauth careless".to_owned(),
            format!("ktadd -k {} HTTP/proxy.corp.test", proxy.display()),
            format!("ktadd -k {} robot", account.display()),
        ] {
            run(kdc("/usr/sbin/kadmin.local").args(["-r", REALM, "-q", &query]));
        }
        // The proxy's helper runs as another user.
        fs::set_permissions(&proxy, fs::Permissions::from_mode(0o644)).unwrap();
        let running = Running::start(dated(off, "/usr/sbin/krb5kdc").envs(Self::environment(folder.path())).arg("-n"));
        wait_for_port(port);
        Self { folder, port, _running: running }
    }

    fn environment(folder: &Path) -> [(&'static str, PathBuf); 2] {
        [("KRB5_CONFIG", folder.join("krb5.conf")), ("KRB5_KDC_PROFILE", folder.join("kdc.conf"))]
    }

    pub(crate) fn account(&self, name: &str, secret: KerberosSecret) -> Kerberos {
        Kerberos {
            name: name.into(),
            realm: REALM.into(),
            // The first is dead: the second must be asked.
            kdcs: vec![("127.0.0.1".into(), free_port()), ("127.0.0.1".into(), self.port)],
            secret,
            service: Some("HTTP/proxy.corp.test".into()),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn squid(&self) -> Squid {
        self.squid_with_clock(None)
    }

    /// Whose clock is off by that.
    pub(crate) fn squid_with_clock(&self, off: Option<&str>) -> Squid {
        let keytab = self.folder.path().join("proxy.keytab");
        let rules = format!(
            "auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k {} -s HTTP/proxy.corp.test@{REALM}\n\
             auth_param negotiate children 2\n{LOGIN_WANTED}",
            keytab.display()
        );
        let environment = Self::environment(self.folder.path());
        let environment: Vec<_> = environment.iter().map(|(name, path)| (*name, path.as_path())).collect();
        Squid::with_clock(folder(), &rules, false, &environment, off)
    }
}
