//! Which certificates are accepted: those libpq accepts (PostgreSQL: `fe-secure-openssl.c`).
//!
//! Invariants: WebPKI builds the chain, and what it does not look at is looked at here: that whoever signs may sign (CA, key usage, purpose,
//! dates and length of the path of a root too), and what a server's certificate is for. libpq is less strict than WebPKI in three ways by
//! which PostgreSQL's own documentation sets servers up: a server's certificate may be an authority's (`openssl req -x509`), it may be of
//! version 1 (`openssl x509 -req` before OpenSSL 3.2), and where it names no host, its common name does. The first two are accepted where
//! `sslrootcert` itself holds them or who signed them.

use super::Roots;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{net::IpAddr, sync::Arc};
use x509_parser::{
    oid_registry::{OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA},
    prelude::{ASN1Time, FromDer, GeneralName, X509Certificate, X509Version},
};

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
        check_validity(parsed, now)?;
        check_purpose(parsed)?;
        let authorities = || roots.0.iter().filter(|root| may_sign(root, true, now));
        // What WebPKI does not read.
        if parsed.version() == X509Version::V1 || parsed.is_ca() {
            let is_known = is_self_signed(parsed) && roots.0.iter().any(|root| root == certificate);
            return match is_known || authorities().any(|root| signed(root, parsed)) {
                true => Ok(()),
                false => Err(CertificateError::UnknownIssuer.into()),
            };
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        let intermediates: Vec<_> = intermediates.iter().filter(|one| may_sign(one, false, now)).cloned().collect();
        let leaf = ParsedCertificate::try_from(certificate)?;
        let check = |roots: &[&CertificateDer<'_>], intermediates: &[CertificateDer<'_>]| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots.iter().map(|root| (*root).clone().into_owned()));
            verify_server_cert_signed_by_trust_anchor(&leaf, &store, intermediates, now, algorithms)
        };
        // WebPKI does not ask how long the path below a root may be.
        let (mut limited, mut unlimited) = (Vec::new(), Vec::new());
        for root in authorities() {
            match longest_path(root) {
                Some(most) => limited.push((root, most)),
                None => unlimited.push(root),
            }
        }
        limited.iter().fold(check(&unlimited, &intermediates), |done, (root, most)| {
            let is_short = intermediates.len() <= *most as usize;
            done.or_else(|_| check(&[*root], if is_short { &intermediates } else { &[] }))
        })
    }
}

fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject() == certificate.issuer()
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

/// That a certificate which says what it is for is for servers (OpenSSL: the purpose `sslserver`).
fn check_purpose(certificate: &X509Certificate<'_>) -> Result<(), Error> {
    let key = certificate.key_usage().map_err(|_| CertificateError::BadEncoding)?;
    let is_for_tls = key.is_none_or(|usage| {
        usage.value.digital_signature() || usage.value.key_encipherment() || usage.value.key_agreement()
    });
    match is_for_tls && is_for_servers(certificate) {
        true => Ok(()),
        false => Err(CertificateError::InvalidPurpose.into()),
    }
}

fn is_for_servers(certificate: &X509Certificate<'_>) -> bool {
    let usage = certificate.extended_key_usage();
    usage.is_ok_and(|usage| usage.is_none_or(|usage| usage.value.server_auth || usage.value.any))
}

/// True for a certificate whose holder may sign those of servers now; a root signs itself.
fn may_sign(certificate: &CertificateDer<'_>, is_root: bool, now: UnixTime) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
        let is_authority = certificate.is_ca() || (is_root && certificate.version() == X509Version::V1);
        let signs = certificate.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()));
        is_authority
            && signs
            && is_for_servers(&certificate)
            && (!is_root || is_self_signed(&certificate))
            && check_validity(&certificate, now).is_ok()
    })
}

/// How many authorities may stand between a root and a server's certificate, where the root limits it.
fn longest_path(root: &CertificateDer<'_>) -> Option<u32> {
    let (_, root) = X509Certificate::from_der(root).ok()?;
    root.basic_constraints().ok()??.value.path_len_constraint
}

/// True where the holder of a root certificate signed this one, by more than SHA-1.
fn signed(root: &CertificateDer<'_>, certificate: &X509Certificate<'_>) -> bool {
    let is_weak = [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(&certificate.signature_algorithm.algorithm);
    X509Certificate::from_der(root).is_ok_and(|(_, root)| {
        root.subject() == certificate.issuer()
            && !is_weak
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
