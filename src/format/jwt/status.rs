//! The `status` claim (Token Status List, section 6.1): where a token's status is to be found.

use serde::{Deserialize, Serialize};

use crate::domain::name::Audience;
use crate::domain::status::{PLACES, StatusPlace, url};

/// The claim. Another mechanism beside the list would be one that nobody here asks.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {
    status_list: Reference,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    idx: u32,
    uri: String,
}

impl Status {
    pub fn of(place: StatusPlace, issuer: &Audience) -> Self {
        Self { status_list: Reference { idx: place.index, uri: url(issuer, place.list) } }
    }

    /// The place, if it is in a list of this issuer's: a list of somebody else says nothing of our tokens.
    pub fn place(&self, issuer: &Audience) -> Option<StatusPlace> {
        let Reference { idx: index, uri } = &self.status_list;
        let list = uri.rsplit_once('/')?.1.parse().ok()?;
        (*index < PLACES && *uri == url(issuer, list)).then_some(StatusPlace { list, index: *index })
    }
}
