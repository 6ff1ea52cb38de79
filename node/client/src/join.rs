//! First contact: a join code becomes an identity.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

use anyhow::{Context, anyhow, bail, ensure};
use http::Method;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sluice_node_identity::{
    Fingerprint, JoinCode, Role,
    api::{JoinRequest, Joined, Nonce},
};

use crate::{
    Settings,
    call::{self, CALL_TIME, CallError, Control},
    certificate::{self, Facts},
    dial::Dial,
    disk::StateDir,
    identity::{self, Identity},
    key::{Keys, PrivateKey},
    pause::Pause,
    tls::{self, Trust},
};

/// Longest join code file, bytes.
const MAX_CODE: u64 = 4096;
/// Permission bits a join code file must not have.
const FORBIDDEN_MODE: u32 = 0o027;
/// How often a request that control calls malformed is made again.
const ODD_TRIES: u32 = 2;
/// Key and request of a join that was begun: a lost answer is asked for again with the same key.
const DRAFT: &str = "joining.json";

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    code: Fingerprint,
    key: PrivateKey,
    csr: String,
}

/// Reads the code file named by the settings; `None` when there is no such setting or no such file.
pub(crate) fn code(settings: &Settings) -> anyhow::Result<Option<JoinCode>> {
    let Some(path) = &settings.join_code_file else { return Ok(None) };
    read_code(path).with_context(|| format!("join code file {}", path.display()))
}

fn read_code(path: &Path) -> anyhow::Result<Option<JoinCode>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mode = file.metadata()?.mode() & 0o7777;
    ensure!(mode & FORBIDDEN_MODE == 0, "mode {mode:04o} lets others read it: chmod 0600");
    let mut text = String::new();
    file.take(MAX_CODE).read_to_string(&mut text)?;
    Ok(Some(text.parse()?))
}

/// Forgets the key of a join that has been completed.
pub(crate) fn complete(disk: &StateDir) -> anyhow::Result<()> {
    disk.remove(DRAFT)
}

/// Joins with `code`, trying again while control cannot be reached. The caller keeps the identity, then calls
/// [`complete`].
///
/// # Errors
/// When control refuses the code, or what it says contradicts the code: trying again does not help.
pub(crate) async fn join(
    settings: &Settings,
    way: &Arc<dyn Dial>,
    role: Role,
    disk: &StateDir,
    keys: &Keys,
    code: &JoinCode,
) -> anyhow::Result<Identity> {
    let draft = draft(role, disk, keys, code).await?;
    let control = Control::new(&code.url, settings.control_address, way.clone())?;
    let tls = tls::control_client(Trust::Pin(code.root_pin.clone()), None)?;
    let mut pause = Pause::default();
    let mut odd = 0;
    let joined = loop {
        match ask(&control, &tls, role, keys, code, &draft).await {
            Ok(joined) => break joined,
            Err(error) if error.is_passing() => tracing::warn!("cannot join yet: {error}; trying again"),
            // Also what a control says that was restarted between nonce and join.
            Err(error @ CallError::Refused { status: 400, .. }) if odd < ODD_TRIES => {
                odd += 1;
                tracing::warn!("cannot join yet: {error}; trying again");
            }
            Err(error) => bail!("{error}; ask for a new join code (sluice admin node add)"),
        }
        pause.wait().await;
    };
    let identity = accept(role, keys, code, draft, joined)?;
    tracing::info!(node = %identity.spiffe(), site = %identity.joined.site, "joined");
    Ok(identity)
}

async fn draft(role: Role, disk: &StateDir, keys: &Keys, code: &JoinCode) -> anyhow::Result<Draft> {
    let digest = code.secret.digest();
    let former = disk.read::<Draft>(DRAFT)?;
    if let Some(draft) = former.as_ref().filter(|draft| draft.code == digest) {
        return Ok(draft.clone());
    }
    let making = keys.clone();
    let key = tokio::task::spawn_blocking(move || making.generate(role)).await??;
    let draft = Draft { code: digest, csr: keys.request(&key)?, key };
    disk.write(DRAFT, &draft)?;
    match former {
        Some(former) => keys.forget(&former.key).map(|()| draft),
        None => Ok(draft),
    }
}

async fn ask(
    control: &Control,
    tls: &Arc<ClientConfig>,
    role: Role,
    keys: &Keys,
    code: &JoinCode,
    draft: &Draft,
) -> Result<Joined, CallError> {
    let nonce = nonce(control, tls).await?;
    let proof = keys.proof(&draft.key, &draft.csr, &nonce).map_err(CallError::Unreachable)?;
    let request = JoinRequest { secret: code.secret.to_text(), role, csr: draft.csr.clone(), nonce, proof };
    post(control, tls, "/node/v1/join", &request).await
}

/// Asks for a nonce, good for one join or re-join.
pub(crate) async fn nonce(control: &Control, tls: &Arc<ClientConfig>) -> Result<String, CallError> {
    let Nonce { nonce } = post(control, tls, "/node/v1/nonce", &serde_json::json!({})).await?;
    Ok(nonce)
}

/// One short POST.
pub(crate) async fn post<T: DeserializeOwned>(
    control: &Control,
    tls: &Arc<ClientConfig>,
    path: &str,
    request: &(impl Serialize + ?Sized),
) -> Result<T, CallError> {
    let body = serde_json::to_vec(request).map_err(|error| CallError::Unreachable(error.into()))?;
    if body.len() > call::MAX_BODY {
        return Err(CallError::Unreachable(anyhow!("the request is longer than {} bytes", call::MAX_BODY)));
    }
    call::answer(control.send(tls.clone(), Method::POST, path, body, CALL_TIME).await?).await
}

fn accept(role: Role, keys: &Keys, code: &JoinCode, draft: Draft, joined: Joined) -> anyhow::Result<Identity> {
    ensure!(joined.role == role, "the join code is for a {}, this is a {role}", joined.role);
    let root = Facts::of(&certificate::single(&joined.root)?)?;
    ensure!(root.key == code.root_pin, "control sent another root than the join code names");
    // What the code says stays the anchor of all lists, whatever control says: a later key must be led to from it.
    if joined.policy_thumbprint != code.policy_thumbprint {
        tracing::info!("the tenant's policy key has been replaced since the join code was made");
    }
    let joined = Joined { policy_thumbprint: code.policy_thumbprint.clone(), ..joined };
    identity::check(keys, &identity::spiffe(&joined), &joined.chain, &draft.key)?;
    Ok(Identity { url: code.url.clone(), code: draft.code, joined, key: draft.key, previous: None, next: None })
}
