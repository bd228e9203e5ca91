//! The arguments of a call as tags: texts for every argument, decimals for those that are numbers.

use cedar_policy::RestrictedExpression as Expression;

use crate::domain::scope::{Args, Decimal, Value};

/// Decimal places that Cedar keeps.
const PLACES: usize = 4;

/// Each argument: a string as it is, anything else as JSON text.
pub fn texts(args: &Args) -> Vec<(String, Expression)> {
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        other => json(other),
    };
    args.iter().map(|(name, value)| (name.to_owned(), Expression::new_string(text(value)))).collect()
}

/// The arguments that are numbers, and the names of those that do not fit.
pub fn numbers(args: &Args) -> (Vec<(String, Expression)>, Vec<String>) {
    let mut numbers = Vec::new();
    let mut unfit = Vec::new();
    for (name, value) in args.iter() {
        let Value::Number(number) = value else { continue };
        match decimal(number) {
            Some(text) => numbers.push((name.to_owned(), Expression::new_decimal(text))),
            None => unfit.push(name.to_owned()),
        }
    }
    (numbers, unfit)
}

/// A number as Cedar writes it, if it can hold it: a 64-bit count of ten-thousandths.
fn decimal(number: &Decimal) -> Option<String> {
    let text = number.to_string();
    let (whole, places) = text.split_once('.').unwrap_or((&text, "0"));
    if places.len() > PLACES {
        return None;
    }
    // An exponent, which the largest and smallest have, is no digit.
    format!("{whole}{places:0<PLACES$}").parse::<i64>().ok()?;
    Some(format!("{whole}.{places}"))
}

fn json(value: &Value) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(bool) => bool.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => quoted(text),
        Value::List(values) => format!("[{}]", values.iter().map(json).collect::<Vec<_>>().join(",")),
        Value::Object(values) => {
            let pairs: Vec<_> =
                values.iter().map(|(name, value)| format!("{}:{}", quoted(name), json(value))).collect();
            format!("{{{}}}", pairs.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fits_exactly_or_not_at_all() {
        let fits = [
            ("0", "0.0"),
            ("-98.7", "-98.7"),
            ("1e3", "1000.0"),
            ("0.0001", "0.0001"),
            ("922337203685477.5807", "922337203685477.5807"),
            ("-922337203685477.5808", "-922337203685477.5808"),
        ];
        for (number, text) in fits {
            assert_eq!(decimal(&Decimal::parse(number).unwrap()).as_deref(), Some(text));
            let cedar = cedar_policy::eval_expression(
                &cedar_policy::Request::new(
                    r#"Agent::"a""#.parse().unwrap(),
                    r#"Action::"invoke""#.parse().unwrap(),
                    r#"Tool::"t""#.parse().unwrap(),
                    cedar_policy::Context::empty(),
                    None,
                )
                .unwrap(),
                &cedar_policy::Entities::empty(),
                &cedar_policy::Expression::new_decimal(text),
            );
            assert!(cedar.is_ok(), "{text}: {cedar:?}");
        }
        for number in ["0.00001", "922337203685477.5808", "-922337203685477.5809", "1e15", "1e21", "1e-30", "1.5e300"] {
            assert_eq!(decimal(&Decimal::parse(number).unwrap()), None, "{number}");
        }
    }
}
