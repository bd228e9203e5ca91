//! What is said to PostgreSQL. Each text is one transaction, decided by the server's own clock and catalog.
//!
//! Names of ours hold nothing but `a-z`, `0-9` and `_`; those of roles are quoted.

use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// The state of an error by which a creator learns that it comes too late.
pub(super) const TOO_LATE: &str = "BL001";

/// A name as an identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal.
pub(super) fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("E'{escaped}'")
}

pub(super) fn block(body: &str) -> String {
    format!("DO $belay$ BEGIN {body} END $belay$")
}

/// Makes a role that may log in, unless the server's clock is past `deadline` (milliseconds): a creator that was
/// paused cannot finish later. Check and creation are one transaction, and one round trip.
pub(super) fn create(name: &str, verifier: &str, until: &str, template: &str, deadline: i64, mark: &str) -> String {
    let (role, template) = (quoted(name), quoted(template));
    let (verifier, until, mark) = (literal(verifier), literal(until), literal(mark));
    block(&format!(
        "IF {NOW} >= {deadline} THEN RAISE EXCEPTION 'too late' USING ERRCODE = '{TOO_LATE}'; END IF;
         CREATE ROLE {role} LOGIN PASSWORD {verifier} VALID UNTIL {until};
         GRANT {template} TO {role};
         COMMENT ON ROLE {role} IS {mark};"
    ))
}

/// The server's clock, in milliseconds since 1970.
const NOW: &str = "(extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint";

/// Lets nobody in by this name any more. With a mark, the name is taken if nobody has it.
pub(super) fn disable(name: &str, claim: Option<&str>) -> String {
    let role = quoted(name);
    let there = format!("EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {})", literal(name));
    let Some(mark) = claim else {
        return block(&format!("IF {there} THEN ALTER ROLE {role} NOLOGIN; END IF;"));
    };
    let mark = literal(mark);
    // Whoever makes it at this moment is waited for, by the index of names.
    block(&format!(
        "BEGIN
            CREATE ROLE {role} NOLOGIN;
            COMMENT ON ROLE {role} IS {mark};
         EXCEPTION WHEN duplicate_object OR unique_violation THEN
            ALTER ROLE {role} NOLOGIN;
         END;"
    ))
}

/// Lets it in again, unless the server's clock is past `deadline` (milliseconds): what was under way when the next cut
/// began does not undo that cut.
pub(super) fn enable(name: &str, deadline: i64) -> String {
    block(&format!(
        "IF {NOW} >= {deadline} THEN RAISE EXCEPTION 'too late' USING ERRCODE = '{TOO_LATE}'; END IF;
         ALTER ROLE {} LOGIN;",
        quoted(name)
    ))
}

/// The server's clock.
pub(super) async fn clock(client: &Client) -> Result<i64, Error> {
    Ok(first(client, &format!("SELECT {NOW}")).await?.and_then(|text| text.parse().ok()).unwrap_or(i64::MIN))
}

/// The number of a role, which its sessions keep when it is dropped; none if nobody has the name.
pub(super) async fn number(client: &Client, name: &str) -> Result<Option<u32>, Error> {
    let query = format!("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {}", literal(name));
    Ok(first(client, &query).await?.and_then(|text| text.parse().ok()))
}

/// Ends every session that came in as the role of this number, whatever role it has set since, and whether or not
/// the role is still there; says how many there were.
pub(super) async fn terminate(client: &Client, number: u32) -> Result<u64, Error> {
    let query = format!(
        "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
         WHERE usesysid = {number}"
    );
    Ok(first(client, &query).await?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// The first value of the first row.
pub(super) async fn first(client: &Client, query: &str) -> Result<Option<String>, Error> {
    Ok(column(client, query).await?.into_iter().next())
}

/// The first value of every row.
pub(super) async fn column(client: &Client, query: &str) -> Result<Vec<String>, Error> {
    let rows = client.simple_query(query).await?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_holds_ends_no_name_and_no_text() {
        assert_eq!(quoted("a\"; DROP ROLE x; --"), "\"a\"\"; DROP ROLE x; --\"");
        assert_eq!(literal("a'b\\'"), "E'a\\'b\\\\\\''");
        let text = create("belay_x", "SCRAM$1:a$b:c", "2026-01-01T00:00:00Z", "app.read-only", 5, "it's ours");
        assert!(text.contains("GRANT \"app.read-only\" TO \"belay_x\"") && text.contains("E'it\\'s ours'"), "{text}");
        assert_eq!(text.matches("$belay$").count(), 2);
    }
}
