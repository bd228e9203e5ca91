//! From files to a set: parsed, named and validated whole, or refused with one line that says where.

use std::collections::BTreeMap;

use cedar_policy::{Authorizer, Policy, PolicyId, PolicySet, ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;

use crate::domain::error::{Code, Error};
use crate::domain::name::Line;
use crate::domain::policy::Action;

use super::Set;
use super::head::{Head, Names};
use super::nesting;
use super::shipped;
use super::slice::Slices;

/// Bytes of all files of a set.
pub const MAX_BYTES: usize = 4 << 20;
/// Bytes of stack to load a set on: ten times what the deepest policy took that is let through.
const STACK: usize = 32 << 20;
/// Bytes of the id of a policy: ids are recorded with every decision.
const LONGEST_ID: usize = 64;
/// The actions that are asked about with unions.
const ACTIONS: [Action; 4] = [Action::Request, Action::Delegate, Action::Invoke, Action::Approve];

impl Set {
    /// Parses and validates a set, given as names and texts of its files. Nothing of it is kept if anything is wrong.
    ///
    /// A policy is named by its `@id`, or by its file and its place in it: `agents.2`.
    ///
    /// # Errors
    /// [`Code::Invalid`] naming file, line and what: a syntax error, a template, an id given twice or malformed, what the
    /// schema does not know, a policy that could never apply; a set that is empty or larger than [`MAX_BYTES`].
    pub fn load(files: &[(String, String)]) -> Result<Self, Error> {
        let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
        if bytes > MAX_BYTES {
            return Err(refused(format!("the policies are {bytes} bytes long; at most {MAX_BYTES} are read")));
        }
        // Cedar walks what it parses on the stack, and does not look how much of it is left.
        std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().name("policies".to_owned()).stack_size(STACK);
            let read = reader.spawn_scoped(scope, || Self::read(files.to_vec()));
            let busy = |why: &str| {
                Error::new(Code::Unavailable, "policy_unread", format!("the policies were not read: {why}"))
            };
            read.map_err(|error| busy(&one_line(&error)))?.join().unwrap_or_else(|_| Err(busy("the parser failed")))
        })
    }

    /// The files in one piece, the same bytes for the same files.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.files).expect("pairs of strings are JSON")
    }

    /// Loads what [`Self::to_bytes`] made.
    ///
    /// # Errors
    /// As [`Self::load`], and if the bytes are not of that form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        // JSON may escape a byte as six.
        if bytes.len() > 8 * MAX_BYTES {
            return Err(refused(format!("the policies are {} bytes long; at most {MAX_BYTES} are read", bytes.len())));
        }
        Self::load(&files_of(bytes)?)
    }

    fn read(mut files: Vec<(String, String)>) -> Result<Self, Error> {
        files.sort_unstable();
        let mut whole = PolicySet::new();
        let mut sources = BTreeMap::new();
        for (at, (name, text)) in files.iter().enumerate() {
            name.parse::<Line>().map_err(|error| refused(format!("the name of a policy file: {error}")))?;
            if at > 0 && files[at - 1].0 == *name {
                return Err(refused(format!("the policy file `{name}` is given twice")));
            }
            for policy in parse(name, text)? {
                let id = policy.id().clone();
                if let Some(first) = sources.insert(id.clone(), at) {
                    let first = &files[first].0;
                    return Err(refused(format!("{name}: the id `{id}` is already that of a policy in {first}")));
                }
                whole.add(policy).map_err(|error| refused(format!("{name}: {}", one_line(&error))))?;
            }
        }
        if whole.is_empty() {
            return Err(refused("there is no policy in it, and an empty set denies everything".to_owned()));
        }
        validate(&whole, |id| sources.get(id).map(|at| &files[*at]))?;
        let mut names = Names::default();
        let heads: Vec<Head> =
            sources.keys().filter_map(|id| whole.policy(id)).map(|policy| Head::of(policy, &mut names)).collect();
        let reads = |action| heads.iter().any(|head| head.is_for(action) && head.fields().has_unions());
        let unions = ACTIONS.into_iter().filter(|action| reads(*action)).collect();
        Ok(Self { files, whole, heads, names, unions, slices: Slices::default(), authorizer: Authorizer::new() })
    }
}

