//! Signed notes and checkpoints of the log, as others read them (C2SP signed-note and tlog-checkpoint, v1).
//!
//! A note is text, an empty line, and signature lines `— NAME BASE64`, whose bytes begin with four of the key's hash.
//! Built and parsed here; the key ring signs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::domain::checkpoint::Checkpoint;
use crate::domain::digest::Digest;
use crate::domain::error::{Code, Error};

/// The signature type of Ed25519 in a note.
const TYPE: u8 = 1;
/// More than a checkpoint with the signatures of some witnesses.
const LONGEST: usize = 64 * 1024;

/// The public half of a log key, and the name that it signs under: printed as `NAME+HASH+KEY`, a *verifier key*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// The Ed25519 key `public` (32 bytes) under `name`, for a checkpoint the origin of its log.
    ///
    /// # Errors
    /// The name is empty or holds a space or a plus sign, or the key is of another length.
    pub fn new(name: &str, public: &[u8]) -> Result<Self, Error> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+' || c.is_control()) {
            return Err(malformed("the name of a key is not empty and holds neither spaces nor `+`"));
        }
        let public = public.try_into().map_err(|_| malformed("an Ed25519 key has 32 bytes"))?;
        Ok(Self { name: name.to_owned(), public })
    }

    /// The name that it signs under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256 over name, line feed, type and key.
    fn hash(&self) -> [u8; 4] {
        let hashed = [self.name.as_bytes(), b"\n", &[TYPE], &self.public].concat();
        let Digest([a, b, c, d, ..]) = Digest::of(&hashed);
        [a, b, c, d]
    }

    /// The whole note: `text` under one signature.
    pub fn note(&self, text: &str, signature: &[u8]) -> String {
        let signed = STANDARD.encode([&self.hash()[..], signature].concat());
        format!("{text}\n\u{2014} {} {signed}\n", self.name)
    }

    /// The text of a note that this key signed; signatures of others are passed over.
    ///
    /// # Errors
    /// It is not a note, this key did not sign it, or a signature of this key is not good.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, Error> {
        if note.len() > LONGEST || note.contains(|c: char| c < ' ' && c != '\n') {
            return Err(malformed("it is too long or holds control characters"));
        }
        let split = note.rfind("\n\n").ok_or_else(|| malformed("it has no signatures"))?;
        let (text, signatures) = (&note[..=split], &note[split + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or_else(|| malformed("its last line does not end"))?;
        let mut found = false;
        for line in signatures.split('\n') {
            let parts = line.strip_prefix("\u{2014} ").and_then(|rest| rest.split_once(' '));
            let (name, signed) = parts.ok_or_else(|| malformed("a signature line is not `— NAME BASE64`"))?;
            let signed = STANDARD.decode(signed).map_err(|_| malformed("a signature is not base64"))?;
            let (hash, signature) =
                signed.split_first_chunk::<4>().ok_or_else(|| malformed("a signature is cut off"))?;
            if name != self.name || *hash != self.hash() {
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, &self.public);
            key.verify(text.as_bytes(), signature).map_err(|_| {
                Error::new(Code::Denied, "note_signature", format!("the signature of `{name}` is not good"))
            })?;
            found = true;
        }
        match found {
            true => Ok(text),
            false => Err(Error::denied("note_unsigned", format!("`{}` did not sign this note", self.name))),
        }
    }

    /// The checkpoint in a note that this key signed, of the log with the key's own name.
    ///
    /// # Errors
    /// As [`VerifierKey::open`]; or what was signed is not a checkpoint, or one of another log.
    pub fn checkpoint(&self, note: &str) -> Result<Checkpoint, Error> {
        let checkpoint = parse(self.open(note)?)?;
        if checkpoint.origin != self.name {
            let message = format!("the checkpoint is of log `{}`, not of `{}`", checkpoint.origin, self.name);
            return Err(Error::denied("checkpoint_origin", message));
        }
        Ok(checkpoint)
    }
}

/// What is signed of a checkpoint: origin, size and root, a line each.
pub fn text(checkpoint: &Checkpoint) -> String {
    format!("{}\n{}\n{}\n", checkpoint.origin, checkpoint.size, STANDARD.encode(checkpoint.root.0))
}

/// Lines behind the first three are extensions, which mean nothing to us.
fn parse(text: &str) -> Result<Checkpoint, Error> {
    let mut lines = text.lines();
    let mut next =
        || lines.next().filter(|line| !line.is_empty()).ok_or_else(|| malformed("it has less than three lines"));
    let (origin, size, root) = (next()?, next()?, next()?);
    let parsed: u64 = size.parse().map_err(|_| malformed("its size is not a number"))?;
    if parsed.to_string() != size {
        return Err(malformed("its size is not written as a plain decimal number"));
    }
    let root = STANDARD.decode(root).ok().and_then(|root| Digest::from_slice(&root));
    let root = root.ok_or_else(|| malformed("its root is not the base64 of 32 bytes"))?;
    Ok(Checkpoint { origin: origin.to_owned(), size: parsed, root })
}

