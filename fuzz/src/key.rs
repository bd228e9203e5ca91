//! Keys that sign what a target makes, so that it gets past the signature.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

/// The key of RFC 7515, appendix A.3: published, so nobody will take it for a secret.
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
const D: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";

fn bytes(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("as printed in the RFC")
}

/// Its public point, uncompressed.
pub fn point() -> Vec<u8> {
    [&[4][..], &bytes(X), &bytes(Y)].concat()
}

/// `input` with its ES256 signature, as a compact JWS.
pub fn sign(input: &str) -> String {
    let (rng, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
    let key = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &bytes(D), &point(), &rng);
    let signature = key.expect("as printed in the RFC").sign(&rng, input.as_bytes()).expect("the system has entropy");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A PKCS #10 request for an Ed25519 key with these attributes (DER, from their `[0]` on), properly signed.
pub fn request(attributes: &[u8]) -> Vec<u8> {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 bytes are a seed");
    let algorithm = b"\x30\x05\x06\x03\x2b\x65\x70";
    let spki = [&b"\x30\x2a"[..], algorithm, b"\x03\x21\x00", key.public_key().as_ref()].concat();
    let info = sequence(&[b"\x02\x01\x00\x30\x00", &spki[..], attributes].concat());
    let signature = [b"\x03\x41\x00", key.sign(&info).as_ref()].concat();
    sequence(&[&info[..], algorithm, &signature].concat())
}

/// The attributes of a request that asks for these URI names, in this order, and for nothing else.
pub fn asking(names: &[&[u8]]) -> Vec<u8> {
    let uris: Vec<u8> = names.iter().flat_map(|name| element(0x86, name)).collect();
    let extension = sequence(&[b"\x06\x03\x55\x1d\x11", &element(4, &sequence(&uris))[..]].concat());
    let oid = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e";
    element(0xa0, &sequence(&[oid, &element(0x31, &sequence(&extension))[..]].concat()))
}

fn sequence(contents: &[u8]) -> Vec<u8> {
    element(0x30, contents)
}

/// One DER element.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).expect("inputs are bounded").to_be_bytes();
    match contents.len() {
        0..=0x7f => [&[tag, length[3]][..], contents].concat(),
        0x80..=0xff => [&[tag, 0x81, length[3]][..], contents].concat(),
        0x100..=0xffff => [&[tag, 0x82, length[2], length[3]][..], contents].concat(),
        _ => [&[tag, 0x84][..], &length, contents].concat(),
    }
}
