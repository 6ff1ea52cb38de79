//! The worker that makes Kerberos tokens.
//!
//! The library needs no network: where it wants a KDC, the connector is asked to carry the message.

use std::os::unix::net::UnixStream;

use anyhow::{Context as _, anyhow};
use sluice_connector_webproxy::spnego_first;
use sspi::{
    AuthIdentity, BufferType, ClientRequestFlags, CredentialUse, Credentials, CredentialsBuffers, DataRepresentation,
    ErrorKind, Kerberos, KerberosConfig, KeytabIdentity, SecurityBuffer, Sspi, SspiImpl, Username,
    generator::{Generator, GeneratorState, NetworkRequest},
};

use super::frame::{self, Answer, Ask, Login, Secret};

pub(super) fn work(mut socket: UnixStream, confine: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    confine()?;
    let login = match frame::job(&mut socket)? {
        Some(Ask::Login(login)) => login,
        None => return Ok(()),
        Some(_) => anyhow::bail!("asked for something else than a login"),
    };
    let answer = match token(&mut socket, login) {
        Ok(token) => Answer::Token(token),
        Err(error) => match error.downcast_ref::<sspi::Error>().map(in_words) {
            Some((WRONG_SECRET, words)) => Answer::WrongSecret(words),
            Some((_, words)) => Answer::Failed(words),
            None => Answer::Failed(format!("{error:#}")),
        },
    };
    Ok(frame::write(&mut socket, &answer)?)
}

/// One token: a ticket for the service, proved.
fn token(socket: &mut UnixStream, login: Login) -> anyhow::Result<Vec<u8>> {
    // The address is never dialled: requests come out of the generator and go to the connector.
    let config = KerberosConfig::new_with_kdc_url("tcp://kdc.invalid:88", login.workstation.clone());
    let mut kerberos = Kerberos::new_client_from_config(config)?;
    let credentials = credentials(&login)?;
    let buffers: Option<CredentialsBuffers> = kerberos
        .acquire_credentials_handle()
        .with_credential_use(CredentialUse::Outbound)
        .with_auth_data(&credentials)
        .execute(&mut kerberos)?
        .credentials_handle;
    let mut handle = buffers;
    let mut input = [SecurityBuffer::new(Vec::new(), BufferType::Token)];
    let mut output = [SecurityBuffer::new(Vec::new(), BufferType::Token)];
    let mut builder = kerberos
        .initialize_security_context()
        .with_credentials_handle(&mut handle)
        .with_context_requirements(ClientRequestFlags::empty())
        .with_target_data_representation(DataRepresentation::Native)
        .with_target_name(&login.service)
        .with_input(&mut input)
        .with_output(&mut output);
    let generator = kerberos.initialize_security_context_impl(&mut builder)?;
    drive(socket, generator, &login.realm)?;
    let [SecurityBuffer { buffer, .. }] = output;
    Ok(spnego_first(&buffer))
}

fn credentials(client: &Login) -> anyhow::Result<Credentials> {
    let username = Username::new(&client.name, Some(&client.realm))
        .map_err(|error| anyhow!("the principal's name cannot be used: {error}"))?;
    Ok(match &client.secret {
        Secret::Password(password) => AuthIdentity { username, password: password.as_str().to_owned().into() }.into(),
        Secret::Key { kind, key } => {
            let key_enctype = usize::from(*kind).try_into().ok().context("the key's encryption type is not known")?;
            KeytabIdentity { principal: username, key: key.to_vec().into(), key_enctype }.into()
        }
    })
}

/// Carries messages between the library and the connector.
fn drive<'a, T: Send + 'a>(
    socket: &mut UnixStream,
    mut generator: Generator<'a, NetworkRequest, sspi::Result<Vec<u8>>, sspi::Result<T>>,
    realm: &str,
) -> anyhow::Result<T> {
    let mut state = generator.start();
    loop {
        match state {
            GeneratorState::Completed(done) => return Ok(done?),
            GeneratorState::Suspended(NetworkRequest { data, .. }) => {
                frame::write(socket, &Answer::Kdc { realm: realm.to_owned(), request: data })?;
                let Ask::Kdc(reply) = frame::read(socket)? else { anyhow::bail!("not a KDC's answer") };
                let reply = reply.map_err(|why| sspi::Error::new(ErrorKind::NoAuthenticatingAuthority, why));
                state = generator.resume(reply);
            }
        }
    }
}

/// What to do, and that with what the library says. Its kinds of errors are coarser than the KDC's codes, so its words are what
/// tells them apart (c3_a_kerberos_proxy_… in tests/kerberos.rs would see them change).
fn in_words(error: &sspi::Error) -> (&'static str, String) {
    let said: String = error.description.chars().filter(|c| !c.is_control()).collect();
    let (said, _) = said.split_once(". Additional error").unwrap_or((&said, ""));
    let said: String = said.chars().take(MAX_SAID).collect();
    let known = ADVICE.iter().find(|(words, _)| said.to_ascii_lowercase().contains(words));
    let advice = known.map_or("Kerberos fails", |(_, advice)| advice);
    (advice, format!("{advice} ({said})"))
}

/// Words of the library, and what to do.
const ADVICE: [(&str, &str); 10] = [
    ("client not found", "the KDC does not know the principal; check web_proxy.kerberos.principal and realm"),
    ("server not found", "the KDC does not know the proxy's service principal; check web_proxy.kerberos.service"),
    ("pre-authentication information was invalid", WRONG_SECRET),
    ("integrity check", WRONG_SECRET),
    ("checksum", WRONG_SECRET),
    ("skew", "this machine's clock and the KDC's disagree by more than 5 minutes; set the time"),
    ("encryption type", "the account has no AES key; enable AES for it, then set its password anew"),
    ("revoked", "the account is locked or disabled; unlock it in the directory"),
    (
        "should not process as_req without",
        "the KDC wants no pre-authentication of the account, and such an account is not used; require it (MIT: kadmin modprinc +requires_preauth; Active Directory: untick \"Do not require Kerberos preauthentication\")",
    ),
    ("expired", "the account or its password has expired; renew it in the directory"),
];
const WRONG_SECRET: &str =
    "the password or key of the principal is wrong; check web_proxy.kerberos.password_file, or make a new keytab";
/// How much of a library's text is kept, characters.
const MAX_SAID: usize = 200;