fn malformed(why: &str) -> Error {
    Error::new(Code::Invalid, "malformed", format!("the signed note is not valid: {why}")).on("note")
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+", self.name)?;
        self.hash().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "+{}", STANDARD.encode([&[TYPE], &self.public[..]].concat()))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed("a verifier key is `NAME+HASH+KEY`"));
        };
        let key = STANDARD.decode(key).map_err(|_| malformed("a verifier key ends in base64"))?;
        let Some((&TYPE, public)) = key.split_first() else {
            return Err(malformed("only Ed25519 keys (type 1) are known here"));
        };
        let key = Self::new(name, public)?;
        if key.to_string() == text { Ok(key) } else { Err(malformed("the hash of the verifier key is another one")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    /// From the documentation of Go's `golang.org/x/mod/sumdb/note`.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer(name: &str) -> (Ed25519KeyPair, VerifierKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[name.len() as u8; 32]).unwrap();
        let key = VerifierKey::new(name, pair.public_key().as_ref()).unwrap();
        (pair, key)
    }

    fn checkpoint(origin: &str) -> Checkpoint {
        Checkpoint { origin: origin.to_owned(), size: 42, root: Digest::of(b"root") }
    }

    fn signed(name: &str, text: &str) -> String {
        let (pair, key) = signer(name);
        key.note(text, pair.sign(text.as_bytes()).as_ref())
    }

    #[test]
    fn a_note_of_another_implementation_opens() {
        let key: VerifierKey = GO_KEY.parse().unwrap();
        assert_eq!((key.name(), key.to_string().as_str()), ("PeterNeumann", GO_KEY));
        assert!(key.open(GO_NOTE).unwrap().ends_with("your problem is.\n"));
        let sample = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        assert_eq!(sample.parse::<VerifierKey>().unwrap().to_string(), sample);
    }

    #[test]
    fn a_checkpoint_comes_back_as_it_was_signed() {
        let note = signed("td.example/log/e1", &text(&checkpoint("td.example/log/e1")));
        let (_, key) = signer("td.example/log/e1");
        assert_eq!(key.checkpoint(&note).unwrap(), checkpoint("td.example/log/e1"));
        // Witnesses sign below; their lines are not ours to judge.
        let witnessed = format!(
            "{note}{}",
            signed("witness", &text(&checkpoint("td.example/log/e1"))).lines().last().unwrap().to_owned() + "\n"
        );
        assert_eq!(key.checkpoint(&witnessed).unwrap(), checkpoint("td.example/log/e1"));
        let more = text(&checkpoint("td.example/log/e1")) + "an extension\n";
        assert_eq!(key.checkpoint(&signed("td.example/log/e1", &more)).unwrap().size, 42);
    }

    #[test]
    fn any_other_byte_is_another_note() {
        let (_, key) = signer("td");
        let note = signed("td", &text(&checkpoint("td")));
        for at in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(other) = String::from_utf8(bytes) {
                assert!(key.checkpoint(&other).is_err(), "{other}");
            }
        }
        for cut in (0..note.len()).filter(|at| note.is_char_boundary(*at)) {
            assert!(key.checkpoint(&note[..cut]).is_err(), "{cut}");
        }
        let reason = |note: &str| key.checkpoint(note).unwrap_err().reason;
        assert_eq!(reason(&signed("td2", &text(&checkpoint("td")))), "note_unsigned");
        assert_eq!(reason(&signed("td", &text(&checkpoint("other")))), "checkpoint_origin");
        for wrong in ["td\n42\n", "td\n042\nAAAA\n", "td\n-1\nAAAA\n", "td\n42\nAAAA\n", "\n42\nAAAA\n"] {
            assert_eq!(reason(&signed("td", wrong)), "malformed", "{wrong:?}");
        }
    }

    #[test]
    fn a_verifier_key_is_whole_or_refused() {
        let whole = signer("td").1.to_string();
        assert!(whole.parse::<VerifierKey>().is_ok());
        for wrong in
            ["", "td", "td+00000000", &whole.replace("td+", "te+"), &format!("{whole}A"), &whole.replace("+A", "+B")]
        {
            assert!(wrong.parse::<VerifierKey>().is_err(), "{wrong}");
        }
        for name in ["", "a b", "a+b", "a\n"] {
            assert!(VerifierKey::new(name, &[0; 32]).is_err(), "{name:?}");
        }
        assert!(VerifierKey::new("td", &[0; 31]).is_err());
    }
}
