//! What every credential says of its grant: a token among its claims, a certificate in its grant extension.
//!
//! These are the keys by which a cut finds a credential, so whoever checks one offline reads them here. A name
//! that is cut ends what was granted up to the cut's sequence: `seq` is that of the credential's own grant, or a
//! later one at which its whole chain was still live.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::MAX_CHAIN;
use crate::domain::grant::Link;
use crate::domain::id::{GrantId, TaskId};
use crate::domain::name::{Line, Name};

/// The members that tokens and certificates share, in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantClaims {
    /// The grant that it hangs on.
    pub grant: GrantId,
    /// The task.
    pub task: TaskId,
    /// The ledger's sequence that it dates from, as a decimal string: JSON numbers end at 2^53.
    #[serde(serialize_with = "decimal", deserialize_with = "sequence")]
    pub seq: u64,
    /// The ledger's epoch: what is of another is refused.
    pub epoch: String,
    /// Root first; the last is its own grant and the holder.
    #[serde(serialize_with = "written", deserialize_with = "read")]
    pub chain: Vec<Link>,
}

impl GrantClaims {
    /// These claims, if they agree with themselves.
    ///
    /// # Errors
    /// The epoch is empty, the chain has not 1 to 16 links, or it does not end in the grant.
    pub fn checked(self) -> Result<Self, &'static str> {
        if self.epoch.is_empty() {
            return Err("its `epoch` is empty");
        }
        match self.chain.last().filter(|_| self.chain.len() <= MAX_CHAIN) {
            None => Err("its `chain` has not 1 to 16 links"),
            Some(last) if last.grant != self.grant => Err("its `chain` does not end in its `grant`"),
            Some(_) => Ok(self),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct ChainLink {
    grant: GrantId,
    agent: Name,
    owner: Line,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    subject: Option<Line>,
}

/// An optional member that is there has its type: `null` is not absent.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

fn decimal<S: Serializer>(seq: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(seq)
}

/// The number in its one decimal form: no sign, no leading zero.
fn sequence<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    let text = String::deserialize(d)?;
    let seq = text.parse::<u64>().ok().filter(|seq| seq.to_string() == text);
    seq.ok_or_else(|| serde::de::Error::custom("`seq` is not a decimal string"))
}

fn written<S: Serializer>(chain: &[Link], s: S) -> Result<S::Ok, S::Error> {
    let link = |Link { grant, agent, owner, subject }: Link| ChainLink { grant, agent, owner, subject };
    s.collect_seq(chain.iter().cloned().map(link))
}

fn read<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Link>, D::Error> {
    let link = |ChainLink { grant, agent, owner, subject }: ChainLink| Link { grant, agent, owner, subject };
    Ok(Vec::<ChainLink>::deserialize(d)?.into_iter().map(link).collect())
}
