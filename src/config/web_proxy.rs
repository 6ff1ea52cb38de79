//! The `[web_proxy]` table: how the connector gets out of a site that has a web proxy.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use ipnetwork::IpNetwork;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_connector_egress::{Kerberos, KerberosSecret, PacSource, Setup, Trust};
use sluice_connector_webproxy::{
    Credentials, Environment, HostRules, Keytab, Password, Proxy, Settings, Source, Target,
};

use super::{SecretFile, node};

/// The `[web_proxy]` table. Without any of `url`, `pac_file` and `pac_url` the environment is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebProxySection {
    /// The proxy, `http://host:port` or `https://host:port` (TLS to the proxy itself). Never with credentials in it.
    pub(crate) url: Option<String>,
    /// Whether `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` of the environment count, lower case before upper case. Unset: yes, when neither `url` nor a PAC script is named.
    pub(crate) from_environment: Option<bool>,
    /// Who is reached directly: hosts (with everything below them), `.suffix`, `*.suffix`, addresses, networks (CIDR), each with `:port` if need be, or `*`. Names are not resolved for this.
    pub(crate) no_proxy: Vec<String>,
    /// Account for NTLM, Digest and Basic: `user`, or `DOMAIN\user`.
    pub(crate) user: Option<String>,
    /// File (mode 0600) with that account's password.
    pub(crate) password_file: Option<SecretFile>,
    /// Whether Basic may be answered over an unencrypted connection to the proxy, where everybody on the way reads the password. Credentials inside the environment's proxy URL are always used so.
    pub(crate) allow_basic_in_clear: bool,
    /// File with a PAC script. It runs in a process of its own, without files and network.
    pub(crate) pac_file: Option<PathBuf>,
    /// URL (http or https) of a PAC script, fetched directly.
    pub(crate) pac_url: Option<String>,
    /// Seconds after which a script is fetched again.
    pub(crate) pac_refresh_seconds: u64,
    /// Proxies (as in `no_proxy`) to which the account may be shown; empty: any. Needed with an account (of `user` or of `[web_proxy.kerberos]`) and a `pac_url` that is not https, because whoever answers there could name a proxy of his own.
    pub(crate) login_at: Vec<String>,
    /// Whether gateways that are reached through a proxy are tried over UDP (QUIC) too, which goes around it. For sites that open UDP port 443 and want TCP through the proxy.
    pub(crate) direct_udp: bool,
    /// PEM file with the authorities of `https://` proxies and of `pac_url`, beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// A Kerberos account for proxies that want Negotiate.
    pub(crate) kerberos: Option<KerberosSection>,
}

/// The `[web_proxy.kerberos]` table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KerberosSection {
    /// Account, `name` or `name@REALM`.
    principal: String,
    /// Realm, in capitals: the Active Directory domain's DNS name.
    realm: String,
    /// KDCs (domain controllers), `host` or `host:port`, tried over TCP in this order, later the one first that answered last.
    kdc: Vec<String>,
    /// File (mode 0600) with the account's password. Either this or `keytab`.
    password_file: Option<SecretFile>,
    /// Keytab (mode 0600) with an AES key of the account.
    keytab: Option<SecretFile>,
    /// The proxy's service principal, when it is not `HTTP/` and the proxy's host.
    service: Option<String>,
}

impl Default for WebProxySection {
    fn default() -> Self {
        Self {
            url: None,
            from_environment: None,
            no_proxy: Vec::new(),
            user: None,
            password_file: None,
            allow_basic_in_clear: false,
            pac_file: None,
            pac_url: None,
            pac_refresh_seconds: PAC_REFRESH_SECONDS,
            login_at: Vec::new(),
            direct_udp: false,
            ca_file: None,
            kerberos: None,
        }
    }
}

