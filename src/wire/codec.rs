//! Messages on the wire: what arrives as a request is understood whole, or refused.
//!
//! protobuf skips fields that it does not know. In an answer that lets brokers be newer than their clients;
//! in a request the skipped field may be a limit, and what was asked for would be granted without it.

use std::marker::PhantomData;

use prost::{Message, Name, bytes::Buf};
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::domain::error::{Code, Error};

/// The codec of every service and client here: sends `T`, reads `U`.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

/// Reads one kind of message.
#[derive(Debug)]
pub struct Strict<U>(PhantomData<U>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Name + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Strict<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Strict(PhantomData)
    }
}

impl<U: Message + Default + Name> Decoder for Strict<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if U::NAME.ends_with("Request") {
            return Ok(Some(read(buffer)?));
        }
        U::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// The request that `buffer` is, understood whole.
///
/// # Errors
/// `unknown_field`, or `malformed` if it is no such message.
pub fn read<U: Message + Default + Name>(buffer: &mut impl Buf) -> Result<U, Error> {
    let bytes = buffer.remaining();
    let refused = |reason, why: String| Err(Error::new(Code::Invalid, reason, why));
    match U::decode(buffer) {
        // What was skipped is not written again, and nothing that was read is written longer than it came.
        Ok(message) if message.encoded_len() == bytes => Ok(message),
        Ok(_) => refused(
            "unknown_field",
            format!("the {} holds a field that this broker does not know, or one twice", U::NAME),
        ),
        Err(error) => refused("malformed", format!("this is no {}: {error}", U::NAME)),
    }
}
