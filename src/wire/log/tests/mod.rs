mod samples;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::agent::Agent;
use crate::domain::entropy::Entropy;
use crate::domain::event::{Actor, Body, Invocation};
use crate::domain::grant::Grant;
use crate::domain::id::{GrantId, TaskId};
use crate::domain::scope::Scopes;
use crate::domain::time::Span;
use samples::*;

/// The kinds of entry in the compiled schema.
fn kinds() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(crate::wire::DESCRIPTOR).unwrap();
    let mut messages =
        set.file.into_iter().filter(|file| file.package() == "belay.log.v1").flat_map(|file| file.message_type);
    let entry = messages.find(|message| message.name() == "Entry").unwrap();
    let body = |field: &prost_types::FieldDescriptorProto| field.oneof_index == Some(0) && !field.proto3_optional();
    entry.field.iter().filter(|field| body(field)).map(|field| field.name().to_owned()).collect()
}

#[test]
fn every_kind_of_entry_survives_the_log() {
    let mut seen = BTreeSet::new();
    for body in one_of_each() {
        seen.insert(body.kind().to_owned());
        let entry = entry(body);
        assert_eq!(decode(&encode(&entry)), Ok(entry));
    }
    assert_eq!(seen, kinds(), "a kind without a sample here");
}

#[test]
fn absent_is_not_empty() {
    let bare = Agent { ceiling: None, max_ttl: None, labels: vec![], ..agent() };
    let stranger = Invocation { credential: None, grant: None, tree: None, agent: None, call: None, ..invocation() };
    for body in [Body::AgentRegistered { agent: bare, join: join() }, Body::Invoked(stranger)] {
        let entry = Entry { idempotency: None, actor: Actor::Stranger, ..entry(body) };
        assert_eq!(decode(&encode(&entry)), Ok(entry));
    }
    let zero = Agent { max_ttl: Some(Span::millis(0)), ..agent() };
    let entry = entry(Body::AgentRegistered { agent: zero, join: join() });
    assert_eq!(decode(&encode(&entry)), Ok(entry));
}

/// Where decoding fails when `damage` was done to a good entry of this body.
fn field_at_fault(body: Body, damage: impl Fn(&mut pb::Entry)) -> &'static str {
    let mut message = pb::Entry::from(&entry(body));
    damage(&mut message);
    decode(&message.encode_to_vec()).unwrap_err().field
}

macro_rules! damaged {
    ($body:expr, $kind:ident, $change:expr) => {
        field_at_fault($body, |message| match &mut message.body {
            Some(pb::entry::Body::$kind(body)) => ($change)(body),
            _ => unreachable!(),
        })
    };
}

#[test]
fn a_damaged_part_is_named() {
    let registered = || Body::AgentRegistered { agent: agent(), join: join() };
    let issued = || Body::GrantIssued { grant: grant() };
    let signed = || Body::TokenIssued { token: token() };
    assert_eq!(field_at_fault(issued(), |message| message.actor = "root".into()), "actor");
    assert_eq!(field_at_fault(issued(), |message| message.body = None), "body");
    let short = |message: &mut pb::Entry| message.idempotency.as_mut().unwrap().digest.truncate(31);
    assert_eq!(field_at_fault(issued(), short), "idempotency.digest");
    assert_eq!(
        damaged!(registered(), AgentRegistered, |b: &mut pb::AgentRegistered| b.agent = None),
        "agent_registered.agent"
    );
    assert_eq!(
        damaged!(registered(), AgentRegistered, |b: &mut pb::AgentRegistered| b.join = None),
        "agent_registered.join"
    );
    let negative = |b: &mut pb::AgentRegistered| b.agent.as_mut().unwrap().max_ttl = Some(-1);
    assert_eq!(damaged!(registered(), AgentRegistered, negative), "agent.max_ttl");
    let nothing = |b: &mut pb::AgentRegistered| b.agent.as_mut().unwrap().ceiling = Some(pb::Scopes::default());
    assert_eq!(damaged!(registered(), AgentRegistered, nothing), "agent.ceiling");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.scopes.clear()), "grant.scopes");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.depth = 256), "grant.depth");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.parent = Some(String::new())), "grant.parent");
    assert_eq!(damaged!(issued(), GrantIssued, |g: &mut pb::Grant| g.id = g.task.clone()), "grant.id");
    assert_eq!(damaged!(signed(), TokenIssued, |t: &mut pb::Token| t.chain[1].agent = "A".into()), "token.chain.agent");
    assert_eq!(damaged!(signed(), TokenIssued, |t: &mut pb::Token| t.thumbprint.push(0)), "token.thumbprint");
    assert_eq!(damaged!(signed(), TokenIssued, |t: &mut pb::Token| t.jkt = vec![1; 31]), "token.jkt");
    let twice = |t: &mut pb::Token| t.jkt = vec![1; 32];
    assert_eq!(damaged!(signed(), TokenIssued, twice), "entry", "bound to a certificate and to a key");
    let unbound = |t: &mut pb::Token| t.thumbprint.clear();
    assert_eq!(damaged!(signed(), TokenIssued, unbound), "token.thumbprint");
    let wild = |i: &mut pb::Invocation| i.call.as_mut().unwrap().resource = "db/*".into();
    assert_eq!(damaged!(Body::Invoked(invocation()), Invoked, wild), "invoked.call");
}