impl WebProxySection {
    /// What the way out depends on, read whole: files, secrets and the environment (through `variable`).
    ///
    /// # Errors
    /// What contradicts itself or cannot be read, by key.
    pub(crate) fn setup(
        &self,
        gateway_networks: &[IpNetwork],
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Setup> {
        let named = [self.url.is_some(), self.pac_file.is_some(), self.pac_url.is_some()];
        let named = named.into_iter().filter(|named| *named).count();
        ensure!(named <= 1, "web_proxy: name one of url, pac_file and pac_url");
        let from_environment = self.from_environment.unwrap_or(named == 0);
        ensure!(
            !from_environment || named == 0,
            "web_proxy.from_environment = true and a proxy of the file's own contradict each other"
        );
        let rules = |key: &str, entries: &[String]| {
            HostRules::new(entries.iter().map(String::as_str)).with_context(|| format!("web_proxy.{key}"))
        };
        let (source, inherited) = self.source(from_environment, variable)?;
        let credentials = match self.account()? {
            None => inherited,
            own => own,
        };
        let login_at = rules("login_at", &self.login_at)?;
        let open_script = self.pac_url.as_ref().is_some_and(|url| !url.to_ascii_lowercase().starts_with("https://"));
        ensure!(
            !open_script || (credentials.is_none() && self.kerberos.is_none()) || !login_at.is_empty(),
            "web_proxy.pac_url is not https, so whoever answers there could send the password or ticket to a proxy of \
             his own: name the proxies in web_proxy.login_at"
        );
        Ok(Setup {
            rules: Settings { source, no_proxy: rules("no_proxy", &self.no_proxy)?, login_at },
            credentials,
            kerberos: self.kerberos.as_ref().map(KerberosSection::account).transpose()?,
            pac: self.script()?,
            trust: Trust { own: self.ca_file.as_ref().map(read("ca_file")).transpose()? },
            gateway_networks: gateway_networks.to_vec(),
            workstation: workstation(),
        })
    }

    fn source(
        &self,
        from_environment: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<(Source, Option<Credentials>)> {
        if let Some(url) = &self.url {
            return Ok((Source::Fixed(Proxy::read(url).context("web_proxy.url")?), None));
        }
        if self.pac_file.is_some() || self.pac_url.is_some() {
            return Ok((Source::Pac, None));
        }
        if !from_environment {
            return Ok((Source::Nothing, None));
        }
        let mut environment = Environment::read(variable)?;
        let credentials = environment.credentials.take();
        if let Some((variable, entries)) = environment.ignored.take() {
            let entries = entries.join(" ");
            tracing::warn!(
                variable,
                entries,
                "these are no hosts to be reached directly, and name nobody; see web_proxy.no_proxy"
            );
        }
        let source = if environment.proxy.is_some() { Source::Environment(environment) } else { Source::Nothing };
        Ok((source, credentials))
    }

    fn account(&self) -> anyhow::Result<Option<Credentials>> {
        match (&self.user, &self.password_file) {
            (Some(account), Some(file)) => {
                let (domain, user) = Credentials::split_account(account);
                let password = password(file).context("web_proxy.password_file")?;
                Ok(Some(Credentials { user, domain, password, basic_in_clear: self.allow_basic_in_clear }))
            }
            (None, None) => Ok(None),
            _ => bail!("web_proxy.user and web_proxy.password_file belong together"),
        }
    }

    fn script(&self) -> anyhow::Result<Option<PacSource>> {
        ensure!(
            (1..=node::LONGEST_SECONDS).contains(&self.pac_refresh_seconds),
            "web_proxy.pac_refresh_seconds is 1 to 86400, a day"
        );
        if let Some(path) = &self.pac_file {
            let text = String::from_utf8_lossy(&read("pac_file")(path)?).into_owned();
            return Ok(Some(PacSource::Text(text)));
        }
        let refresh = Duration::from_secs(self.pac_refresh_seconds);
        Ok(self.pac_url.clone().map(|url| PacSource::Url { url, refresh }))
    }
}

impl KerberosSection {
    fn account(&self) -> anyhow::Result<Kerberos> {
        let Self { principal, realm, .. } = self;
        ensure!(!realm.is_empty() && *realm == realm.to_uppercase(), "web_proxy.kerberos.realm is written in capitals");
        let name = principal.strip_suffix(&format!("@{realm}")).unwrap_or(principal);
        ensure!(
            !name.is_empty() && !name.contains(['@', '\\']),
            "web_proxy.kerberos.principal is a name of the realm {realm}"
        );
        ensure!(!self.kdc.is_empty(), "web_proxy.kerberos.kdc names at least one KDC");
        let kdcs = self.kdc.iter().map(|place| kdc(place)).collect::<anyhow::Result<_>>()?;
        let secret = match (&self.password_file, &self.keytab) {
            (Some(file), None) => KerberosSecret::Password(password(file).context("web_proxy.kerberos.password_file")?),
            (None, Some(file)) => {
                let keytab = Keytab::read(&file.read()?).context("web_proxy.kerberos.keytab")?;
                let key = keytab.key_of(&format!("{name}@{realm}")).context("web_proxy.kerberos.keytab")?;
                KerberosSecret::Key(key.clone())
            }
            _ => bail!("web_proxy.kerberos: name one of password_file and keytab"),
        };
        let (name, service) = (name.to_owned(), self.service.clone());
        Ok(Kerberos { name, realm: realm.clone(), kdcs, secret, service })
    }
}

/// `host[:port]`; an address of IPv6 in brackets when a port follows.
fn kdc(place: &str) -> anyhow::Result<(String, u16)> {
    let target = Target::with_default_port(place, KDC_PORT);
    let target = target.with_context(|| format!("web_proxy.kerberos.kdc {place:?}"))?;
    Ok((target.host().to_owned(), target.port()))
}

/// A password is the file's first line.
fn password(file: &SecretFile) -> anyhow::Result<Password> {
    let content = file.read()?;
    let text = std::str::from_utf8(&content).context("the password is not UTF-8")?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "{} is empty", file.path().display());
    Ok(Password::new(line))
}

fn read(key: &'static str) -> impl Fn(&PathBuf) -> anyhow::Result<Vec<u8>> {
    move |path| {
        let length = fs::metadata(path).with_context(|| format!("web_proxy.{key} {}", path.display()))?.len();
        ensure!(length <= MAX_FILE, "web_proxy.{key} {} is longer than {MAX_FILE} bytes", path.display());
        fs::read(path).with_context(|| format!("web_proxy.{key} {}", path.display()))
    }
}

/// What NTLM and Kerberos call this machine.
fn workstation() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(15).collect();
    if name.is_empty() { "SLUICE".to_owned() } else { name.to_ascii_uppercase() }
}

