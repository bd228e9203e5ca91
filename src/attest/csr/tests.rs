use super::*;
use rcgen::{
    Attribute, BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType,
};

const ID: &str = "spiffe://td.example/agent/ana";

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    change(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn reason(der: &[u8]) -> &'static str {
    prove(der).map_or_else(|error| error.reason, |_| "")
}

/// `der` with its first `from` made `to`, of the same length.
fn swap(der: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = der.windows(from.len()).position(|window| window == from).unwrap();
    [&der[..at], to, &der[at + from.len()..]].concat()
}

/// One DER sequence around `contents`, which have at least 128 bytes.
fn sequence(contents: &[u8]) -> Vec<u8> {
    match u8::try_from(contents.len()) {
        Ok(length) => [&[0x30, 0x81, length][..], contents].concat(),
        Err(_) => [&[0x30, 0x82][..], &u16::try_from(contents.len()).unwrap().to_be_bytes(), contents].concat(),
    }
}

#[test]
fn a_request_proves_its_key() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::default();
        assert!(prove(params.serialize_request(&key).unwrap().der()).unwrap().asks.is_empty());
        params.subject_alt_names = vec![uri(ID)];
        let proven = prove(params.serialize_request(&key).unwrap().der()).unwrap();
        assert_eq!((&proven.spki, &proven.asks[..]), (&key.subject_public_key_info(), &[ID.to_owned()][..]));
        assert_eq!(proven.key_hash(), Digest::of(&key.subject_public_key_info()));
    }
}

#[test]
fn a_request_may_have_its_own_identity_alone() {
    let with = |names: &[&str]| {
        let der = request(|params| params.subject_alt_names = names.iter().map(|name| uri(name)).collect());
        prove(&der).unwrap().may_have(ID).map_or_else(|error| error.reason, |()| "")
    };
    assert_eq!((with(&[]), with(&[ID])), ("", ""));
    for names in [
        &["spiffe://td.example/agent/bob"][..],
        &["spiffe://td.example/agent/ana/"],
        &[ID, ID],
        &[ID, "https://x"],
        &["x", ID],
    ] {
        assert_eq!(with(names), "csr_asks", "{names:?}");
    }
}

#[test]
fn a_request_asks_for_nothing_but_names() {
    let oid = [1, 3, 6, 1, 4, 1, 99_999, 1];
    let asking: [(&str, Vec<u8>); 9] = [
        ("basicConstraints", request(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("basicConstraints", request(|params| params.is_ca = IsCa::ExplicitNoCa)),
        ("keyUsage", request(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign])),
        ("extKeyUsage", request(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any])),
        (
            "DNSName",
            request(|params| {
                params.subject_alt_names = vec![uri(ID), SanType::DnsName("*.example".try_into().unwrap())]
            }),
        ),
        ("IPAddress", request(|params| params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())])),
        (
            "RFC822Name",
            request(|params| params.subject_alt_names = vec![SanType::Rfc822Name("a@b.c".try_into().unwrap())]),
        ),
        (
            "OtherName",
            request(|params| {
                params.subject_alt_names = vec![SanType::OtherName((vec![1, 2, 3], "x".to_owned().into()))]
            }),
        ),
        (
            "1.3.6.1.4.1.99999.1",
            request(|params| {
                params.custom_extensions = vec![CustomExtension::from_oid_content(&oid, vec![5, 0])];
            }),
        ),
    ];
    for (name, der) in asking {
        let error = prove(&der).unwrap_err();
        assert_eq!((error.code, error.reason, error.field), (Code::Invalid, "csr_asks", Some("csr")), "{name}");
        assert!(error.message.contains(name), "{name}: {error}");
    }
}

#[test]
fn an_attribute_has_one_value_and_comes_once() {
    let challenge = |values: &[u8]| Attribute { oid: &[1, 2, 840, 113_549, 1, 9, 7], values: values.to_vec() };
    // An extensionRequest without extensions, and one that names a URI.
    let (nothing, name) =
        (&b"\x31\x02\x30\x00"[..], b"\x31\x10\x30\x0e\x30\x0c\x06\x03\x55\x1d\x11\x04\x05\x30\x03\x86\x01x");
    let both = [&b"\x31\x12"[..], &nothing[2..], &name[2..]].concat();
    let extensions = |values: &[u8]| Attribute { oid: &[1, 2, 840, 113_549, 1, 9, 14], values: values.to_vec() };
    let with = |attributes: Vec<Attribute>| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::default();
        reason(params.serialize_request_with_attributes(&key, attributes).unwrap().der())
    };
    assert_eq!((with(vec![extensions(nothing)]), with(vec![extensions(name)])), ("", ""));
    assert_eq!(with(vec![extensions(nothing), extensions(name)]), "csr_asks");
    assert_eq!(with(vec![extensions(&both)]), "csr_malformed");
    assert_eq!(with(vec![extensions(b"\x31\x02\x30\x00\x05\x00")]), "csr_malformed");
    assert_eq!(with(vec![challenge(b"\x31\x04\x0c\x02hi")]), "csr_asks");
    assert_eq!(with(vec![challenge(b"\x31\x08\x0c\x02hi\x0c\x02ho")]), "csr_malformed");
    assert_eq!(with(vec![challenge(b"\x31\x00")]), "csr_malformed");
    let unknown = Attribute { oid: &[1, 2, 3], values: b"\x31\x02\x05\x00".to_vec() };
    assert_eq!(with(vec![unknown]), "csr_asks");
}

