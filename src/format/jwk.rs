//! The public keys of somebody who signs: a JWK Set (RFC 7517, RFC 7518 section 6, RFC 8037).
//!
//! A key that is not for signatures is passed over. One that is, and that cannot be used, stays in the set with the
//! reason: a text that names it is refused for that, and not for a key that nobody finds.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde_json::Value;

use super::{from_base64url, json};

const LONGEST: usize = 256 * 1024;
/// A set in which every search is short; the largest providers publish some ten.
const MOST: usize = 100;
/// Members that only a private or a secret key has.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// How a text is signed: what is taken of the registry of RFC 7518.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256.
    Es256,
    /// Ed25519, the one curve of RFC 8037 that is taken.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
}

impl Algorithm {
    const ALL: [(Self, &'static str); 4] =
        [(Self::Es256, "ES256"), (Self::EdDsa, "EdDSA"), (Self::Rs256, "RS256"), (Self::Ps256, "PS256")];

    /// The algorithm of this name, letter by letter; `none` and shared secrets have no place here.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(algorithm, _)| *algorithm)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }
}

/// A set of keys for signatures.
#[derive(Clone, Debug)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    kid: Option<String>,
    /// The one algorithm that it is for, if it says so.
    alg: Option<String>,
    public: Result<Public, &'static str>,
}

#[derive(Clone, Debug)]
enum Public {
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl KeySet {
    /// Reads a JWK Set.
    ///
    /// # Errors
    /// What is wrong with it, to follow its name: not a JWK Set, too large, a private key in it, or no key to use.
    pub fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > LONGEST {
            return Err("it has more than 256 KiB");
        }
        let set = json::strict(bytes).map_err(|_| "it is not JSON with each member once")?;
        let list = set["keys"].as_array().ok_or("it is no JWK Set: it has no list `keys`")?;
        if list.len() > MOST {
            return Err("it holds more than 100 keys");
        }
        if list.iter().any(|key| PRIVATE.iter().any(|member| key.get(member).is_some())) {
            return Err("it holds a private or secret key; give the public keys only, and replace that one");
        }
        let keys: Vec<Key> = list.iter().filter(|key| is_for_signatures(key)).map(key).collect::<Result<_, _>>()?;
        if keys.iter().all(|key| key.public.is_err()) {
            return Err("it holds no key to use: P-256, Ed25519, or RSA with 2048 to 8192 bits, for signatures");
        }
        Ok(Self(keys))
    }

    /// Holds if the one key that is meant signed `input`: the one of this `kid`, or the only one of the set.
    ///
    /// # Errors
    /// Why it does not hold, to follow the text's name, and whether that is the key's fault or the signature's.
    pub fn verify(&self, algorithm: Algorithm, kid: Option<&str>, input: &[u8], signature: &[u8]) -> Result<(), Unfit> {
        let meant = |key: &&Key| kid.is_none() || key.kid.as_deref() == kid;
        let mut keys = self.0.iter().filter(meant);
        let key = match (keys.next(), keys.next()) {
            (Some(key), None) => key,
            (None, _) => return Err(Unfit::Key("its `kid` names no key of its issuer's set")),
            (Some(_), Some(_)) if kid.is_some() => {
                return Err(Unfit::Key("its `kid` names two keys of its issuer's set"));
            }
            (Some(_), Some(_)) => return Err(Unfit::Key("it has no `kid`, and its issuer's set has several keys")),
        };
        let public = key.public.as_ref().map_err(|why| Unfit::Key(why))?;
        if key.alg.as_deref().is_some_and(|alg| alg != algorithm.name()) {
            return Err(Unfit::Key("its key is for another `alg`"));
        }
        public.verify(algorithm, input, signature)
    }
}

/// Why no key of a set proves a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// No key, or not one that can be used so.
    Key(&'static str),
    /// The key is right, and the signature is not.
    Signature,
}

impl Public {
    /// The kind of the key and the algorithm have to agree: the text chooses neither alone.
    fn verify(&self, algorithm: Algorithm, input: &[u8], signature: &[u8]) -> Result<(), Unfit> {
        let checked = match (self, algorithm) {
            (Self::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(input, signature)
            }
            (Self::Ed25519(point), Algorithm::EdDsa) => {
                UnparsedPublicKey::new(&ED25519, point).verify(input, signature)
            }
            (Self::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, input, signature)
            }
            (Self::Rsa { n, e }, Algorithm::Ps256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, input, signature)
            }
            _ => return Err(Unfit::Key("its `alg` is not one of its key's kind")),
        };
        checked.map_err(|_| Unfit::Signature)
    }
}

