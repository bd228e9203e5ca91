//! Compiles the protocol definitions without a system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    #[cfg(feature = "broker")]
    {
        use protox::prost::Message as _;

        let files = protox::compile(["belay/v1/belay.proto", "belay/log/v1/log.proto"], ["proto"])?;
        // The descriptor is what tests enumerate the RPCs from.
        let descriptor = std::path::Path::new(&std::env::var("OUT_DIR")?).join("descriptor.bin");
        std::fs::write(descriptor, files.encode_to_vec())?;
        let mut messages = tonic_prost_build::Config::new();
        // The codec tells requests from answers by their names.
        messages.enable_type_names();
        messages.boxed("belay.v1.DecisionRequest.said.authorize");
        let services = tonic_prost_build::configure().skip_debug(SECRET).codec_path("crate::wire::Codec");
        services.compile_fds_with_config(files, messages)?;

        // What others speak is read as they mean it: fields that are not known are passed over.
        let files = protox::compile(["foreign/ext_authz.proto", "foreign/ext_mcp.proto"], ["proto"])?;
        let descriptor = std::path::Path::new(&std::env::var("OUT_DIR")?).join("foreign.bin");
        std::fs::write(descriptor, files.encode_to_vec())?;
        tonic_prost_build::configure().skip_debug(FOREIGN_SECRET).compile_fds(files)?;
    }
    Ok(())
}

/// Messages that hold a secret: `wire` says how they look in a log.
#[cfg(feature = "broker")]
const SECRET: [&str; 17] = [
    "belay.v1.EnrollRequest", "belay.v1.InvitedAgent", "belay.v1.InvitedOperator", "belay.v1.Token",
    "belay.v1.VerifyTokenRequest", "belay.v1.AuthorizeRequest", "belay.v1.StartTaskRequest",
    "belay.v1.AddBackendRequest", "belay.v1.LeaseSecret", "belay.v1.IssueLeaseResponse", "belay.v1.AuthorizeResponse",
    "belay.v1.IssueLeaseRequest", "belay.v1.HttpRequest", "belay.v1.McpRequest", "belay.v1.DpopProof",
    "belay.v1.InvitedPep", "belay.v1.AddUpstreamRequest",
];

/// The same, of what others speak.
#[cfg(feature = "broker")]
const FOREIGN_SECRET: [&str; 5] = [
    "envoy.service.auth.v3.HttpRequest", "envoy.service.auth.v3.HeaderValue", "agentgateway.dev.ext_mcp.McpRequest",
    "agentgateway.dev.ext_mcp.McpResponse", "agentgateway.dev.ext_mcp.McpHeader",
];
