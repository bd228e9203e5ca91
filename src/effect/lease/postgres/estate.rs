//! What is said to PostgreSQL when a lease ends: what it was given, what it handed on, and what it made.
//!
//! Nothing of it ever goes to the broker's own account: a function or a view that an agent wrote would run with the
//! rights of an account that makes roles.

use super::statement::{block, literal, quoted};

fn there(name: &str) -> String {
    format!("EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {})", literal(name))
}

/// Nobody is a member of it any more, but for us: whoever was could do as it by `SET ROLE`.
pub(super) fn desert(name: &str) -> String {
    severed(name, "roleid", "AND u.oid <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER)")
}

/// Takes every role that it has away from it: what it handed on is worth nothing then.
pub(super) fn disown(name: &str) -> String {
    severed(name, "member", "")
}

fn severed(name: &str, side: &str, but: &str) -> String {
    format!(
        "DO $belay$ DECLARE one record; BEGIN
         FOR one IN SELECT r.rolname AS role, u.rolname AS member FROM pg_catalog.pg_auth_members m
             JOIN pg_catalog.pg_roles r ON r.oid = m.roleid JOIN pg_catalog.pg_roles u ON u.oid = m.member
             WHERE m.{side} = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {}) {but}
         LOOP EXECUTE pg_catalog.format('REVOKE %I FROM %I', one.role, one.member); END LOOP; END $belay$",
        literal(name)
    )
}

/// Takes it away. What it owns in this database goes to the role that it was made from, and does nothing there with
/// that role's rights. Where that role is not known, or not there, what owns something stays.
pub(super) fn drop_role(name: &str, template: Option<&str>) -> String {
    let role = quoted(name);
    let Some(template) = template else {
        return block(&format!("IF {} THEN DROP ROLE {role}; END IF;", there(name)));
    };
    block(&format!(
        "IF {} THEN
            IF {} THEN
                GRANT {role} TO CURRENT_USER;
                {}
                REASSIGN OWNED BY {role} TO {};
                DROP OWNED BY {role};
            END IF;
            DROP ROLE {role};
         END IF;",
        there(name),
        there(template),
        tame(name),
        quoted(template)
    ))
}

/// What runs with the rights of its owner, whoever calls it: functions do as their caller may from now on, as do views
/// where the server knows how (from 15 on; before, nobody else reads them any more), and rules of tables go.
fn tame(name: &str) -> String {
    let owner = format!("(SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {})", literal(name));
    format!(
        "DECLARE one record; BEGIN
            FOR one IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.prosecdef AND p.proowner = {owner}
            LOOP EXECUTE pg_catalog.format('ALTER ROUTINE %s SECURITY INVOKER', one.oid::regprocedure); END LOOP;
            FOR one IN SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relkind = 'v' AND c.relowner = {owner}
            LOOP
                IF pg_catalog.current_setting('server_version_num')::int >= 150000 THEN
                    EXECUTE pg_catalog.format('ALTER VIEW %s SET (security_invoker = true)', one.oid::regclass);
                ELSE
                    EXECUTE pg_catalog.format('DROP VIEW %s CASCADE', one.oid::regclass);
                END IF;
            END LOOP;
            FOR one IN SELECT w.rulename, c.oid FROM pg_catalog.pg_rewrite w
                JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
                WHERE w.rulename <> '_RETURN' AND c.relowner = {owner}
            LOOP EXECUTE pg_catalog.format('DROP RULE %I ON %s', one.rulename, one.oid::regclass); END LOOP;
         END;"
    )
}
