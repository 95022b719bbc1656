//! Why a message was refused: the status for the client, a label for the count, a sentence.

macro_rules! refusals {
    ($($name:ident $status:literal $label:literal $text:literal)*) => {
        /// Why a message was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Refusal { $(#[doc = $text] $name,)* }

        impl Refusal {
            /// Every reason, in order.
            #[cfg(test)]
            pub(crate) const ALL: &[Refusal] = &[$(Refusal::$name,)*];

            /// The status of the answer, when a client's request is refused.
            pub(crate) fn status(self) -> u16 {
                match self { $(Refusal::$name => $status,)* }
            }

            /// The value of the metric label `reason`.
            pub(crate) fn label(self) -> &'static str {
                match self { $(Refusal::$name => $label,)* }
            }

            /// One sentence, without a final stop.
            pub(crate) fn text(self) -> &'static str {
                match self { $(Refusal::$name => $text,)* }
            }
        }
    };
}

refusals! {
    BareLf 400 "bare-lf" "a line ends in LF without CR"
    HeadTooLarge 431 "head-too-large" "the head is too long"
    TargetTooLong 414 "target-too-long" "the request line is too long"
    TooManyFields 431 "too-many-fields" "the head has too many fields"
    RequestLine 400 "request-line" "the request line is not METHOD TARGET HTTP/1.1"
    StatusLine 502 "status-line" "the status line is not HTTP/1.1 CODE REASON"
    Version 505 "version" "only HTTP/1.1 and HTTP/1.0 are spoken here"
    Target 400 "target" "the request target is not a path or an http URL"
    Connect 501 "connect" "CONNECT is not served: this is not a forward proxy"
    Trace 405 "trace" "TRACE is not served to clients from outside: it would show them inner fields"
    ObsFold 400 "obs-fold" "a field goes on in the next line (obsolete folding)"
    FieldName 400 "field-name" "a field name is empty, has a wrong character or a space before the colon"
    FieldValue 400 "field-value" "a field value has a control character"
    ContentLength 400 "content-length" "Content-Length is not one plain decimal number"
    LengthAndChunked 400 "length-and-chunked" "both Content-Length and Transfer-Encoding are given"
    TwoTransferEncodings 400 "two-transfer-encodings" "Transfer-Encoding is given twice"
    TransferEncoding 501 "transfer-encoding" "the only transfer encoding served here is chunked"
    ChunkedInHttp10 400 "chunked-in-1.0" "HTTP/1.0 has no Transfer-Encoding"
    NoHost 400 "no-host" "there is no Host field"
    TwoHosts 400 "two-hosts" "there are two Host fields"
    Host 400 "host" "the Host field is not HOST or HOST:PORT"
    HostMismatch 400 "host-mismatch" "the target's host and the Host field differ"
    Connection 400 "connection" "Connection names a field that every hop needs"
    Expect 417 "expect" "the only expectation served here is 100-continue"
    ChunkSize 400 "chunk-size" "a chunk size is not a hexadecimal number of at most 15 digits"
    ChunkExtension 400 "chunk-extension" "a chunk extension is too long or has a wrong character"
    ChunkEnd 400 "chunk-end" "a chunk does not end in CRLF"
    Trailer 400 "trailer" "a trailer field is malformed, too long or not allowed"
    HeadTimeout 408 "head-timeout" "the request head did not arrive in time"
    BodyTimeout 408 "body-timeout" "the request body stopped arriving"
    HoldFull 503 "hold-full" "too many requests wait for this service"
    HoldTimeout 503 "hold-timeout" "no instance became ready in time"
    BadResponse 502 "bad-response" "the instance's answer is not valid HTTP"
    UpstreamBroke 502 "upstream-broke" "the instance closed the connection before it answered"
    UpstreamTimeout 504 "upstream-timeout" "the instance did not answer in time"
}
