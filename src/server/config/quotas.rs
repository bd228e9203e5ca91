//! `[quotas]`: how much each agent, owner and enforcement point may ask.

use super::read::{Keys, Known};
use crate::broker::{PartyQuotas, Quota};
use crate::domain::error::Error;

/// Every key of the table, and what its value has to be.
pub(super) const KEYS: Known = &[
    ("agent_rate", RULE),
    ("agent_under_way", RULE),
    ("owner_rate", RULE),
    ("owner_under_way", RULE),
    ("enforcement_point_rate", RULE),
    ("enforcement_point_under_way", RULE),
];

const RULE: &str = "a whole number from 1 to 1000000";
const MOST: u32 = 1_000_000;

/// The table; what is left out has its default.
pub(super) fn read(mut keys: Keys<'_>) -> Result<PartyQuotas, Error> {
    let PartyQuotas { agent, owner, pep } = PartyQuotas::default();
    let mut key = |key, default| keys.optional(key, |n| (1..=MOST).contains(n)).map(|given| given.unwrap_or(default));
    let mut quota = |rate, under_way, default: Quota| {
        Ok::<_, Error>(Quota { rate: key(rate, default.rate)?, under_way: key(under_way, default.under_way)? })
    };
    Ok(PartyQuotas {
        agent: quota("agent_rate", "agent_under_way", agent)?,
        owner: quota("owner_rate", "owner_under_way", owner)?,
        pep: quota("enforcement_point_rate", "enforcement_point_under_way", pep)?,
    })
}