#[test]
fn an_extension_is_asked_for_once() {
    // Two subjectAltNames, in the one list of extensions.
    let name = b"\x30\x0c\x06\x03\x55\x1d\x11\x04\x05\x30\x03\x86\x01x";
    let values = [&b"\x31\x1e\x30\x1c"[..], name, name].concat();
    let twice = Attribute { oid: &[1, 2, 840, 113_549, 1, 9, 14], values };
    let key = KeyPair::generate().unwrap();
    let der = CertificateParams::default().serialize_request_with_attributes(&key, vec![twice]).unwrap();
    let error = prove(der.der()).unwrap_err();
    assert!(error.reason == "csr_asks" && error.message.contains("subjectAltName"), "{error}");
}

#[test]
fn the_bytes_that_are_signed_are_the_bytes_that_are_read() {
    let good = request(|params| params.subject_alt_names = vec![uri(ID)]);
    assert_eq!(reason(&sequence(&der::inside(&good).unwrap().concat())), "");
    let mut broken = good.clone();
    *broken.last_mut().unwrap() ^= 1;
    let renamed = swap(&good, b"agent/ana", b"agent/bob");
    for altered in [broken, renamed] {
        assert_eq!(reason(&altered), "csr_signature");
    }
    let parts = der::inside(&good).unwrap().concat();
    let indefinite = [&[0x30, 0x80][..], &parts, &[0, 0]].concat();
    let longer = [&[0x30, 0x83, 0][..], &u16::try_from(parts.len()).unwrap().to_be_bytes(), &parts].concat();
    let more = sequence(&[&parts[..], &[5, 0]].concat());
    let elements = der::inside(&good).unwrap();
    let info = sequence(&[&der::inside(elements[0]).unwrap().concat()[..], &[5, 0]].concat());
    let within = sequence(&[&info, elements[1], elements[2]].concat());
    let long = request(|params| params.subject_alt_names = vec![uri(&"x".repeat(17_000))]);
    let second = swap(&good, b"\x02\x01\x00", b"\x02\x01\x01");
    for wrong in [
        &[][..],
        b"-----BEGIN CERTIFICATE REQUEST-----",
        &good[..good.len() - 1],
        &[&good[..], &[0]].concat(),
        &indefinite,
        &longer,
        &more,
        &within,
        &long,
        &second,
    ] {
        assert_eq!(reason(wrong), "csr_malformed", "{:?}", &wrong[..wrong.len().min(8)]);
    }
}

#[test]
fn a_weak_key_is_refused() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let good = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let public = &key.subject_public_key_info()[12..];
    let signature = &good[good.len() - 64..];
    // For the neutral element, R = the neutral element and S = 0 sign everything: ring accepts that.
    let neutral: Vec<u8> = std::iter::once(1).chain([0; 63]).collect();
    let weak = swap(&swap(&good, public, &neutral[..32]), signature, &neutral);
    assert!(X509CertificationRequest::from_der(&weak).unwrap().1.verify_signature().is_ok());
    assert_eq!(reason(&weak), "csr_key");
    let p = |first: u8, last: u8| [&[first][..], &[0xff; 30], &[last]].concat();
    let eighth = b"\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\
        \xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc";
    for point in [
        vec![0; 32],
        p(0xec, 0x7f),
        p(0xed, 0x7f),
        p(0xee, 0xff),
        [&eighth[..], &[5]].concat(),
        [&eighth[..], &[0x85]].concat(),
    ] {
        assert_eq!(reason(&swap(&good, public, &point)), "csr_key", "{point:?}");
    }
    // A compressed point, and no point of the curve.
    let good = request(|_| ());
    assert_eq!(reason(&swap(&good, b"\x03\x42\x00\x04", b"\x03\x42\x00\x02")), "csr_key");
    let at = good.windows(4).position(|window| window == b"\x03\x42\x00\x04").unwrap() + 4;
    assert_eq!(reason(&[&good[..at], &[0; 64], &good[at + 64..]].concat()), "csr_signature");
}
