//! go-spiffe's certificate files as the CA file of an identity: taken whole, or not at all.

use std::os::unix::fs::PermissionsExt as _;

use super::Identity;
use crate::format::vectors::{Tally, files, vectors};

/// How many authorities each file holds; none where it is refused.
const AUTHORITIES: [(&str, Option<usize>); 5] = [
    ("cert.pem", Some(1)),
    ("certs.pem", Some(2)),
    ("corrupted.pem", None),
    ("empty.pem", None),
    ("not-pem.pem", None),
];

#[test]
fn a_ca_file_is_taken_whole_or_not_at_all() {
    let test = "a_ca_file_is_taken_whole_or_not_at_all";
    let Some(folder) = vectors(test, "go-spiffe/bundle/x509bundle/testdata") else { return };
    let mut tally = Tally::new(test, &[]);
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    std::fs::write(dir.path().join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(dir.path().join("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for path in files(&folder) {
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::copy(&path, dir.path().join("ca.pem")).unwrap();
        let usable = Identity::load(dir.path()).ok().filter(|identity| super::client_config(identity).is_ok());
        let found = usable.map(|identity| identity.authorities().len());
        let expected = AUTHORITIES.iter().find(|(file, _)| *file == name).and_then(|(_, count)| *count);
        tally.case(name, &found, &expected);
    }
    tally.end(AUTHORITIES.len());
}
