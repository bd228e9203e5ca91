//! Messages that are none: too large, cut short, of another kind. The connection and the broker outlive them.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use belay::edge::LARGEST_REQUEST;
use belay::wire::v1;
use prost::Message as _;
use tonic::Code;

use crate::support::calls::raw;
use crate::support::process::Broker;

const SHOW: &str = "/belay.v1.Agents/Show";

/// A request whose one string makes it exactly so many bytes.
fn sized(bytes: usize) -> Vec<u8> {
    // A tag, and a length of three bytes below two megabytes.
    let message = v1::ShowAgentRequest { name: "a".repeat(bytes - 4) }.encode_to_vec();
    assert_eq!(message.len(), bytes);
    message
}

#[tokio::test]
async fn a_message_has_a_size_and_a_shape() {
    let broker = Broker::start();
    let channel = broker.channel().await;
    let size = broker.log_size(&channel).await;
    let code = async |body: Vec<u8>| raw(&channel, SHOW, body).await.map_or_else(|status| status.code(), |_| Code::Ok);
    // The largest that is read reaches the handler, which has its own opinion of the name.
    assert_eq!(code(sized(LARGEST_REQUEST)).await, Code::InvalidArgument);
    let over = raw(&channel, SHOW, sized(LARGEST_REQUEST + 1)).await.unwrap_err();
    assert_eq!(over.code(), Code::OutOfRange, "{over}");
    assert!(over.message().contains(&LARGEST_REQUEST.to_string()), "{over}");
    assert_eq!(belay::cli::output::exit(belay::client::Refusal::from(over).code), 2);
    assert_eq!(code(sized(2_000_000)).await, Code::OutOfRange);

    let good = v1::ShowAgentRequest { name: "nobody".into() }.encode_to_vec();
    assert_eq!(code(good.clone()).await, Code::NotFound);
    let shapes: [(&str, &[u8]); 7] = [
        ("cut short", &good[..good.len() - 1]),
        ("a length beyond the end", &[0x0a, 0x7f, b'a']),
        ("another wire type", &[0x08, 1]),
        ("an endless varint", &[0xff; 11]),
        ("field 0", &[0x00, 0x01]),
        ("invalid UTF-8", &[0x0a, 2, 0xff, 0xfe]),
        ("an unfinished group", &[0x0b]),
    ];
    for (what, body) in shapes {
        let refused = raw(&channel, SHOW, body.to_vec()).await.unwrap_err();
        assert!(matches!(refused.code(), Code::Internal | Code::InvalidArgument), "{what}: {refused}");
        assert!(!refused.message().contains("panick"), "{what}: {refused}");
    }
    assert_eq!(code(good).await, Code::NotFound);
    assert_eq!(broker.log_size(&channel).await, size);
}

#[tokio::test]
async fn a_compressed_message_is_not_unpacked() {
    let broker = Broker::start();
    let channel = broker.channel().await;
    let mut agents = v1::agents_client::AgentsClient::new(channel.clone());
    let request = || v1::ShowAgentRequest { name: "nobody".into() };
    assert_eq!(agents.show(request()).await.unwrap_err().code(), Code::NotFound);
    let mut call = tonic::Request::new(request());
    call.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    assert_eq!(agents.show(call).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(agents.show(request()).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_not_grpc_over_tls_gets_nowhere() {
    let broker = Broker::start();
    let address = broker.addr.trim_start_matches("https://").to_owned();
    let plain = |bytes: &[u8]| {
        let mut socket = std::net::TcpStream::connect(&address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // Reset or closed: either way nothing was served.
        let _ = socket.read_to_end(&mut answer);
        answer
    };
    for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0; 64]] {
        let answer = plain(bytes);
        // At most a TLS alert.
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
    // Half a handshake holds up nobody.
    let _silent: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    let answer = raw(&broker.channel().await, SHOW, v1::ShowAgentRequest { name: "x".into() }.encode_to_vec()).await;
    assert_eq!(answer.unwrap_err().code(), Code::NotFound);
}
