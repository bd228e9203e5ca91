//! What a server that is no broker shows, and its client: keys and sizes as the broker's.

use std::path::Path;

use belay::client::Identity;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The server's certificate with its authority, and its key; the identity of the client of this name is in `directory`.
pub fn certificates(directory: &Path, client: &'static str) -> ([CertificateDer<'static>; 2], PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = authority.self_signed(&key).unwrap();
    let issuer = Issuer::new(authority, key);
    let leaf = |name: SanType, usage: ExtendedKeyUsagePurpose| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        (params.signed_by(&key, &issuer).unwrap(), key)
    };
    let name = SanType::URI(client.try_into().unwrap());
    let (leaf_of_client, client_key) = leaf(name, ExtendedKeyUsagePurpose::ClientAuth);
    Identity::save(directory, leaf_of_client.der(), &client_key.serialize_pem(), &[root.der().to_vec()], false)
        .unwrap();
    let (server, server_key) = leaf(SanType::IpAddress([127, 0, 0, 1].into()), ExtendedKeyUsagePurpose::ServerAuth);
    ([server.der().clone(), root.der().clone()], PrivateKeyDer::Pkcs8(server_key.serialize_der().into()))
}
