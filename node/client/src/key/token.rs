//! One PKCS#11 token: RSA-3072 keys that are made in it, sign in it and cannot leave it.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, bail, ensure};
use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use der::{
    Encode, Tag,
    asn1::{AnyRef, UintRef},
};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    pki_types::{SubjectPublicKeyInfoDer, alg_id},
    sign::{Signer, SigningKey, public_key_to_spki},
};
use tokio::runtime::{Handle, RuntimeFlavor};
use zeroize::Zeroizing;

use super::module;

/// Sessions that are open at a time; more signatures at once wait for one.
const SESSIONS: usize = 8;
const BITS: u64 = 3072;
/// 65537, the exponent every verifier takes.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// What the keys are called in the token.
const LABEL: &str = "sluice node key";
/// Salt as long as the digest (RFC 8446 §4.2.3).
const SALT: u64 = 32;

/// Which token, and its PIN.
#[derive(Clone)]
pub struct TokenSettings {
    /// The maker's shared library.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// The user's PIN.
    pub pin: Zeroizing<String>,
}

impl fmt::Debug for TokenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSettings")
            .field("module", &self.module)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// A token that took our PIN.
pub(super) struct Token {
    module: Pkcs11,
    label: String,
    pin: AuthPin,
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    /// Kept open: the login ends with the last session.
    anchor: Option<(Slot, Session)>,
    idle: Vec<Session>,
    busy: usize,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.label)
    }
}

/// Whether the token is there. Nobody logs in.
///
/// # Errors
/// The PIN is empty, the module does not work, or it has no such token.
pub fn look_for_token(settings: &TokenSettings) -> anyhow::Result<()> {
    ensure!(!settings.pin.is_empty(), "the PIN is empty");
    slot(&module::load(&settings.module)?, &settings.label).map(drop)
}

fn slot(module: &Pkcs11, label: &str) -> anyhow::Result<Slot> {
    for slot in module.get_slots_with_initialized_token().context("the module shows no tokens")? {
        if module.get_token_info(slot).is_ok_and(|info| info.label() == label) {
            return Ok(slot);
        }
    }
    bail!("there is no token with the label '{label}', or this account may not open it")
}

type Done<T> = Result<T, Error>;

impl Token {
    pub(super) fn open(settings: &TokenSettings) -> anyhow::Result<Self> {
        // Tokens lock after a few wrong PINs.
        ensure!(!settings.pin.is_empty(), "the PIN is empty");
        let token = Self {
            module: module::load(&settings.module)?,
            label: settings.label.clone(),
            pin: AuthPin::from(settings.pin.as_str()),
            pool: Mutex::default(),
            returned: Condvar::new(),
        };
        token.log_in(&mut token.pool())?;
        Ok(token)
    }

