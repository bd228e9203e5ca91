//! Belay from outside: through its public items, its gRPC interface and its real binary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::large_futures,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by failing, and makes its own world"
)]

mod access;
mod agentdojo;
mod applied;
mod approvals;
mod approvals_asked;
mod approvals_cli;
mod approvals_over;
mod approvals_watch;
mod architecture;
mod audit;
mod authority_laws;
mod authzen;
mod bad_certificates;
mod bad_enrolment;
mod bad_grants;
mod bad_policies;
mod bad_registration;
mod bad_start;
mod bad_tokens;
mod bad_wire;
mod batch;
mod catalog;
mod catalog_commands;
mod certificate_cuts;
mod certificate_keys;
mod certificate_reads;
mod certificates;
mod chain;
mod cli;
mod clock;
mod commit_errors;
mod competitors;
mod connection;
mod constraint_laws;
mod constraints;
mod crash;
mod crl;
mod crl_readers;
mod doors;
mod durable_credentials;
mod effects;
mod empty;
mod enrol_again;
mod envoy;
mod expiry;
mod ext_mcp;
mod extension;
mod fair_lanes;
mod feed;
mod feed_hub;
mod feed_offline;
mod fold;
mod forward;
mod freezes;
mod full_disk;
mod grave;
mod guard_hook;
mod guard_mcp;
mod guard_run;
mod heavy;
mod holds;
mod idempotency;
mod identity;
mod init;
mod invoke;
mod joined;
mod key_listeners;
mod keys;
mod keys_under_load;
mod lanes;
mod lease_cuts;
mod leases;
mod limits;
mod lineage;
mod live_counts;
mod log_damage;
mod metrics;
mod old_log;
mod on_behalf_of;
mod oracle;
mod outcomes;
mod panics;
mod policy_commands;
mod policy_matrix;
mod policy_slices;
mod power_loss;
mod quotas;
mod races;
mod radius;
mod radius_commands;
mod refusal_log;
mod reload;
mod scopes;
mod secrets;
mod serve;
mod serve_config;
mod settled;
mod signed_before;
mod slicing;
mod smoke;
mod status_lists;
mod store_contract;
mod store_files;
mod story;
mod support;
mod systemd;
mod tail;
mod team_rules;
mod tickets;
mod together;
mod turn_contract;
mod unknown;
mod upstreams;
mod waiting;
mod whole_cut;
