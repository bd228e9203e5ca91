//! Limits on a grant: what may be done under it at most, by its holder and everybody below together.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::name::Line;
use super::scope::Decimal;
use super::time::Span;

/// At most. What is absent is not limited here; every ancestor's limits hold as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// Grants on a chain through this one, root included.
    pub max_depth: Option<u8>,
    /// Calls that were allowed.
    pub max_calls: Option<u64>,
    /// The sum over a numeric argument of the calls that were allowed, by argument.
    pub max_sum: Vec<(String, Decimal)>,
    /// Different resources in the calls that were allowed.
    pub max_distinct_resources: Option<u32>,
    /// How long anything under it could still work after a cut. Where those who take it would not know in time, it lives
    /// no longer than that as a whole, renewals included.
    pub max_exposure: Option<Span>,
}

impl Limits {
    /// Whether a call under it has to be counted.
    pub fn count_calls(&self) -> bool {
        self.max_calls.is_some() || !self.max_sum.is_empty() || self.max_distinct_resources.is_some()
    }

    /// Reads `key=value` texts: `max_depth=3`, `max_calls=100`, `max_sum(amount)=250.5`,
    /// `max_distinct_resources=5`, `max_exposure=15m` (the span in milliseconds, as the edge writes it).
    ///
    /// # Errors
    /// A key is unknown, given twice, or its value is not a number of its kind.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, Error> {
        let mut limits = Self::default();
        for text in texts {
            limits.read(text.as_ref())?;
        }
        limits.max_sum.sort();
        Ok(limits)
    }

    fn read(&mut self, text: &str) -> Result<(), Error> {
        const KEYS: &str = "write max_depth=N, max_calls=N, max_sum(ARGUMENT)=N, max_distinct_resources=N or max_exposure=MILLISECONDS";
        let wrong = |why: &str| Error::malformed("limit", text, why);
        let (key, value) = text.split_once('=').ok_or_else(|| wrong(KEYS))?;
        let number = || value.parse::<u64>().map_err(|_| wrong("the value is not a whole number"));
        let small = || value.parse::<u32>().map_err(|_| wrong("the value is not a whole number, or too large"));
        let twice = match key {
            "max_depth" => {
                let depth = value.parse::<u8>().ok().filter(|depth| (1..=16).contains(depth));
                self.max_depth.replace(depth.ok_or_else(|| wrong("a depth is 1 to 16"))?).is_some()
            }
            "max_calls" => self.max_calls.replace(number()?).is_some(),
            "max_distinct_resources" => {
                let most = small()?;
                if most > MOST_RESOURCES {
                    return Err(wrong("at most 10000 resources are told apart"));
                }
                self.max_distinct_resources.replace(most).is_some()
            }
            "max_exposure" => {
                let millis = value.parse::<i64>().ok().filter(|millis| *millis > 0);
                let span = millis.ok_or_else(|| wrong("an exposure is a positive span"))?;
                self.max_exposure.replace(Span::millis(span)).is_some()
            }
            _ => {
                let name = key.strip_prefix("max_sum(").and_then(|rest| rest.strip_suffix(')'));
                let name = name.filter(|name| !name.is_empty() && name.len() <= 64).ok_or_else(|| wrong(KEYS))?;
                let most = Decimal::parse(value).filter(|most| *most >= Decimal::zero());
                let most = most.ok_or_else(|| wrong("the value is not a number of 0 or more"))?;
                let fits = self.max_sum.len() < MOST_SUMS && name.parse::<Line>().is_ok();
                if !fits {
                    return Err(wrong("at most 16 sums, of arguments whose names are plain text"));
                }
                let known = self.max_sum.iter().any(|(other, _)| other == name);
                self.max_sum.push((name.to_owned(), most));
                known
            }
        };
        if twice { Err(wrong("it is given twice")) } else { Ok(()) }
    }
}

/// What a call takes from every grant of its chain whose limits count calls. The rest of it stands in the call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The numbers that some limit adds up, by argument, sorted.
    pub sums: Vec<(String, Decimal)>,
}

/// Arguments that are added up under one grant.
const MOST_SUMS: usize = 16;

/// Resources that are told apart under one grant.
pub const MOST_RESOURCES: u32 = 10_000;

impl std::fmt::Display for Limits {
    /// As [`Limits::parse`] reads them, separated by spaces.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.texts().join(" "))
    }
}

impl Limits {
    /// One text for each, as [`Limits::parse`] reads them.
    pub fn texts(&self) -> Vec<String> {
        let Self { max_depth, max_calls, max_sum, max_distinct_resources, max_exposure } = self;
        let mut texts = Vec::new();
        texts.extend(max_depth.map(|most| format!("max_depth={most}")));
        texts.extend(max_calls.map(|most| format!("max_calls={most}")));
        texts.extend(max_sum.iter().map(|(name, most)| format!("max_sum({name})={most}")));
        texts.extend(max_distinct_resources.map(|most| format!("max_distinct_resources={most}")));
        texts.extend(max_exposure.map(|most| format!("max_exposure={}", most.as_millis())));
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_written() {
        let texts =
            ["max_depth=3", "max_calls=0", "max_sum(amount)=250.5", "max_distinct_resources=5", "max_exposure=900000"];
        let limits = Limits::parse(&texts).unwrap();
        assert_eq!(limits.texts(), texts);
        assert!(limits.count_calls() && !Limits::parse(&["max_depth=1", "max_exposure=1"]).unwrap().count_calls());
    }

    #[test]
    fn at_most_sixteen_sums_are_kept_of_arguments_that_can_be_read() {
        let sums = |count: usize| (0..count).map(|at| format!("max_sum(a{at})=1")).collect::<Vec<_>>();
        assert_eq!(Limits::parse(&sums(16)).unwrap().max_sum.len(), 16);
        assert!(Limits::parse(&sums(17)).is_err());
        for unseen in ["a\u{202e}b", "a\nb", "a\u{200b}", " a"] {
            assert!(Limits::parse(&[format!("max_sum({unseen})=1")]).is_err(), "{unseen:?}");
        }
    }

    #[test]
    fn a_limit_that_is_not_understood_is_refused() {
        for wrong in [
            "", "max_calls", "max_calls=", "max_calls=-1", "max_calls=1.5", "max_depth=0", "max_depth=17", "calls=1",
            "max_sum()=1", "max_sum(a)=-1", "max_sum(a)=x", "max_sum=1", "max_exposure=0", "max_exposure=15m",
            "max_distinct_resources=10001", "MAX_CALLS=1",
        ] {
            assert!(Limits::parse(&[wrong]).is_err(), "{wrong}");
        }
        assert!(Limits::parse(&["max_calls=1", "max_calls=1"]).is_err());
        assert!(Limits::parse(&["max_sum(a)=1", "max_sum(a)=2"]).is_err());
    }
}
