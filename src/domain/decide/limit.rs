//! Limits on calls: what a call takes from its chain, and whether so much is left.

use super::invoke::Reason;
use crate::domain::grant::Grant;
use crate::domain::limits::Charge;
use crate::domain::scope::{Call, Decimal, Value};
use crate::domain::view::View;

/// What a call takes from every grant of its chain whose limits count calls; none if there is no such grant.
pub(super) fn charge(view: &View<'_>, grant: &Grant, call: &Call) -> Result<Option<Charge>, Reason> {
    let mut charge: Option<Charge> = None;
    for link in view.counting(grant.id) {
        let charge = charge.get_or_insert_default();
        room_for_a_call(view, link)?;
        for (argument, most) in &link.limits.max_sum {
            let amount = amount(call, argument, link)?;
            room_for(view, link, argument, most, amount)?;
            if charge.sums.iter().all(|(name, _)| name != argument) {
                charge.sums.push((argument.clone(), amount.clone()));
            }
        }
        room_for_a_resource(view, link, call)?;
    }
    if let Some(charge) = &mut charge {
        charge.sums.sort();
    }
    Ok(charge)
}

fn room_for_a_call(view: &View<'_>, link: &Grant) -> Result<(), Reason> {
    match link.limits.max_calls {
        Some(most) if view.calls_spent(link.id) >= most => Err(reached(link, &format!("max_calls={most}"))),
        _ => Ok(()),
    }
}

/// The number that a limit adds up. What is not one of 0 or more would let a call pass for nothing, or give back.
fn amount<'c>(call: &'c Call, argument: &str, link: &Grant) -> Result<&'c Decimal, Reason> {
    match call.args.get(argument) {
        Some(Value::Number(amount)) if *amount >= Decimal::zero() => Ok(amount),
        _ => Err(unfit(argument, "has to be a number of 0 or more", link)),
    }
}

fn room_for(view: &View<'_>, link: &Grant, argument: &str, most: &Decimal, amount: &Decimal) -> Result<(), Reason> {
    match view.sum_spent(link.id, argument).plus(amount) {
        None => Err(unfit(argument, "has too many digits to be added up exactly", link)),
        Some(sum) if sum > *most => Err(reached(link, &format!("max_sum({argument})={most}"))),
        Some(_) => Ok(()),
    }
}

fn room_for_a_resource(view: &View<'_>, link: &Grant, call: &Call) -> Result<(), Reason> {
    let Some(most) = link.limits.max_distinct_resources else { return Ok(()) };
    if view.has_spent_on(link.id, call) || view.resources_spent(link.id) < most as usize {
        return Ok(());
    }
    Err(reached(link, &format!("max_distinct_resources={most}")))
}

/// Says which limit of which link, and nothing of who else has spent it.
fn reached(link: &Grant, limit: &str) -> Reason {
    let limit = limit.escape_debug();
    let message = format!("limit `{limit}` of grant `{}` leaves no room for this call; ask for another grant", link.id);
    Reason { code: "limit_reached", message }
}

fn unfit(argument: &str, why: &str, link: &Grant) -> Reason {
    let argument = argument.escape_debug();
    let message = format!("argument `{argument}` {why}: grant `{}` limits its sum", link.id);
    Reason { code: "limit_argument", message }
}
