//! Numbers as they are written in JSON, compared exactly: no binary fraction, no rounding.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A decimal number: 0.1 and 1e-1 are the same, 0.1 and 0.10000000000000001 are not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Decimal {
    negative: bool,
    /// The digits, without zeros at either end; none of zero.
    digits: String,
    /// The power of ten of the first digit; 0 of zero.
    exponent: i64,
}

/// Characters and digits that are read: whatever is printed can be read again.
const LONGEST: usize = 96;
const DIGITS: usize = 64;
/// Powers of ten: within them every reader of JSON has a number to stand for it.
const FARTHEST: i64 = 300;

impl Decimal {
    /// Reads a JSON number of at most 64 digits (RFC 8259, section 6). None if it is not one, or too far from 1.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok().filter(|_| !power.is_empty())?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty()
            || leading_zero
            || !all_digits(whole)
            || !all_digits(fraction)
            || power.unsigned_abs() > FARTHEST.unsigned_abs()
        {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        let zeros = digits.bytes().take_while(|byte| *byte == b'0').count();
        let digits = digits.trim_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        let exponent = i64::try_from(whole.len()).ok()? - 1 - i64::try_from(zeros).ok()? + power;
        (exponent.abs() <= FARTHEST && digits.len() <= DIGITS).then_some(Self { negative, digits, exponent })
    }

    /// 0
    pub fn zero() -> Self {
        Self { negative: false, digits: String::new(), exponent: 0 }
    }

    /// The exact sum. None if one of them is negative, or the sum is not one of at most 64 digits that is read.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        if self.negative || other.negative {
            return None;
        }
        if self.digits.is_empty() || other.digits.is_empty() {
            return Some(if self.digits.is_empty() { other } else { self }.clone());
        }
        let lowest = self.lowest().min(other.lowest());
        let highest = self.exponent.max(other.exponent) + 1;
        // One digit for each place, from the lowest on.
        let mut sum = vec![0u8; usize::try_from(highest - lowest + 1).ok()?];
        for number in [self, other] {
            let from = usize::try_from(number.lowest() - lowest).ok()?;
            for (digit, place) in number.digits.bytes().rev().zip(from..) {
                sum[place] += digit - b'0';
            }
        }
        for place in 1..sum.len() {
            sum[place] += sum[place - 1] / 10;
            sum[place - 1] %= 10;
        }
        let digits: String = sum.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
        let exponent = if sum.ends_with(&[0]) { highest - 1 } else { highest };
        let digits = digits.trim_matches('0').to_owned();
        (exponent <= FARTHEST && digits.len() <= DIGITS).then_some(Self { negative: false, digits, exponent })
    }

    /// What is left, exactly; none if that would be below 0, or either is.
    pub fn minus(&self, other: &Self) -> Option<Self> {
        if self.negative || other.negative || self < other {
            return None;
        }
        if other.digits.is_empty() {
            return Some(self.clone());
        }
        let lowest = self.lowest().min(other.lowest());
        let places = usize::try_from(self.exponent - lowest + 1).ok()?;
        // One digit for each place, from the lowest on, and what is borrowed from the next.
        let digits_of = |number: &Self| {
            let from = usize::try_from(number.lowest() - lowest).ok()?;
            let mut digits = vec![0u8; from];
            digits.extend(number.digits.bytes().rev().map(|digit| digit - b'0'));
            digits.resize(places, 0);
            Some(digits)
        };
        let (mut left, taken) = (digits_of(self)?, digits_of(other)?);
        let mut borrowed = 0;
        for (digit, taken) in left.iter_mut().zip(taken) {
            let taken = taken + borrowed;
            borrowed = u8::from(*digit < taken);
            *digit = *digit + 10 * borrowed - taken;
        }
        let digits: String = left.iter().rev().map(|digit| char::from(b'0' + digit)).collect();
        let Some(first) = digits.find(|digit| digit != '0') else { return Some(Self::zero()) };
        let exponent = self.exponent - i64::try_from(first).ok()?;
        let digits = digits.trim_matches('0').to_owned();
        (digits.len() <= DIGITS).then_some(Self { negative: false, digits, exponent })
    }

    /// The power of ten of the last digit.
    fn lowest(&self) -> i64 {
        self.exponent + 1 - i64::try_from(self.digits.len()).unwrap_or(i64::MAX)
    }

    fn size(&self, other: &Self) -> Ordering {
        match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            // Of two numbers of the same power, the digits decide from the left, and a longer one is larger.
            (false, false) => self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits)),
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.size(other),
            (true, true) => other.size(self),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for Decimal {
    /// The one form of the number: plain within 20 places of the point, else with an exponent.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        let sign = if self.negative { "-" } else { "" };
        let places = usize::try_from(self.exponent.abs()).unwrap_or(usize::MAX);
        let (first, rest) = self.digits.split_at(1);
        match (places <= 20, self.exponent < 0) {
            (true, true) => write!(f, "{sign}0.{}{}", "0".repeat(places - 1), self.digits),
            (true, false) if self.digits.len() <= places + 1 => {
                write!(f, "{sign}{}{}", self.digits, "0".repeat(places + 1 - self.digits.len()))
            }
            (true, false) => write!(f, "{sign}{}.{}", &self.digits[..=places], &self.digits[places + 1..]),
            (false, _) if rest.is_empty() => write!(f, "{sign}{first}e{}", self.exponent),
            (false, _) => write!(f, "{sign}{first}.{rest}e{}", self.exponent),
        }
    }
}