/// A key that says nothing of its use may be for signatures (RFC 7517, sections 4.2 and 4.3).
fn is_for_signatures(key: &Value) -> bool {
    let operations = key.get("key_ops");
    let verifies = |operations: &Value| operations.as_array().is_some_and(|list| list.contains(&"verify".into()));
    key.get("use").is_none_or(|usage| usage == "sig") && operations.is_none_or(verifies)
}

fn key(key: &Value) -> Result<Key, &'static str> {
    let text = |member| match key.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err("a `kid` or `alg` in it is not a text"),
    };
    Ok(Key { kid: text("kid")?, alg: text("alg")?, public: public(key) })
}

fn public(key: &Value) -> Result<Public, &'static str> {
    let bytes = |member: &str| key[member].as_str().and_then(from_base64url);
    let half = |member: &str| bytes(member).filter(|half| half.len() == 32);
    match (key["kty"].as_str(), key["crv"].as_str()) {
        (Some("EC"), Some("P-256")) => match (half("x"), half("y")) {
            (Some(x), Some(y)) => Ok(Public::P256([&[4][..], &x, &y].concat())),
            _ => Err("its key's `x` or `y` is not 32 bytes of base64url"),
        },
        (Some("OKP"), Some("Ed25519")) => {
            half("x").map(Public::Ed25519).ok_or("its key's `x` is not 32 bytes of base64url")
        }
        (Some("RSA"), _) => match (bytes("n"), bytes("e")) {
            (Some(n), Some(e)) => rsa(n, e),
            _ => Err("its key's `n` or `e` is not base64url"),
        },
        _ => Err("its key is neither P-256 nor Ed25519 nor RSA"),
    }
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Public, &'static str> {
    let first = |number: &[u8]| number.first().copied().unwrap_or_default();
    if first(&n) == 0 || first(&e) == 0 {
        return Err("its key's `n` or `e` begins with a zero byte");
    }
    match n.len() * 8 - n[0].leading_zeros() as usize {
        2048..=8192 => Ok(Public::Rsa { n, e }),
        _ => Err("its RSA key has not 2048 to 8192 bits"),
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;
    use crate::format::base64url;

    struct P256(EcdsaKeyPair);

    impl P256 {
        fn new() -> Self {
            let random = SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
        }

        fn jwk(&self, kid: &str) -> Value {
            let point = self.0.public_key().as_ref();
            json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": base64url(&point[1..33]), "y": base64url(&point[33..]) })
        }

        fn sign(&self, input: &[u8]) -> Vec<u8> {
            self.0.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()
        }
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn exactly_one_key_is_meant() {
        let (one, other) = (P256::new(), P256::new());
        let signature = one.sign(b"x");
        let check = |keys: &[Value], kid| set(keys).verify(Algorithm::Es256, kid, b"x", &signature);
        assert_eq!(check(&[one.jwk("a"), other.jwk("b")], Some("a")), Ok(()));
        assert_eq!(check(&[one.jwk("a")], None), Ok(()));
        assert_eq!(check(&[one.jwk("a"), other.jwk("b")], Some("b")), Err(Unfit::Signature));
        for (keys, kid) in [
            (vec![one.jwk("a"), other.jwk("b")], None),
            (vec![one.jwk("a"), other.jwk("b")], Some("A")),
            (vec![one.jwk("a"), other.jwk("b")], Some("")),
            (vec![one.jwk("a"), other.jwk("a")], Some("a")),
            (vec![one.jwk("a"), one.jwk("a")], Some("a")),
            (vec![one.jwk("a")], Some("b")),
        ] {
            assert!(matches!(check(&keys, kid), Err(Unfit::Key(_))), "{kid:?}");
        }
    }

    #[test]
    fn a_key_is_used_for_what_it_says_alone() {
        let key = P256::new();
        let signature = key.sign(b"x");
        let with = |member: &str, value: Value| {
            let mut jwk = key.jwk("a");
            jwk[member] = value;
            let read = KeySet::read(json!({ "keys": [jwk, P256::new().jwk("b")] }).to_string().as_bytes());
            read.map(|set| set.verify(Algorithm::Es256, Some("a"), b"x", &signature))
        };
        for (member, value) in [
            ("use", json!("sig")),
            ("alg", json!("ES256")),
            ("key_ops", json!(["sign", "verify"])),
            ("x5t", json!("x")),
        ] {
            assert_eq!(with(member, value), Ok(Ok(())), "{member}");
        }
        for (member, value) in [
            ("use", json!("enc")),
            ("use", json!(["sig"])),
            ("use", Value::Null),
            ("key_ops", json!(["encrypt"])),
            ("key_ops", json!([])),
            ("key_ops", json!("verify")),
            ("alg", json!("ES384")),
            ("alg", json!("es256")),
            ("alg", json!("HS256")),
            ("alg", json!("")),
            ("kty", json!("RSA")),
            ("kty", json!("oct")),
            ("kty", json!("ec")),
            ("crv", json!("P-384")),
            ("crv", json!("Ed25519")),
            ("x", json!("AA")),
            ("x", json!(7)),
            ("y", Value::Null),
        ] {
            assert!(matches!(with(member, value.clone()), Ok(Err(Unfit::Key(_)))), "{member} {value}");
        }
        for (member, value) in [("kid", json!(7)), ("alg", Value::Null), ("alg", json!(["ES256"]))] {
            assert!(with(member, value).is_err(), "{member}");
        }
    }

    #[test]
    fn the_algorithm_is_that_of_the_keys_kind() {
        let p256 = P256::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let ed25519 = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let okp = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64url(ed25519.public_key().as_ref()) });
        let rsa = json!({ "kty": "RSA", "kid": "r", "n": base64url(&[0xff; 256]), "e": "AQAB" });
        let set = set(&[p256.jwk("p"), okp, rsa]);
        let signature = ed25519.sign(b"x");
        assert_eq!(set.verify(Algorithm::EdDsa, Some("e"), b"x", signature.as_ref()), Ok(()));
        let fits = |kid, algorithm| !matches!(set.verify(algorithm, Some(kid), b"x", &[0; 64]), Err(Unfit::Key(_)));
        for (kid, own) in [("p", &["ES256"][..]), ("e", &["EdDSA"]), ("r", &["RS256", "PS256"])] {
            for (algorithm, name) in Algorithm::ALL {
                assert_eq!(fits(kid, algorithm), own.contains(&name), "{kid} {name}");
            }
        }
        let others =
            ["none", "NONE", "", "HS256", "ES384", "RS384", "PS512", "RS1", "es256", "EDDSA", "Ed448", "ES256K"];
        assert!(others.iter().all(|name| Algorithm::named(name).is_none()));
    }

    #[test]
    fn a_weak_rsa_key_is_never_used() {
        let other = P256::new();
        for (n, e) in [
            (vec![0xff; 128], vec![1, 0, 1]),
            (vec![0xff; 255], vec![1, 0, 1]),
            ([&[0x7f][..], &[0xff; 255]].concat(), vec![1, 0, 1]),
            (vec![0xff; 1025], vec![1, 0, 1]),
            ([&[0][..], &[0xff; 256]].concat(), vec![1, 0, 1]),
            (vec![0xff; 256], vec![0, 1]),
            (Vec::new(), vec![1, 0, 1]),
            (vec![0xff; 256], Vec::new()),
        ] {
            let rsa = json!({ "kty": "RSA", "kid": "r", "n": base64url(&n), "e": base64url(&e) });
            let refused = set(&[rsa, other.jwk("a")]).verify(Algorithm::Rs256, Some("r"), b"x", &[0; 256]);
            assert!(matches!(refused, Err(Unfit::Key(_))), "{} {e:?}", n.len());
        }
    }

    #[test]
    fn a_set_without_a_public_key_to_use_is_none() {
        let jwk = P256::new().jwk("a");
        let private = |member: &str| {
            let mut jwk = jwk.clone();
            jwk[member] = "AA".into();
            json!({ "keys": [jwk] }).to_string()
        };
        let doubled = json!({ "keys": [jwk] }).to_string().replacen("\"kid\":", "\"kid\":\"k\",\"kid\":", 1);
        let many = json!({ "keys": vec![&jwk; MOST + 1] }).to_string();
        let bare = jwk.to_string();
        let wrong = ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[1]}"#, &doubled, &many, &bare];
        for wrong in wrong.into_iter().map(str::to_owned).chain(PRIVATE.map(private)) {
            assert!(KeySet::read(wrong.as_bytes()).is_err(), "{wrong:.60}");
        }
        assert!(KeySet::read(format!("{}{}", json!({ "keys": [jwk] }), " ".repeat(LONGEST)).as_bytes()).is_err());
    }
}
