//! Card bodies in the shared database, sealed with the tenant's key.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_control_feed::CardText;
use sluice_node_identity::{IntegrationId, TenantId, UserId};
use zeroize::Zeroizing;

use crate::{TenantKeys, WorkError};

/// What the key is derived with.
const INFO: &str = "cards";
/// What the key of rows' names is derived with.
const ROW_INFO: &str = "card-rows";

fn failed<E>(_: E) -> WorkError {
    WorkError::Failed("a card cannot be opened: it was altered, or the tenant's key is another".into())
}

/// Parts, each behind its length.
fn prefixed(parts: &[&str]) -> Vec<u8> {
    parts.iter().flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.bytes())).collect()
}

/// Seals what a card says for its tenant, user and id.
pub(crate) fn seal(
    keys: &dyn TenantKeys,
    tenant: &TenantId,
    user: &UserId,
    id: &str,
    text: &CardText,
) -> Result<String, WorkError> {
    let key = Zeroizing::new(keys.derive(tenant, INFO)?);
    let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(failed)?;
    let mut bytes = serde_json::to_vec(text).map_err(failed)?;
    let aad = prefixed(&[tenant.as_str(), user.as_str(), id]);
    let nonce = key.seal_in_place_append_tag(Aad::from(aad), &mut bytes).map_err(failed)?;
    Ok(URL_SAFE_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
}

/// Opens what [`seal`] made for the same tenant, user and id.
pub(crate) fn open(
    keys: &dyn TenantKeys,
    tenant: &TenantId,
    user: &UserId,
    id: &str,
    sealed: &str,
) -> Result<CardText, WorkError> {
    let key = Zeroizing::new(keys.derive(tenant, INFO)?);
    let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_ref()).map_err(failed)?;
    let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(failed)?;
    let (nonce, body) = bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(|| failed(()))?;
    let mut body = body.to_vec();
    let aad = prefixed(&[tenant.as_str(), user.as_str(), id]);
    let plain = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut body).map_err(failed)?;
    serde_json::from_slice(plain).map_err(failed)
}

/// Names a row without telling which.
pub(crate) fn row_name(
    keys: &dyn TenantKeys,
    tenant: &TenantId,
    integration: &IntegrationId,
    text: &CardText,
) -> Result<String, WorkError> {
    let key = Zeroizing::new(keys.derive(tenant, ROW_INFO)?);
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
    Ok(URL_SAFE_NO_PAD.encode(hmac::sign(&key, &prefixed(&[integration.as_str(), &text.table, &text.key]))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sluice_control_sync::ChangeKind;

    use super::*;
    use crate::KeyError;

    struct Keys;

    impl TenantKeys for Keys {
        fn derive(&self, tenant: &TenantId, info: &str) -> Result<[u8; 32], KeyError> {
            let mut key = [0; 32];
            key.iter_mut().zip(format!("{tenant}/{info}").bytes()).for_each(|(to, from)| *to = from);
            Ok(key)
        }
    }

    #[test]
    fn t2_a_card_opens_only_for_its_own_tenant_user_and_id() {
        let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let (bob, alice): (UserId, UserId) = ("bob".parse().unwrap(), "alice".parse().unwrap());
        let text = CardText {
            title: "Issue 1".into(),
            body: String::new(),
            table: "issue".into(),
            key: "1".into(),
            kind: ChangeKind::New,
        };
        let sealed = seal(&Keys, &acme, &bob, "id", &text).unwrap();
        assert_eq!(open(&Keys, &acme, &bob, "id", &sealed).unwrap(), text);
        assert!(!sealed.contains("Issue") && sealed != seal(&Keys, &acme, &bob, "id", &text).unwrap());
        assert!(open(&Keys, &other, &bob, "id", &sealed).is_err());
        assert!(open(&Keys, &acme, &alice, "id", &sealed).is_err());
        assert!(open(&Keys, &acme, &bob, "other", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(open(&Keys, &acme, &bob, "id", sealed.get(..cut).unwrap()).is_err());
        }
    }
}
