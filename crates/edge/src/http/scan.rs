//! Finds where a head ends, in bytes that arrive in any pieces.

use super::Refusal;

/// How far a head has been looked through. The result depends on the bytes alone, never on the
/// pieces in which they came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeadScan {
    seen: usize,
    line_start: usize,
}

impl HeadScan {
    /// Looks at `bytes` from where the last look ended. The length of the head with its last CRLF
    /// once that has come.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        head_bytes_max: usize,
    ) -> Result<Option<usize>, Refusal> {
        let known = &bytes[..bytes.len().min(head_bytes_max)];
        for lf in memchr::memchr_iter(b'\n', &known[self.seen.min(known.len())..]) {
            let lf = self.seen + lf;
            if lf == 0 || known[lf - 1] != b'\r' || lf == self.line_start {
                return Err(Refusal::BareLf);
            }
            // A first line that is empty is no head; the reader of requests skips one before.
            if lf - 1 == self.line_start && lf > 1 {
                return Ok(Some(lf + 1));
            }
            self.line_start = lf + 1;
        }
        self.seen = known.len();
        if bytes.len() < head_bytes_max {
            return Ok(None);
        }
        Err(if self.line_start == 0 { Refusal::TargetTooLong } else { Refusal::HeadTooLarge })
    }
}
