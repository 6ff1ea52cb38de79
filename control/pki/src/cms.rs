//! Certificates in a CMS envelope that nobody signs (RFC 5652 §5.1, "certs-only" of RFC 8551 §3.8), as EST sends them.

use cms::{
    cert::CertificateChoices,
    content_info::{CmsVersion, ContentInfo},
    signed_data::{CertificateSet, EncapsulatedContentInfo, SignedData, SignerInfos},
};
use const_oid::db::rfc5911::{ID_DATA, ID_SIGNED_DATA};
use der::{Any, AnyRef, Decode, Encode, Tag, asn1::SetOfVec};
use x509_cert::Certificate;

use crate::PkiError;

/// `certificates` (DER each) as certs-only CMS, DER.
///
/// # Errors
/// [`PkiError::Certificate`] when one of them is not a certificate in canonical DER.
pub fn certs_only(certificates: &[&[u8]]) -> Result<Vec<u8>, PkiError> {
    envelope(certificates).map_err(|error| PkiError::Certificate(error.to_string()))
}

fn envelope(certificates: &[&[u8]]) -> der::Result<Vec<u8>> {
    let mut set = SetOfVec::new();
    for der in certificates {
        let certificate = Certificate::from_der(der)?;
        // The envelope writes it anew: what would not come out as it went in would have a broken signature.
        if certificate.to_der()? != *der {
            return Err(Tag::Sequence.non_canonical_error());
        }
        set.insert(CertificateChoices::Certificate(certificate))?;
    }
    let data = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::default(),
        encap_content_info: EncapsulatedContentInfo { econtent_type: ID_DATA, econtent: None },
        certificates: Some(CertificateSet(set)),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::default()),
    };
    let content = data.to_der()?;
    let content = Any::from(AnyRef::try_from(content.as_slice())?);
    ContentInfo { content_type: ID_SIGNED_DATA, content }.to_der()
}
