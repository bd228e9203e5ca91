//! `belay radius`: what a target can reach, and what is live under it.

use clap::Args;
use serde_json::{Value, json};

use super::connect::{Global, answer};
use super::output::{Answer, given, pairs, rows};
use super::weights::{figures, summed};
use crate::wire::v1::radius_client::RadiusClient;
use crate::wire::v1::{Figures, RadiusRequest, RadiusResponse, Reached};

/// Resources that people are shown.
const SHOWN: usize = 20;

/// What to look at.
#[derive(Debug, Args)]
pub struct Command {
    /// `grt_…`, `tsk_…`, `tok_…`, `crt_…`, `agent:NAME`, `owner:NAME` or `subject:NAME`
    target: String,
    /// Also what it would be with these
    #[arg(long = "if", value_name = "SCOPE", num_args = 1..)]
    more: Vec<String>,
}

impl Command {
    /// Does it.
    pub async fn run(self, global: &Global) -> Answer {
        let mut radius =
            RadiusClient::new(global.channel().await?).max_decoding_message_size(super::audit::LARGEST_ANSWER);
        let request = RadiusRequest { target: self.target, if_scopes: self.more };
        let response = answer(radius.get(request).await)?;
        global.printer().print(&document(&response), || table(&response))
    }
}

fn document(response: &RadiusResponse) -> Value {
    let live = response.live.unwrap_or_default();
    let mut document = figures(&response.figures.unwrap_or_default());
    let by = [
        ("task", &response.task),
        ("agent", &response.agent),
        ("owner", &response.owner),
        ("subject", &response.subject),
    ];
    let by: serde_json::Map<_, _> =
        by.into_iter().filter_map(|(name, union)| Some((name.to_owned(), figures(union.as_ref()?)))).collect();
    document["target"] = json!(response.target);
    document["reaches"] = response.reaches.iter().map(reached).collect();
    document["unreported"] = json!(response.unreported);
    document["live"] = json!({
        "grants": live.grants,
        "tokens": live.tokens,
        "certificates": live.certificates,
        "leases": live.leases,
    });
    document["descendants"] = json!(response.descendants);
    document["exposure_until"] = json!(given(&response.exposure_until));
    document["exercised"] = json!(response.exercised);
    document["more_exercised"] = json!(response.more_exercised);
    document["by"] = Value::Object(by);
    if let (Some(adds), Some(comes_to)) = (&response.adds, &response.comes_to) {
        document["adds"] = figures(adds);
        document["comes_to"] = figures(comes_to);
    }
    document
}

fn reached(reached: &Reached) -> Value {
    json!({
        "resource": reached.resource,
        "sensitivity": reached.sensitivity,
        "hops": reached.hops,
        "via": reached.via,
    })
}

fn table(response: &RadiusResponse) -> String {
    let live = response.live.unwrap_or_default();
    let known = |figures: &Option<Figures>| figures.as_ref().map(summed).unwrap_or_default();
    let counts = format!(
        "grants {} ({} below others), tokens {}, certificates {}",
        live.grants, response.descendants, live.tokens, live.certificates
    );
    let exercised = match (response.exercised.is_empty(), response.more_exercised) {
        (true, _) => "nothing".to_owned(),
        (false, more) => {
            let shown = response.exercised.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
            if more || response.exercised.len() > SHOWN { format!("{shown}\n… and others") } else { shown }
        }
    };
    let until = given(&response.exposure_until).unwrap_or("nothing is live");
    let mut text = pairs([
        ("target", &response.target),
        ("score", &weighed(&response.figures.unwrap_or_default())),
        ("live", &counts),
        ("until", until),
        ("exercised", &exercised),
        ("its task", &known(&response.task)),
        ("its agent", &known(&response.agent)),
        ("its owner", &known(&response.owner)),
        ("its subject", &known(&response.subject)),
        ("would add", &known(&response.adds)),
        ("and come to", &known(&response.comes_to)),
    ]);
    if response.reaches.is_empty() {
        return text;
    }
    let row =
        |one: &Reached| [one.sensitivity.clone(), one.resource.clone(), one.hops.to_string(), one.via.join(", then ")];
    text.push_str("\n\n");
    text.push_str(&rows(["SENSITIVITY", "RESOURCE", "HOPS", "VIA"], response.reaches.iter().take(SHOWN).map(row)));
    let more = response.reaches.len().saturating_sub(SHOWN) as u64 + response.unreported;
    if more > 0 {
        text.push_str(&format!("\n… and {more} more; -o json lists the first thousand"));
    }
    text
}

/// How the score comes about.
fn weighed(figures: &Figures) -> String {
    let Figures { score, public, internal, confidential, restricted, unbounded } = figures;
    let kinds = [
        (restricted, 64, "restricted"),
        (confidential, 16, "confidential"),
        (internal, 4, "internal"),
        (public, 1, "public"),
    ];
    let kinds = kinds.iter().filter(|(count, ..)| **count > 0);
    let kinds: Vec<String> = kinds.map(|(count, weight, kind)| format!("{count} {kind} x {weight}")).collect();
    let least = if *unbounded { ", at least: some lies beyond the catalog" } else { "" };
    if kinds.is_empty() { format!("{score}{least}") } else { format!("{score} = {}{least}", kinds.join(" + ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_radius_has_the_keys_that_scripts_read() {
        let response = RadiusResponse { reaches: vec![Reached::default()], ..RadiusResponse::default() };
        let document = document(&response);
        for key in ["score", "unbounded", "reaches", "live", "exposure_until", "exercised", "by"] {
            assert!(document.get(key).is_some(), "{key}");
        }
        for key in ["resource", "sensitivity", "hops", "via"] {
            assert!(document["reaches"][0].get(key).is_some(), "{key}");
        }
        assert_eq!(document["live"], json!({ "grants": 0, "tokens": 0, "certificates": 0, "leases": 0 }));
        assert!(document.get("adds").is_none());
    }

    #[test]
    fn a_score_says_how_it_comes_about() {
        let figures = Figures { score: 84, internal: 1, confidential: 1, restricted: 1, ..Figures::default() };
        assert_eq!(weighed(&figures), "84 = 1 restricted x 64 + 1 confidential x 16 + 1 internal x 4");
        let beyond = Figures { unbounded: true, ..Figures::default() };
        assert_eq!(weighed(&beyond), "0, at least: some lies beyond the catalog");
    }
}
