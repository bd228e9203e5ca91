//! How deep an expression goes, before it is parsed: Cedar walks trees on the stack, and a stack that overflows ends the
//! process.

/// Brackets within brackets.
const DEEPEST: usize = 32;
/// Operators in one policy, counted by their characters: a chain of them is a tree as deep as it is long.
const LONGEST: usize = 256;

/// The first line on which a policy goes too deep, and what to do about it.
pub fn too_deep(text: &str) -> Option<(usize, String)> {
    let (mut line, mut depth, mut operators) = (1, 0_usize, 0);
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let mut next = after;
        match byte {
            b'\n' => line += 1,
            b'/' if after.first() == Some(&b'/') => next = &after[until(after, |byte| byte == b'\n')..],
            b'"' => {
                let end = string(after);
                line += after[..end].iter().filter(|byte| **byte == b'\n').count();
                next = &after[end..];
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => operators = 0,
            b'&' | b'|' | b'!' | b'+' | b'-' | b'*' | b'.' | b'<' | b'>' | b'=' => operators += 1,
            byte if is_word(*byte) => {
                let end = until(after, |byte| !is_word(byte));
                operators += usize::from(*byte == b'i' && &after[..end] == b"f");
                next = &after[end..];
            }
            _ => {}
        }
        if depth > DEEPEST {
            return Some((line, format!("brackets are nested more than {DEEPEST} deep: split the policy")));
        }
        if operators > LONGEST {
            return Some((line, format!("a policy has more than {LONGEST} operators: split it, or use a set")));
        }
        rest = next;
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn until(bytes: &[u8], end: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| end(*byte)).unwrap_or(bytes.len())
}

/// Just past the end of a string, whose opening quote is behind us.
fn string(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}
