//! gRPC requests: the first byte chooses the message, the rest is it. It is understood whole, or refused.
#![no_main]

use belay::wire::{read, v1};
use belay_fuzz::is_fit_to_print;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

macro_rules! requests {
    ($($at:literal $name:ident),* $(,)?) => {
        fuzz_target!(|bytes: &[u8]| {
            let Some((kind, bytes)) = bytes.split_first() else { return };
            match kind {
                $($at => match read::<v1::$name>(&mut &bytes[..]) {
                    Ok(message) => {
                        let written = message.encode_to_vec();
                        assert_eq!(written.len(), bytes.len(), "a part was skipped");
                        assert_eq!(read::<v1::$name>(&mut &written[..]).as_ref(), Ok(&message));
                        // A field of a number that nothing has yet.
                        let newer = [bytes, &[0xf8, 0xff, 0x03, 0x01]].concat();
                        assert!(read::<v1::$name>(&mut &newer[..]).is_err(), "an unknown field is taken");
                    }
                    Err(error) => is_fit_to_print(&error),
                },)*
                _ => {}
            }
        });
    };
}

requests! {
    0 EnrollRequest, 1 RenewIdentityRequest, 2 RegisterAgentRequest, 3 InviteRequest, 4 ChangeAgentRequest,
    5 AddOperatorRequest, 6 StartTaskRequest, 7 EndTaskRequest, 8 RequestGrantRequest, 9 DelegateRequest,
    10 ShowGrantRequest, 11 ListGrantsRequest, 12 RenewGrantRequest, 13 ChangeGrantRequest, 14 IssueTokenRequest,
    15 VerifyTokenRequest, 16 AuthorizeRequest, 17 RevokeRequest, 18 ListEventsRequest, 19 ShowEventRequest,
    20 WhyRequest, 21 ListAgentsRequest,
}
