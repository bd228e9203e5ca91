//! The steps that a random history is made of, and how telling a history was.

use std::collections::BTreeMap;

use proptest::prelude::*;

/// One step; its numbers choose among what there is by then.
#[derive(Clone, Debug)]
pub enum Step {
    Task { agent: u8, subject: u8, ttl: i64 },
    Request { agent: u8, task: u8, scopes: Vec<u8>, ttl: i64 },
    Delegate { foreign: bool, parent: u8, to: u8, within: bool, scopes: Vec<u8>, ttl: i64 },
    Retry { grant: u8 },
    Renew { foreign: bool, grant: u8, ttl: i64 },
    Token { foreign: bool, grant: u8 },
    Halt { grant: u8, go_on: bool },
    Complete { foreign: bool, grant: u8 },
    EndTask { foreign: bool, task: u8 },
    Agent { agent: u8, to: u8 },
    Revoke { kind: u8, which: u8, by: Option<u8> },
    Turn { millis: i64 },
    Restart,
}

/// Histories of up to `longest` steps.
pub fn steps(longest: usize) -> impl Strategy<Value = Vec<Step>> {
    let ttl = || 500..400_000_i64;
    let which = any::<u8>;
    let scopes = || {
        let few = proptest::collection::vec(which(), 1..3);
        prop_oneof![9 => few, 1 => Just(Vec::new())]
    };
    let foreign = || proptest::bool::weighted(0.1);
    let step = prop_oneof![
        3 => (which(), which(), 30_000..900_000_i64).prop_map(|(agent, subject, ttl)| Step::Task { agent, subject, ttl }),
        5 => (which(), which(), scopes(), ttl())
            .prop_map(|(agent, task, scopes, ttl)| Step::Request { agent, task, scopes, ttl }),
        12 => (foreign(), which(), which(), proptest::bool::weighted(0.8), scopes(), ttl()).prop_map(
            |(foreign, parent, to, within, scopes, ttl)| Step::Delegate { foreign, parent, to, within, scopes, ttl }
        ),
        2 => which().prop_map(|grant| Step::Retry { grant }),
        4 => (foreign(), which(), ttl()).prop_map(|(foreign, grant, ttl)| Step::Renew { foreign, grant, ttl }),
        7 => (foreign(), which()).prop_map(|(foreign, grant)| Step::Token { foreign, grant }),
        3 => (which(), any::<bool>()).prop_map(|(grant, go_on)| Step::Halt { grant, go_on }),
        1 => (foreign(), which()).prop_map(|(foreign, grant)| Step::Complete { foreign, grant }),
        1 => (foreign(), which()).prop_map(|(foreign, task)| Step::EndTask { foreign, task }),
        3 => (which(), which()).prop_map(|(agent, to)| Step::Agent { agent, to }),
        3 => (which(), which(), proptest::option::of(which()))
            .prop_map(|(kind, which, by)| Step::Revoke { kind, which, by }),
        3 => prop_oneof![2 => 1..2_000_i64, 4 => 1_000..90_000_i64, 1 => 200_000..700_000_i64]
            .prop_map(|millis| Step::Turn { millis }),
        2 => Just(Step::Restart),
    ];
    // Each begins with a tree to grow: a task, and a root that allows everything.
    let task = Step::Task { agent: 0, subject: 1, ttl: 900_000 };
    let root = Step::Request { agent: 8, task: 0, scopes: vec![0, 28], ttl: 400_000 };
    proptest::collection::vec(step, 1..longest)
        .prop_map(move |steps| [vec![task.clone(), root.clone()], steps].concat())
}

/// How often each kind of step was accepted and refused, and what came of them: a history of refusals proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub steps: BTreeMap<String, [u32; 2]>,
    pub states: BTreeMap<&'static str, u32>,
    pub deepest: usize,
    pub allowed: usize,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        for (kind, counts) in other.steps {
            let ours = self.steps.entry(kind).or_default();
            *ours = [ours[0] + counts[0], ours[1] + counts[1]];
        }
        other.states.into_iter().for_each(|(state, count)| *self.states.entry(state).or_default() += count);
        self.deepest = self.deepest.max(other.deepest);
        self.allowed += other.allowed;
    }

    /// Every kind of step was accepted, those that ask for more were refused too, every state was met, trees grew,
    /// calls were allowed.
    pub fn is_telling(&self) -> bool {
        let count = |kind: &&str, which: usize| self.steps.get(*kind).map_or(0, |counts| counts[which]);
        let accepted = ["Task", "Retry", "Complete", "EndTask", "Agent"];
        let both = ["Request", "Delegate", "Renew", "Token", "Halt", "Revoke"];
        let met =
            both.iter().all(|kind| count(kind, 1) > 0) && accepted.iter().chain(&both).all(|kind| count(kind, 0) > 0);
        met && self.states.len() == 5 && self.deepest >= 3 && self.allowed > 1000
    }
}