/// An hour.
const PAC_REFRESH_SECONDS: u64 = 3600;
/// Longest script or bundle, bytes.
const MAX_FILE: u64 = 512 * 1024;
/// RFC 4120 §7.2.3.2.
const KDC_PORT: u16 = 88;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use std::{os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn section(text: &str) -> WebProxySection {
        toml::from_str(text).unwrap()
    }

    fn refusal(text: &str) -> String {
        format!("{:#}", section(text).setup(&[], |_| None).unwrap_err())
    }

    fn secret(folder: &Path, name: &str, content: &[u8]) -> String {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    #[test]
    fn c3_the_environment_counts_only_where_the_file_names_nothing() {
        let variable = |name: &str| (name == "https_proxy").then(|| "http://u:p@proxy.test:3128".to_owned());
        let setup = section("").setup(&[], variable).unwrap();
        assert!(matches!(setup.rules.source, Source::Environment(_)));
        assert!(setup.credentials.unwrap().basic_in_clear);
        assert!(!format!("{:?}", setup.rules).contains("u:p"));
        let setup = section("url = 'https://own.test:8443'").setup(&[], variable).unwrap();
        assert!(matches!(setup.rules.source, Source::Fixed(proxy) if proxy.host == "own.test"));
        assert!(setup.credentials.is_none());
        let setup = section("from_environment = false").setup(&[], variable).unwrap();
        assert_eq!(setup.rules.source, Source::Nothing);
        assert!(section("").setup(&[], |_| None).unwrap().rules.source == Source::Nothing);
    }

    #[test]
    fn c3_contradictions_are_refused_by_key() {
        for (text, words) in [
            ("url = 'http://u:p@x:1'", "credentials do not belong"),
            ("url = 'socks5://x:1'", "web_proxy.url"),
            ("url = 'http://x:1'\npac_url = 'https://y/p'", "name one of"),
            ("url = 'http://x:1'\nfrom_environment = true", "contradict"),
            ("url = 'http://x:1'\nuser = 'u'", "belong together"),
            ("no_proxy = ['a/b']", "web_proxy.no_proxy"),
            ("pac_refresh_seconds = 0", "pac_refresh_seconds"),
            ("pac_file = '/nonexistent/p'", "web_proxy.pac_file /nonexistent/p"),
            ("[kerberos]\nprincipal = 'u'\nrealm = 'corp.test'\nkdc = ['x']", "capitals"),
            ("[kerberos]\nprincipal = 'u@OTHER'\nrealm = 'CORP.TEST'\nkdc = ['x']", "principal"),
            ("[kerberos]\nprincipal = 'u'\nrealm = 'CORP.TEST'\nkdc = []", "kdc"),
            ("[kerberos]\nprincipal = 'u'\nrealm = 'CORP.TEST'\nkdc = ['x']", "one of password_file and keytab"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(words), "{text}: {refusal}");
        }
    }

    #[test]
    fn c3_a_script_from_an_open_line_may_not_name_who_gets_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = secret(folder.path(), "password", b"s3cret\n");
        let with = |rest: &str| section(&format!("user = 'CORP\\svc'\npassword_file = '{file}'\n{rest}"));
        let refused = with("pac_url = 'http://x/p'").setup(&[], |_| None).unwrap_err().to_string();
        assert!(refused.contains("login_at"), "{refused}");
        for fine in ["pac_url = 'https://x/p'", "pac_url = 'http://x/p'\nlogin_at = ['.corp.test']"] {
            let setup = with(fine).setup(&[], |_| None).unwrap();
            let credentials = setup.credentials.unwrap();
            assert_eq!((credentials.user.as_str(), credentials.domain.as_str()), ("svc", "CORP"));
            assert_eq!(credentials.password.expose(), "s3cret");
        }
        let kerberos =
            format!("[kerberos]\nprincipal = 'u'\nrealm = 'CORP.TEST'\nkdc = ['x']\npassword_file = '{file}'");
        let ticket = |rest: &str| section(&format!("{rest}\n{kerberos}")).setup(&[], |_| None);
        let refused = ticket("pac_url = 'http://x/p'").unwrap_err().to_string();
        assert!(refused.contains("login_at"), "{refused}");
        assert!(ticket("pac_url = 'https://x/p'").unwrap().kerberos.is_some());
        assert!(ticket("pac_url = 'http://x/p'\nlogin_at = ['.corp.test']").is_ok());
    }

    #[test]
    fn c3_kdcs_are_read_with_and_without_ports() {
        for (text, host, port) in [
            ("dc1.corp.test", "dc1.corp.test", 88),
            ("dc1.corp.test:750", "dc1.corp.test", 750),
            ("192.0.2.1", "192.0.2.1", 88),
            ("2001:db8::1", "2001:db8::1", 88),
            ("[2001:db8::1]:750", "2001:db8::1", 750),
        ] {
            assert_eq!(kdc(text).unwrap(), (host.to_owned(), port), "{text}");
        }
        assert!(kdc("a b").is_err());
    }
}
