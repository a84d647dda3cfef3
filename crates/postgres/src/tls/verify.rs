//! Which certificates are taken: those libpq takes (PostgreSQL: `fe-secure-openssl.c`).
//!
//! Invariants: libpq is less strict than WebPKI in three ways by which PostgreSQL's own documentation sets servers up, and in no other
//! are we. A certificate that `sslrootcert` itself holds may be an authority's (`openssl req -x509`); a server's may be of version 1
//! (`openssl x509 -req` before OpenSSL 3.2), signed by one of `sslrootcert`; where a certificate names no host, its common name does.

use super::Roots;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{net::IpAddr, sync::Arc};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Version};

#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: whoever answers will do.
    pub(super) roots: Option<Roots>,
    pub(super) name_matters: bool,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// That an authority we know vouches for the certificate now.
    fn check_issuer(
        &self,
        roots: &Roots,
        certificate: &CertificateDer<'_>,
        parsed: &X509Certificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let is_known = parsed.subject() == parsed.issuer() && roots.certificates.iter().any(|root| root == certificate);
        if is_known || parsed.version() == X509Version::V1 {
            check_validity(parsed, now)?;
            return match is_known || roots.certificates.iter().any(|root| signed(root, parsed, now)) {
                true => Ok(()),
                false => Err(CertificateError::UnknownIssuer.into()),
            };
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots.store, intermediates, now, algorithms)
    }
}

fn check_validity(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let now = now.ok_or(CertificateError::BadEncoding)?;
    match certificate.validity() {
        validity if now < validity.not_before => Err(CertificateError::NotValidYet.into()),
        validity if now > validity.not_after => Err(CertificateError::Expired.into()),
        _ => Ok(()),
    }
}

/// True where the holder of a root certificate, who may sign others, signed this one.
fn signed(root: &CertificateDer<'_>, certificate: &X509Certificate<'_>, now: UnixTime) -> bool {
    X509Certificate::from_der(root).is_ok_and(|(_, root)| {
        root.subject() == certificate.issuer()
            && (root.is_ca() || root.version() == X509Version::V1)
            && root.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
            && check_validity(&root, now).is_ok()
            && certificate.verify_signature(Some(root.public_key())).is_ok()
    })
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let (_, parsed) = X509Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
            self.check_issuer(roots, end_entity, &parsed, intermediates, now)?;
            if self.name_matters && !is_for(&parsed, &server_name.to_str())? {
                return Err(CertificateError::NotValidForName.into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let Some(old) = of_version_1(certificate) else {
            return rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms);
        };
        let key = &old.public_key().subject_public_key.data;
        let candidates = algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signature.scheme);
        let mut candidates = candidates.flat_map(|(_, algorithms)| *algorithms);
        match candidates.any(|algorithm| algorithm.verify_signature(key, message, signature.signature()).is_ok()) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match of_version_1(certificate) {
            Some(old) => {
                verify_tls13_signature_with_raw_key(message, &old.public_key().raw.into(), signature, algorithms)
            }
            None => rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate of version 1, which rustls does not read.
fn of_version_1<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    (parsed.version() == X509Version::V1).then_some(parsed)
}

/// True where the certificate is for this host: by its names of the host's kind, or by its common name where it has none of those.
fn is_for(certificate: &X509Certificate<'_>, host: &str) -> Result<bool, Error> {
    let address: Option<IpAddr> = host.parse().ok();
    let found = certificate.subject_alternative_name().map_err(|_| CertificateError::BadEncoding)?;
    let names = found.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let fits = |name: &GeneralName<'_>| match (name, address) {
        (GeneralName::DNSName(name), _) => matches(name, host),
        (GeneralName::IPAddress(bytes), Some(IpAddr::V4(address))) => *bytes == address.octets(),
        (GeneralName::IPAddress(bytes), Some(IpAddr::V6(address))) => *bytes == address.octets(),
        _ => false,
    };
    let is_of_its_kind = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(_) => address.is_none(),
        GeneralName::IPAddress(_) => address.is_some(),
        _ => false,
    };
    let has_common_name = || {
        let first = certificate.subject().iter_common_name().next();
        first.and_then(|name| name.as_str().ok()).is_some_and(|name| matches(name, host))
    };
    Ok(names.iter().any(fits) || (!names.iter().any(is_of_its_kind) && has_common_name()))
}

/// True where a name of a certificate is the host's, or is that with `*` for its first part.
fn matches(name: &str, host: &str) -> bool {
    let same = |name: &str, host: &str| !name.contains('\0') && name.eq_ignore_ascii_case(host);
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((first, rest))) => !domain.is_empty() && !first.is_empty() && same(domain, rest),
        _ => same(name, host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_libpq_does() {
        for (name, host, expected) in [
            ("db.example.com", "DB.example.COM", true),
            ("db.example.com", "db.example.org", false),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.db.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.", "db.", false),
            ("*", "db", false),
            ("d*.example.com", "db.example.com", false),
            ("db\0.example.com", "db\0.example.com", false),
        ] {
            assert_eq!(matches(name, host), expected, "{name:?} for {host:?}");
        }
    }
}
