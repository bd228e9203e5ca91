//! The preflight: all that will be done for a lease, done once with each role that is leased from.

use super::super::Probe;
use super::address::Address;
use super::job::Job;
use super::session::Session;
use super::{Failure, Order, PROBE, Postgres, statement};
use crate::domain::lease::username;
use crate::domain::name::Name;

/// What cannot be done, in readable lines; none if all can.
pub(super) async fn findings(postgres: &Postgres, probes: &[Probe]) -> Vec<String> {
    let account = match who(postgres).await {
        Ok(account) => account,
        Err(failure) => return vec![failure.reason],
    };
    if !account.makes_roles {
        let name = &account.name;
        return vec![format!("account `{name}` may not create roles: ALTER ROLE {name} CREATEROLE")];
    }
    let mut findings = Vec::new();
    for tried in probes {
        if let Err(finding) = one(postgres, &account.name, tried).await {
            findings.push(finding);
        }
    }
    findings
}

struct Account {
    name: String,
    makes_roles: bool,
}

async fn who(postgres: &Postgres) -> Result<Account, Failure> {
    let query = "SELECT (rolsuper OR rolcreaterole)::text || ' ' || rolname FROM pg_catalog.pg_roles \
                 WHERE rolname = CURRENT_USER";
    let said = postgres.on(&postgres.making, &Job::Column(query.to_owned())).await?;
    let said = said.into_iter().next().unwrap_or_default();
    let (makes_roles, name) = said.split_once(' ').unwrap_or_default();
    Ok(Account { name: name.to_owned(), makes_roles: makes_roles == "true" })
}

async fn one(postgres: &Postgres, account: &str, tried: &Probe) -> Result<(), String> {
    let role = &tried.role;
    fit(postgres, role).await?;
    let username = username(tried.id);
    let outcome = probe(postgres, account, &username, tried).await;
    // Whatever came of it, nothing is left behind.
    let gone = postgres.take_away(&username, Some(role), false).await;
    outcome?;
    gone.map(drop).map_err(|failure| {
        let remedy = format!("the account has to be a member of `{role}`: GRANT \"{role}\" TO {account}");
        format!("what was made from role `{role}` cannot be dropped: {failure}; {remedy}")
    })
}

/// A role by which one could make others, be anybody, or do what no end of a session undoes, outlives every cut.
async fn fit(postgres: &Postgres, role: &Name) -> Result<(), String> {
    let said = postgres.on(&postgres.making, &Job::Column(reach_of(role))).await.map_err(|failure| failure.reason)?;
    let why = match said.first().map(String::as_str) {
        Some("fit") => return Ok(()),
        Some("strong") => "one that creates roles, replicates or is a superuser: what it makes would outlive a cut",
        Some("files") => "one that runs programs or touches files on the server: what that does would outlive a cut",
        Some("login") => "one that may log in: who sets its password comes in beside the lease; make it NOLOGIN",
        Some(_) => "one that may hand roles on (ADMIN OPTION): who has them then would outlive a cut",
        None => {
            return Err(format!(
                "role `{role}` does not exist: CREATE ROLE \"{role}\" NOLOGIN, and grant it what it may do"
            ));
        }
    };
    Err(format!("role `{role}` is, or may become, {why}"))
}

/// Asks what every role that this one is, or may become, could do.
fn reach_of(role: &Name) -> String {
    let any = |what: &str| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_roles p WHERE {what} AND pg_catalog.pg_has_role(r.oid, p.oid, 'MEMBER'))"
        )
    };
    format!(
        "SELECT CASE WHEN {} THEN 'strong' WHEN {} THEN 'files' WHEN {} THEN 'login' WHEN {} THEN 'admin' ELSE 'fit' END \
         FROM pg_catalog.pg_roles r WHERE rolname = {}",
        any("(p.rolsuper OR p.rolcreaterole OR p.rolreplication)"),
        any("p.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')"),
        any("p.rolcanlogin"),
        any("EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = p.oid AND m.admin_option)"),
        statement::literal(role.as_str())
    )
}

async fn probe(postgres: &Postgres, account: &str, username: &str, tried: &Probe) -> Result<(), String> {
    let Probe { role, password, .. } = tried;
    let order = Order { username, role, password, left: &|| PROBE };
    postgres.create(order).await.map_err(|failure| {
        format!("role `{role}` cannot be leased: {failure}; GRANT \"{role}\" TO {account} WITH ADMIN OPTION")
    })?;
    let mut config = postgres.address.config.clone();
    config.user(username).password(password.as_bytes());
    let address = Address { config, authorities: postgres.address.authorities.clone() };
    let mut session = Session::open(&address).await.map_err(|failure| {
        format!("a role made from `{role}` cannot log in: {failure}; see pg_hba.conf and CONNECT on the database")
    })?;
    postgres.disable(username, false).await.map_err(|failure| {
        format!(
            "sessions of a role made from `{role}` cannot be ended: {failure}; GRANT pg_signal_backend TO {account}"
        )
    })?;
    match session.run(&Job::Run(vec!["SELECT 1".to_owned()])).await {
        Ok(_) => Err(format!("a session of a role made from `{role}` goes on after it was ended")),
        Err(_) => Ok(()),
    }
}
