//! Whether bytes are DER, element by element: definite minimal lengths, nothing left over.
//!
//! The X.509 parser passes over what follows the fields that it knows. What was signed and what was read
//! must be the same bytes, so the shape is checked here first.

const DEEPEST: usize = 16;
const CONSTRUCTED: u8 = 0x20;
const LONG_TAG: u8 = 0x1f;

/// The elements of which `bytes` consist, each with its header, if all of them are DER to the last level.
pub(super) fn elements(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    walk(bytes, DEEPEST)
}

/// The elements inside the one element that `bytes` are.
pub(super) fn inside(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (header, rest) = header(bytes)?;
    if rest.is_empty() { elements(&bytes[header..]) } else { None }
}

fn walk(mut bytes: &[u8], depth: usize) -> Option<Vec<&[u8]>> {
    let depth = depth.checked_sub(1)?;
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (header, rest) = header(bytes)?;
        let element = &bytes[..bytes.len() - rest.len()];
        if element[0] & CONSTRUCTED != 0 {
            walk(&element[header..], depth)?;
        }
        found.push(element);
        bytes = rest;
    }
    Some(found)
}

/// The length of the header of the first element, and what follows that element (X.690, sections 8.1 and 10.1).
fn header(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    if tag & LONG_TAG == LONG_TAG {
        return None;
    }
    let (header, length) = match first {
        0..=0x7f => (2, usize::from(first)),
        0x81 => (3, usize::from(*bytes.get(2)?)),
        0x82 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        _ => return None,
    };
    let shortest = match header {
        2 => 0,
        3 => 0x80,
        _ => 0x100,
    };
    if length < shortest { None } else { Some((header, bytes.get(header + length..)?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_der_is_read() {
        let long = [&[0x30, 0x81, 0x80][..], &[5, 0].repeat(64)].concat();
        assert_eq!(inside(&long).unwrap().len(), 64);
        assert_eq!(inside(&[0x30, 5, 2, 1, 0, 5, 0]).unwrap(), [&[2, 1, 0][..], &[5, 0]]);
        let deep = (0..20).fold(vec![5, 0], |inner, _| [&[0x30, inner.len() as u8][..], &inner].concat());
        let wrong: [&[u8]; 9] = [
            &[],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 2, 5, 0],
            &[0x30, 0x82, 0, 2, 5, 0],
            &[0x30, 2, 5, 0, 0],
            &[0x30, 3, 0x1f, 1, 0],
            &deep,
        ];
        for bytes in wrong {
            assert_eq!(inside(bytes), None, "{bytes:?}");
        }
    }
}