/// The files that [`Set::to_bytes`] wrote, whether or not they are policies by today's schema.
///
/// # Errors
/// The bytes are not of that form.
pub fn files_of(bytes: &[u8]) -> Result<Vec<(String, String)>, Error> {
    serde_json::from_slice(bytes).map_err(|_| refused("the stored policies are not pairs of name and text".to_owned()))
}

/// The policies of one file, by their final ids.
fn parse(name: &str, text: &str) -> Result<Vec<Policy>, Error> {
    if let Some((line, why)) = nesting::too_deep(text) {
        return Err(refused(format!("{name}:{line}: {why}")));
    }
    let parsed: PolicySet =
        text.parse().map_err(|errors: cedar_policy::ParseErrors| refused(located(name, text, &errors)))?;
    if let Some(template) = parsed.templates().next() {
        let place = place(template.id());
        return Err(refused(format!(
            "{name}: policy {} is a template (`?principal`, `?resource`): write one policy for each",
            place + 1
        )));
    }
    let mut policies: Vec<&Policy> = parsed.policies().collect();
    policies.sort_unstable_by_key(|policy| place(policy.id()));
    let stem = name.strip_suffix(".cedar").unwrap_or(name);
    let named = |(at, policy): (usize, &Policy)| {
        let id = policy.annotation("id").map_or_else(|| format!("{stem}.{}", at + 1), ToOwned::to_owned);
        let good =
            id.parse::<Line>().map_err(|error| refused(format!("{name}: the id of policy {}: {error}", at + 1)))?;
        if good.as_str().len() > LONGEST_ID {
            return Err(refused(format!("{name}: the id of policy {} is longer than {LONGEST_ID} bytes", at + 1)));
        }
        Ok(policy.new_id(PolicyId::new(id)))
    };
    policies.into_iter().enumerate().map(named).collect()
}

/// Cedar numbers the policies of a text `policy0`, `policy1`, …
fn place(id: &PolicyId) -> usize {
    id.to_string().strip_prefix("policy").and_then(|number| number.parse().ok()).unwrap_or(usize::MAX - 1)
}

/// Strict validation: a policy that passes can fail at run time only by arithmetic, or by an entity that is not there.
fn validate<'a>(whole: &PolicySet, file: impl Fn(&PolicyId) -> Option<&'a (String, String)>) -> Result<(), Error> {
    let result = Validator::new(shipped::schema()).validate(whole, ValidationMode::Strict);
    let mut found = Vec::new();
    let mut add = |rank: u8, id: &PolicyId, what: &dyn Diagnostic| {
        let (name, text) = file(id).map_or(("", ""), |(name, text)| (name, text));
        found.push((rank, name.to_owned(), offset(what).unwrap_or(0), located(name, text, what)));
    };
    result.validation_errors().for_each(|error| add(0, error.policy_id(), error));
    for warning in result.validation_warnings() {
        // A policy that never applies is a rule that somebody believes in; hidden characters make it read as another.
        match warning {
            ValidationWarning::MixedScriptString(_) | ValidationWarning::ConfusableIdentifier(_) => {}
            _ => add(1, warning.policy_id(), warning),
        }
    }
    found.sort_unstable();
    match &found[..] {
        [] => Ok(()),
        [(.., first)] => Err(refused(first.clone())),
        [(.., first), rest @ ..] => Err(refused(format!("{first} (and {} more)", rest.len()))),
    }
}

/// `agents.cedar:12: what`.
fn located(name: &str, text: &str, what: &dyn Diagnostic) -> String {
    let what_is_wrong = one_line(what);
    match offset(what) {
        Some(offset) => {
            let line = text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
            format!("{name}:{line}: {what_is_wrong}")
        }
        None => format!("{name}: {what_is_wrong}"),
    }
}

fn offset(what: &dyn Diagnostic) -> Option<usize> {
    what.labels()?.map(|label| label.offset()).min()
}

/// On one line and of bounded length: Cedar's messages may quote a whole expression.
pub fn one_line(what: &(impl std::fmt::Display + ?Sized)) -> String {
    let text = what.to_string();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

fn refused(message: String) -> Error {
    Error::new(Code::Invalid, "policy_invalid", message).on("policy")
}