#[test]
fn what_a_newer_version_wrote_is_not_read_by_halves() {
    let good = encode(&entry(Body::TaskStarted { task: task() }));
    let bare = pb::Entry { body: None, ..pb::Entry::decode(&good[..]).unwrap() }.encode_to_vec();
    // Field 99, a varint: at the end of the entry, then inside the task.
    let unknown = [0x98, 0x06, 0x01];
    let outside = [&good[..], &unknown].concat();
    assert_eq!(decode(&outside).unwrap_err().field, "entry");

    let mut inner = pb::Task::from(&task()).encode_to_vec();
    inner.extend(unknown);
    let length = u8::try_from(inner.len()).unwrap();
    let inside = [&bare[..], &[0x9a, 0x01, length], &inner].concat();
    assert_eq!(decode(&inside).unwrap_err().field, "entry");

    // An entry whose only body is of kind 99.
    let kind = [&bare[..], &[0x9a, 0x06, 0x00]].concat();
    assert_eq!(decode(&kind).unwrap_err().field, "body");
    assert!(decode(&[]).is_err());
    assert!(!decode(&outside).unwrap_err().to_string().contains('\n'));
}

prop_compose! {
    fn any_grant()(
        seed in any::<[u8; 32]>(), at in 0i64..1 << 47, times in any::<[i64; 3]>(), seq in any::<u64>(), depth in any::<u8>(),
        root in any::<bool>(), subject in proptest::option::of("[A-Za-zé@#][A-Za-z @.]{0,30}[a-z]"), agent in "[a-z0-9][a-z0-9._-]{0,62}",
        scopes in proptest::collection::btree_set("[a-z]{1,5}:(\\*|[a-z]{1,5}(\\.\\*)?)@([a-z0-9]{1,4}/){0,3}(\\*|\\*\\*|[A-Z]{1,3})", 1..9),
    ) -> Grant {
        let mut entropy = Entropy::from_seed(seed);
        let id = GrantId::mint(ms(at), &mut entropy);
        Grant {
            id,
            parent: (!root).then(|| GrantId::mint(ms(at), &mut entropy)),
            root: id,
            task: TaskId::mint(ms(at), &mut entropy),
            agent: read(&agent),
            subject: subject.as_deref().map(read),
            scopes: Scopes::parse(&scopes.into_iter().collect::<Vec<_>>()).unwrap(),
            depth,
            seq,
            created_at: ms(times[0]),
            expires_at: ms(times[1]),
            renewable_until: ms(times[2]),
            ..grant()
        }
    }
}

proptest! {
    #[test]
    fn any_grant_survives_the_log(grant in any_grant(), request_id in any::<String>(), at in any::<i64>()) {
        let entry = Entry { at: ms(at), request_id, ..entry(Body::GrantIssued { grant }) };
        prop_assert_eq!(decode(&encode(&entry)), Ok(entry));
    }

    #[test]
    fn damaged_bytes_are_refused_or_say_what_they_say(which in any::<proptest::sample::Index>(), flips in proptest::collection::vec((any::<u16>(), 1u8..), 1..4)) {
        let mut bytes = encode(&entry(which.get(&one_of_each()).clone()));
        for (at, mask) in flips {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= mask;
        }
        if let Ok(entry) = decode(&bytes) {
            prop_assert_eq!(encode(&entry), bytes);
        }
    }
}
