//! Secrets on the command line: a value, `@FILE`, or `-` for stdin. Never shown by `Debug`.

use std::io::Read;
use std::str::FromStr;

use crate::client::Refusal;
use crate::domain::error::Error;

/// More than any token here can be; a wrong file is refused early.
const LONGEST: u64 = 64 * 1024;

/// Where a secret is, not yet read.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// On the command line itself.
    Value(String),
    /// In a file.
    File(String),
    /// On stdin.
    Stdin,
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.strip_prefix('@')) {
            ("-", _) => Self::Stdin,
            (_, Some(path)) => Self::File(path.to_owned()),
            (value, None) => Self::Value(value.to_owned()),
        })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => write!(f, "File({path:?})"),
            Self::Stdin => f.write_str("Stdin"),
        }
    }
}

impl Secret {
    /// The secret, without the newline that ends a file.
    ///
    /// # Errors
    /// It cannot be read, is empty, is not text, or is longer than 64 KiB.
    pub fn read(self) -> Result<String, Refusal> {
        match self {
            Self::Value(value) => trimmed("the value", value),
            Self::Stdin => from("stdin", std::io::stdin().lock()),
            Self::File(path) => match std::fs::File::open(&path) {
                Ok(file) => from(&path, file),
                Err(error) => Err(unreadable(&path, &format!("cannot read it: {error}"))),
            },
        }
    }
}

fn from(source: &str, input: impl Read) -> Result<String, Refusal> {
    let mut text = String::new();
    match input.take(LONGEST + 1).read_to_string(&mut text) {
        Err(error) => Err(unreadable(source, &format!("cannot read it: {error}"))),
        Ok(read) if read as u64 > LONGEST => Err(unreadable(source, "longer than any secret is")),
        Ok(_) => trimmed(source, text),
    }
}

fn trimmed(source: &str, text: String) -> Result<String, Refusal> {
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    match text {
        "" => Err(unreadable(source, "it is empty; a secret was expected")),
        text => Ok(text.to_owned()),
    }
}

fn unreadable(source: &str, why: &str) -> Refusal {
    Error::malformed("file", source, why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        match text.parse() {
            Ok(secret) => secret,
        }
    }

    #[test]
    fn a_secret_comes_from_the_value_a_file_or_stdin() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "from-file\n").unwrap();
        assert_eq!(secret(&format!("@{}", file.display())).read().unwrap(), "from-file");
        assert_eq!(secret("plain").read().unwrap(), "plain");
        assert_eq!(secret("-"), Secret::Stdin);
    }

    #[test]
    fn exactly_one_newline_is_not_part_of_it() {
        assert_eq!(from("stdin", "a\n\n".as_bytes()).unwrap(), "a\n");
        assert_eq!(from("stdin", "a\r\n".as_bytes()).unwrap(), "a");
        assert!(from("stdin", "\n".as_bytes()).is_err());
        assert!(from("stdin", [b'a'; 64 * 1024 + 1].as_slice()).is_err());
        assert!(from("stdin", [0xff].as_slice()).is_err());
    }

    #[test]
    fn a_secret_is_not_in_its_debug_form() {
        assert!(!format!("{:?}", secret("hunter2")).contains("hunter2"));
    }
}