    /// Makes a key and gives its id.
    pub(super) fn generate(&self) -> anyhow::Result<Vec<u8>> {
        let mut id = vec![0_u8; 16];
        rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut id).ok().context("no randomness")?;
        let public = [
            Attribute::Token(false),
            Attribute::ModulusBits(BITS.into()),
            Attribute::PublicExponent(EXPONENT.to_vec()),
            Attribute::Verify(true),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Id(id.clone()),
            Attribute::Label(LABEL.into()),
        ];
        let kept = self.with(|session| {
            let (_, key) = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private)?;
            let asked = [AttributeType::Sensitive, AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
            let told = session.get_attributes(key, &asked)?;
            let says = |wanted: &Attribute| told.contains(wanted);
            let kept = says(&Attribute::Sensitive(true))
                && says(&Attribute::AlwaysSensitive(true))
                && says(&Attribute::NeverExtractable(true));
            if !kept {
                session.destroy_object(key)?;
            }
            Ok(kept)
        })?;
        ensure!(kept, "the token would give the key out; it is not used");
        Ok(id)
    }

    /// The key with this id.
    pub(super) fn find(self: &Arc<Self>, id: &[u8]) -> anyhow::Result<TokenKey> {
        let numbers = self.with(|session| {
            let Some(key) = private_key(session, id)? else { return Ok(None) };
            session.get_attributes(key, &[AttributeType::Modulus, AttributeType::PublicExponent]).map(Some)
        })?;
        let numbers = numbers.context("the node's key is not in the token (or is there twice)")?;
        let (mut modulus, mut exponent) = (None, None);
        for number in numbers {
            match number {
                Attribute::Modulus(bytes) => modulus = Some(bytes),
                Attribute::PublicExponent(bytes) => exponent = Some(bytes),
                _ => {}
            }
        }
        let (Some(modulus), Some(exponent)) = (modulus, exponent) else { bail!("the token hides the public key") };
        let public = pkcs1(&modulus, &exponent).context("the token's public key is damaged")?;
        Ok(TokenKey { token: self.clone(), id: id.to_vec(), public })
    }

    /// Destroys the key with this id, if it is there.
    pub(super) fn destroy(&self, id: &[u8]) -> anyhow::Result<()> {
        self.with(|session| private_key(session, id)?.map_or(Ok(()), |key| session.destroy_object(key)))
    }

    /// Does `work` in a session of its own. If the token has forgotten us (pulled and put back, restarted), once more
    /// after a new login. Blocks.
    fn with<T>(&self, work: impl Fn(&Session) -> Done<T>) -> anyhow::Result<T> {
        let blocking = || {
            let mut again = false;
            loop {
                let session = self.take()?;
                let done = work(&session);
                let lost = matches!(&done, Err(error) if is_lost(error));
                self.give_back((!lost).then_some(session));
                match done {
                    Err(_) if lost && !again => again = true,
                    done => return done.map_err(Into::into),
                }
            }
        };
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            // Other tasks of this thread go on elsewhere meanwhile.
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(blocking),
            _ => blocking(),
        }
    }

    fn take(&self) -> anyhow::Result<Session> {
        let mut pool = self.pool();
        while pool.busy >= SESSIONS {
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
        let session = match pool.idle.pop() {
            Some(session) => session,
            None => {
                let slot = self.log_in(&mut pool)?;
                self.module.open_rw_session(slot).context("the token gives no session")?
            }
        };
        pool.busy += 1;
        Ok(session)
    }

    /// `None` when the token has forgotten its sessions: all of them are given up.
    fn give_back(&self, session: Option<Session>) {
        let mut pool = self.pool();
        pool.busy = pool.busy.saturating_sub(1);
        match session {
            Some(session) => pool.idle.push(session),
            None => (pool.anchor, pool.idle) = (None, Vec::new()),
        }
        self.returned.notify_one();
    }

    fn log_in(&self, pool: &mut Pool) -> anyhow::Result<Slot> {
        if let Some((slot, _)) = &pool.anchor {
            return Ok(*slot);
        }
        let slot = slot(&self.module, &self.label)?;
        let session = self.module.open_rw_session(slot).context("the token gives no session")?;
        match session.login(UserType::User, Some(&self.pin)) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(error).context("the token does not take the PIN"),
        }
        pool.anchor = Some((slot, session));
        Ok(slot)
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Every change is complete before the guard goes.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::SessionHandleInvalid
                | RvError::SessionClosed
                | RvError::UserNotLoggedIn
                | RvError::DeviceRemoved
                | RvError::TokenNotPresent,
            _
        )
    )
}

fn private_key(session: &Session, id: &[u8]) -> Done<Option<ObjectHandle>> {
    let wanted =
        [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::KeyType(KeyType::RSA), Attribute::Id(id.to_vec())];
    let found = session.find_objects(&wanted)?;
    Ok(match found.as_slice() {
        [key] => Some(*key),
        _ => None,
    })
}

/// `RSAPublicKey` of RFC 8017 A.1.1.
fn pkcs1(modulus: &[u8], exponent: &[u8]) -> der::Result<Vec<u8>> {
    let numbers = [UintRef::new(modulus)?.to_der()?, UintRef::new(exponent)?.to_der()?].concat();
    AnyRef::new(Tag::Sequence, &numbers)?.to_der()
}

/// A key in the token.
#[derive(Debug)]
pub(super) struct TokenKey {
    token: Arc<Token>,
    id: Vec<u8>,
    /// PKCS#1 DER.
    public: Vec<u8>,
}

impl TokenKey {
    /// Its public half, PKCS#1 DER.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// RSASSA-PKCS1-v1_5 with SHA-256, for requests and proofs.
    pub(super) fn sign_pkcs1(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.sign(&Mechanism::Sha256RsaPkcs, message)
    }

    /// For TLS 1.3, which signs with RSASSA-PSS only.
    pub(super) fn for_tls(key: Arc<Self>) -> Arc<dyn SigningKey> {
        Arc::new(TlsKey(key))
    }

    fn sign(&self, mechanism: &Mechanism<'_>, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let signature = self.token.with(|session| match private_key(session, &self.id)? {
            Some(key) => session.sign(mechanism, key, message).map(Some),
            None => Ok(None),
        })?;
        signature.context("the node's key has gone from the token")
    }
}

#[derive(Debug)]
struct TlsKey(Arc<TokenKey>);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = TlsSigner(self.0.clone());
        offered.contains(&SignatureScheme::RSA_PSS_SHA256).then(|| Box::new(signer) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::RSA_ENCRYPTION, &self.0.public))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

#[derive(Debug)]
struct TlsSigner(Arc<TokenKey>);

impl Signer for TlsSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let hash = PkcsPssParams { hash_alg: MechanismType::SHA256, mgf: PkcsMgfType::MGF1_SHA256, s_len: SALT.into() };
        self.0.sign(&Mechanism::Sha256RsaPkcsPss(hash), message).map_err(|error| {
            tracing::error!("the token did not sign: {error:#}");
            rustls::Error::General("the token did not sign".to_owned())
        })
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PSS_SHA256
    }
}
