//! Status lists as others read them (Token Status List, draft-ietf-oauth-status-list-21): a signed, compressed array of
//! two bits for each place. Built here; the key ring signs.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use crate::domain::status::{BITS, LIFE, StatusList, TTL};

/// Its media type without `application/`: by it no list passes for an access token.
const TYPE: &str = "statuslist+jwt";

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Payload<'a> {
    sub: &'a str,
    iat: i64,
    exp: i64,
    ttl: i64,
    status_list: Packed,
}

#[derive(Serialize)]
struct Packed {
    bits: u8,
    lst: String,
}

/// What the token key `kid` is to sign for `list`: header and payload, each in base64url, with a dot between.
pub fn signing_input(list: &StatusList, kid: &str) -> String {
    let header = Header { typ: TYPE, alg: "ES256", kid };
    let payload = Payload {
        sub: &list.url,
        iat: list.made_at.seconds(),
        exp: list.made_at.plus(LIFE).seconds(),
        ttl: TTL.as_millis() / 1000,
        status_list: Packed { bits: BITS, lst: URL_SAFE_NO_PAD.encode(compressed(&list.packed)) },
    };
    format!("{}.{}", text(&header), text(&payload))
}

fn text(value: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).expect("strings and numbers always have a JSON form"))
}

/// In the zlib format (RFC 1950), as small as it gets: a list is fetched more often than it is made.
fn compressed(packed: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(packed).and_then(|()| encoder.finish()).expect("memory takes every byte")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::{Value, pack};
    use std::io::Read as _;

    fn decompressed(lst: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packed = URL_SAFE_NO_PAD.decode(lst).unwrap();
        flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// The two lists that the draft prints (section 4.1), as others compress them, and as it comes out here.
    #[test]
    fn the_lists_printed_in_the_draft_are_packed_as_it_says() {
        for (bytes, lst) in [(&[0xb9, 0xa3][..], "eNrbuRgAAhcBXQ"), (&[0xc9, 0x44, 0xf9][..], "eNo76fITAAPfAgc")] {
            assert_eq!(decompressed(lst), bytes);
            assert_eq!(decompressed(&URL_SAFE_NO_PAD.encode(compressed(bytes))), bytes);
        }
        // Two bits: 1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3. A 3 is no status of ours, so it is left out here.
        let [valid, invalid, suspended] = [Value::Valid, Value::Invalid, Value::Suspended];
        let places =
            [(0, invalid), (1, suspended), (2, valid), (5, invalid), (7, invalid), (8, invalid), (9, suspended)];
        let packed = pack(places.into_iter());
        assert_eq!(packed[..3], [0xc9 & 0x3f, 0x44, 0xf9 & 0x0f]);
        assert_eq!(packed.len(), 16 * 1024);
    }
}
