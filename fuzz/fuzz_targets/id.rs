//! TypeIDs of every kind, and what a revocation names: one value has one text, and one kind.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use belay::domain::cut::Target;
use belay::domain::digest::Digest;
use belay::domain::error::Error;
use belay::domain::id::{
    AgentId, CertificateId, GrantId, InvocationId, JoinId, LeaseId, RevocationId, TaskId, TokenId,
};
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;

fn read<T: FromStr<Err = Error> + Display>(text: &str) -> Option<T> {
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string(), text);
            Some(value)
        }
        Err(error) => {
            is_fit_to_print(&error);
            None
        }
    }
}

macro_rules! kinds {
    ($text:expr, $($id:ident),*) => {
        [$(read::<$id>($text).inspect(|id| assert_eq!($id::from_uuid(id.uuid()), Some(*id))).is_some()),*]
    };
}

fuzz_target!(|text: &str| {
    let kinds =
        kinds!(text, AgentId, TaskId, GrantId, TokenId, CertificateId, LeaseId, RevocationId, InvocationId, JoinId);
    assert!(kinds.into_iter().filter(|is| *is).count() <= 1, "{text} is two kinds");
    let target = read::<Target>(text);
    // A revocation takes the ids of what can be revoked, and no other.
    assert!(text.contains(':') || target.is_some() == kinds[1..6].contains(&true), "{text}");
    read::<Digest>(text);
});