impl TryFrom<String> for Decimal {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("it is not a number of at most 64 digits")
    }
}

impl From<Decimal> for String {
    fn from(number: Decimal) -> Self {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_number_has_one_form() {
        let same = [
            ("0", "-0.00e5"),
            ("1", "1.0"),
            ("100", "1e2"),
            ("0.1", "1E-1"),
            ("-98.7", "-98.70"),
            ("1e30", "10e29"),
            ("12.5", "0.125e2"),
            ("1.5e-30", "0.15e-29"),
        ];
        for (one, two) in same {
            assert_eq!(decimal(one), decimal(two), "{one} {two}");
            assert_eq!(decimal(one).to_string(), one);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_was_added_can_be_taken_away_again(
            one in (0u64..=u64::MAX, 0u8..9), two in (0u64..=u64::MAX, 0u8..9)
        ) {
            let [one, two] = [one, two].map(|(digits, places)| decimal(&format!("{digits}e-{places}")));
            let sum = one.plus(&two).unwrap();
            proptest::prop_assert_eq!(sum.minus(&two).unwrap(), one.clone());
            proptest::prop_assert_eq!(sum.minus(&one).unwrap(), two.clone());
            proptest::prop_assert_eq!(sum.minus(&sum).unwrap(), Decimal::zero());
            proptest::prop_assert_eq!(one.minus(&two).is_some(), one >= two);
            proptest::prop_assert!(decimal("-1").minus(&one).is_none());
        }
    }

    #[test]
    fn numbers_are_compared_exactly() {
        let rising = [
            "-1e300", "-10", "-9.99", "-0.1", "0", "1e-300", "0.1", "0.10000000000000001", "9", "9.5", "10", "98.7",
            "98.71", "100", "9007199254740992", "9007199254740993", "1e300",
        ];
        for pair in rising.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn numbers_of_0_or_more_are_added_exactly() {
        let sums = [
            ("0", "0", "0"),
            ("0.1", "0.2", "0.3"),
            ("0.5", "0.5", "1"),
            ("99.99", "0.01", "100"),
            ("1e20", "1e-20", "100000000000000000000.00000000000000000001"),
            ("9007199254740992", "1", "9007199254740993"),
            ("95", "7", "102"),
            ("0", "98.70", "98.7"),
            ("9e299", "1e299", "1e300"),
        ];
        for (one, two, sum) in sums {
            let [one, two, sum] = [one, two, sum].map(decimal);
            assert_eq!(one.plus(&two), Some(sum.clone()), "{one} + {two}");
            assert_eq!(two.plus(&one), Some(sum), "{two} + {one}");
        }
        for (one, two) in [("-1", "2"), ("1", "-2"), ("9e300", "1e300"), ("1e64", "1"), ("1e300", "1e-300")] {
            assert_eq!(decimal(one).plus(&decimal(two)), None, "{one} + {two}");
        }
        let cents = (0..1000).fold(Decimal::zero(), |sum, _| sum.plus(&decimal("0.01")).unwrap());
        assert_eq!(cents, decimal("10"));
    }

    #[test]
    fn what_is_no_json_number_is_none() {
        let long = "1".repeat(65);
        for wrong in [
            "", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "NaN", "1e301", "1e-301", "1e-9223372036854775808",
            "1 ", &long,
        ] {
            assert!(Decimal::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let digits = "123456789".repeat(7) + "1";
        for power in [-300, -64, -63, -21, -20, -1, 0, 19, 20, 21, 63, 64, 237, 300] {
            for text in [format!("-{digits}e{power}"), format!("{}.{}E{power}", &digits[..1], &digits[1..])] {
                let Some(number) = Decimal::parse(&text) else { continue };
                assert_eq!(decimal(&number.to_string()), number, "{text}");
            }
        }
        assert!(Decimal::parse(&format!("-{digits}e-20")).is_some(), "64 digits are read");
    }
}
