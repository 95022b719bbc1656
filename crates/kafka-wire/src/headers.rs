//! What stands before a message in a frame.

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{Api, Codec, DecodeError, EncodeError, Request};
use crate::reader::Reader;
use crate::text::Str;
use crate::writer::Writer;
use crate::{api_versions, request_header, response_header};

/// What a request says before its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHeader {
    /// Which API.
    pub key: i16,
    /// In which version.
    pub version: i16,
    /// What the answer repeats.
    pub correlation: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads the header. `flexible_from` tells of an API (by key) the first flexible version, if
    /// the API is known; of one that is not, nothing after the header can be read.
    ///
    /// # Errors
    /// When the bytes are no header.
    pub fn decode(
        input: &mut Reader,
        flexible_from: impl Fn(i16) -> Option<i16>,
    ) -> Result<RequestHeader, DecodeError> {
        let (key, version, correlation) = (input.i16()?, input.i16()?, input.i32()?);
        let client_id = input.string_or_null(false, true)?;
        if flexible_from(key).is_some_and(|first| version >= first) {
            input.skip_tags()?;
        }
        Ok(RequestHeader { key, version, correlation, client_id })
    }
}

fn header_version(api: &Api, version: i16) -> i16 {
    i16::from(version >= api.flexible)
}

/// The bytes of a request, with the length before them.
///
/// # Errors
/// When the message has no form in that version.
pub fn frame_request<R: Request>(
    request: &R,
    version: i16,
    correlation: i32,
    client_id: &str,
) -> Result<Bytes, EncodeError> {
    let mut out = Writer::new();
    let header = request_header::RequestHeader {
        request_api_key: R::API.key,
        request_api_version: version,
        correlation_id: correlation,
        client_id: Some(client_id.into()),
    };
    header.encode(&mut out, header_version(&R::API, version) + 1)?;
    request.encode(&mut out, version)?;
    let mut whole = BytesMut::with_capacity(4 + out.len());
    whole
        .put_u32(u32::try_from(out.len()).map_err(|_| EncodeError::TooLong { length: out.len() })?);
    whole.put(out.into_bytes());
    Ok(whole.freeze())
}

/// Reads the frame of an answer, without the length before it: the number of its request, and what
/// it says.
///
/// # Errors
/// When the bytes are no answer to such a request in that version.
pub fn parse_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let mut input = Reader::new(frame);
    let correlation = input.i32()?;
    let is_first = R::API.key == <api_versions::Request as Request>::API.key;
    if !is_first && header_version(&R::API, version) > 0 {
        input.skip_tags()?;
    }
    Ok((correlation, R::Response::decode(&mut input, version)?))
}

/// The pieces of an answer, the length first.
///
/// # Errors
/// When the message has no form in that version.
pub fn frame_response(
    api: &Api,
    version: i16,
    correlation: i32,
    body: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut out = Writer::new();
    let header = response_header::ResponseHeader { correlation_id: correlation };
    // A client that does not know what versions there are must be able to read this one.
    let is_first = api.key == <api_versions::Request as Request>::API.key;
    header.encode(&mut out, if is_first { 0 } else { header_version(api, version) })?;
    body(&mut out)?;
    let length =
        u32::try_from(out.len()).map_err(|_| EncodeError::TooLong { length: out.len() })?;
    let mut pieces = vec![Bytes::copy_from_slice(&length.to_be_bytes())];
    pieces.extend(out.into_pieces());
    Ok(pieces)
}
