//! What an AuthZEN request says, read strictly where it is known and passed over where it is not.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::domain::agent::Kind;
use crate::domain::decide::Reason;
use crate::domain::error::{Code, Error};
use crate::domain::name::{Name, TrustDomain};
use crate::edge::shown::certificate;
use crate::format::jwt;
use crate::format::spiffe::SpiffeId;
use crate::wire::v1;

/// Questions in one request, at most.
const MOST: usize = 100;

/// A request, or one of several questions in it.
#[derive(Deserialize)]
pub(super) struct Body<'a> {
    subject: Option<Subject>,
    action: Option<Action>,
    resource: Option<Resource>,
    #[serde(borrow)]
    context: Option<Context<'a>>,
    #[serde(borrow)]
    evaluations: Option<Vec<&'a RawValue>>,
    options: Option<Options>,
}

#[derive(Clone, Deserialize)]
struct Subject {
    r#type: String,
    id: String,
    #[serde(default)]
    properties: Credential,
}

#[derive(Clone, Default, Deserialize)]
struct Credential {
    #[serde(default)]
    token: String,
    /// PEM, URL-encoded or not.
    #[serde(default)]
    certificate: String,
    dpop: Option<Proof>,
}

#[derive(Clone, Deserialize)]
struct Proof {
    proof: String,
    method: String,
    url: String,
}

/// Said by whoever asks, and so no authority here.
type Properties = BTreeMap<String, IgnoredAny>;

#[derive(Deserialize)]
struct Action {
    name: String,
    #[serde(rename = "properties")]
    _properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Resource {
    r#type: String,
    id: String,
    #[serde(rename = "properties")]
    _properties: Option<Properties>,
}

#[derive(Deserialize)]
struct Context<'a> {
    /// Their own text, for their numbers are exact.
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(default)]
    destination: String,
}

#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    evaluations_semantic: Semantic,
}

/// How many of several questions are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Semantic {
    /// Each.
    #[default]
    #[serde(rename = "execute_all")]
    All,
    /// Up to the first that is denied.
    #[serde(rename = "deny_on_first_deny")]
    UntilDeny,
    /// Up to the first that is permitted.
    #[serde(rename = "permit_on_first_permit")]
    UntilPermit,
}

/// A question as the others ask it.
pub(super) struct Question {
    /// The call, and what was shown for it.
    pub call: v1::AuthorizeRequest,
    /// Why it is denied whatever the call is: the subject is of a kind that is not known here, or another than the
    /// token's.
    pub against: Option<Reason>,
}

impl<'a> Body<'a> {
    /// Reads a text.
    ///
    /// # Errors
    /// It is no JSON object, or a member is missing, there twice, or not of its kind. The message shows nothing of it.
    pub fn read(text: &'a [u8]) -> Result<Self, Error> {
        serde_json::from_slice(text).map_err(|error| {
            let why = match error.classify() {
                Category::Data => "a member is missing, there twice, or not of its kind",
                _ => "it is no JSON",
            };
            let message =
                format!("the request is not valid: {why}, at column {} of line {}", error.column(), error.line());
            Error::new(Code::Invalid, "malformed", message)
        })
    }

    /// Its questions and how many of them are answered; none if it asks but one.
    ///
    /// # Errors
    /// They are too many.
    pub fn several(&self) -> Result<Option<(&[&'a RawValue], Semantic)>, Error> {
        let Some(items) = self.evaluations.as_deref().filter(|items| !items.is_empty()) else { return Ok(None) };
        if items.len() > MOST {
            let count = items.len().to_string();
            return Err(Error::malformed("evaluations", &count, "one request asks at most 100 questions"));
        }
        let semantic = self.options.as_ref().map(|options| options.evaluations_semantic);
        Ok(Some((items, semantic.unwrap_or_default())))
    }

    /// The call that it asks about, with the parts of `defaults` that it has not itself.
    ///
    /// # Errors
    /// A part is missing, the arguments or the certificate are none.
    pub fn question(&self, defaults: &Body<'_>, domain: &TrustDomain) -> Result<Question, Error> {
        let subject = self.subject.as_ref().or(defaults.subject.as_ref()).ok_or_else(|| Error::missing("subject"))?;
        let action = self.action.as_ref().or(defaults.action.as_ref()).ok_or_else(|| Error::missing("action"))?;
        let resource = self.resource.as_ref().or(defaults.resource.as_ref());
        let resource = resource.ok_or_else(|| Error::missing("resource"))?;
        let context = self.context.as_ref().or(defaults.context.as_ref());
        let args = context.and_then(|context| context.args).map_or("", RawValue::get);
        if !args.is_empty() && !args.starts_with('{') {
            return Err(Error::malformed("context.args", "…", "give an object of argument names and values"));
        }
        let Credential { token, certificate: pem, dpop } = subject.properties.clone();
        let against = subject.is_its_holder(&token, domain).err();
        let dpop = dpop.map(|Proof { proof, method, url }| v1::DpopProof { proof, method, url });
        let call = v1::AuthorizeRequest {
            presenter: certificate(&pem)?,
            token,
            dpop,
            tool: resource.r#type.clone(),
            action: action.name.clone(),
            resource: resource.id.clone(),
            args: args.to_owned(),
            destination: context.map_or_else(String::new, |context| context.destination.clone()),
            ..Default::default()
        };
        Ok(Question { call, against: against.map(|Error { reason: code, message, .. }| Reason { code, message }) })
    }
}

impl Subject {
    /// Holds if the subject is left open, or is whom the token names. Its signature is not looked at here: whoever
    /// decides looks at it.
    fn is_its_holder(&self, token: &str, domain: &TrustDomain) -> Result<(), Error> {
        let named = match self.r#type.as_str() {
            "agent" => "client_id",
            "identity" => "sub",
            _ => {
                let message = "the subject is of a type that is not known here; use `agent` or `identity`";
                return Err(Error::denied("subject_unknown", message));
            }
        };
        if self.id.is_empty() || token.is_empty() {
            return Ok(());
        }
        let claims = jwt::parse(token)?.inspect();
        let held = claims["claims"][named].as_str().unwrap_or_default();
        let spelled = self.id.parse().map(|name: Name| SpiffeId::of(domain, Kind::Agent, &name).to_string());
        match self.id == held || spelled.is_ok_and(|spelled| spelled == held) {
            true => Ok(()),
            false => Err(Error::denied(
                "subject_mismatch",
                "the token is another subject's; leave its id empty, or name its own",
            )),
        }
    }
}
