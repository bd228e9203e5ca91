//! A new token's place in the status lists: a random free one, in a list of its hour that is less than half full.

use super::Context;
use crate::domain::error::{Code, Error};
use crate::domain::status::{PARTS, PLACES, StatusPlace, first};

/// Draws until a place is free. Of a list that is less than half full each draw finds one every other time at least.
const DRAWS: usize = 64;

/// A place that is nobody's. Where it is says the hour of the token and nothing else.
///
/// # Errors
/// All lists of this hour are half full: some 33 million tokens.
pub(super) fn place(ctx: &mut Context<'_>) -> Result<StatusPlace, Error> {
    let first = first(ctx.now);
    let half = PLACES as usize / 2;
    let list = (first..first + PARTS).find(|list| ctx.view.taken(*list) < half);
    let full = || {
        let message = "the status lists of this hour are full; fewer tokens, or wait for the next hour";
        Error::new(Code::Exhausted, "status_lists_full", message)
    };
    let list = list.ok_or_else(full)?;
    for _ in 0..DRAWS {
        let place = StatusPlace { list, index: u32::from(u16::from_be_bytes(ctx.entropy.take())) };
        if !ctx.view.is_taken(place) {
            return Ok(place);
        }
    }
    Err(full())
}
