//! Words of an instruction: split at blanks outside quotes, variables filled in.

/// How a Dockerfile fills in variables.
pub(super) struct Words<'a> {
    pub(super) escape: char,
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
}

const DEPTH_MAX: usize = 16;
const OUTPUT_MAX: usize = 1 << 18;

/// Splits at blanks that are neither quoted nor escaped; quotes stay.
pub(super) fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (c, _) if c == escape && quote != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(q)) if c == q => quote = None,
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A list of strings in JSON, if that is what the text is.
pub(super) fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[').then(|| serde_json::from_str(text).ok())?
}

impl Words<'_> {
    /// A word without its quotes and with its variables. The error says what is wrong.
    pub(super) fn fill(&self, word: &str) -> Result<String, String> {
        let mut out = String::new();
        self.expand(word, 0, true, &mut out)?;
        Ok(out)
    }

    /// A text whose quotes stay, with its variables.
    pub(super) fn fill_text(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        self.expand(text, 0, false, &mut out)?;
        Ok(out)
    }

    fn expand(
        &self,
        text: &str,
        depth: usize,
        quotes: bool,
        out: &mut String,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX || out.len() > OUTPUT_MAX {
            return Err("variables are nested too deeply, or too long".to_owned());
        }
        let mut quote = None;
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = match c {
                '\'' if quotes && quote.is_none() => {
                    let end = after.find('\'').ok_or("a single quote does not end")?;
                    out.push_str(&after[..end]);
                    &after[end + 1..]
                }
                '"' if quotes => {
                    quote = if quote.is_some() { None } else { Some('"') };
                    after
                }
                c if c == self.escape => match after.chars().next() {
                    Some(next) => {
                        // Within double quotes, and where quotes stay, it only stands before
                        // what would mean something else.
                        let special = next == '$' || next == self.escape || (next == '"' && quotes);
                        if !special && (quote.is_some() || !quotes) {
                            out.push(c);
                        }
                        out.push(next);
                        &after[next.len_utf8()..]
                    }
                    None => after,
                },
                '$' => self.variable(after, depth, quotes, out)?,
                c => {
                    out.push(c);
                    after
                }
            };
            if out.len() > OUTPUT_MAX {
                return Err("a value is too long".to_owned());
            }
        }
        match quote {
            Some(_) => Err("a double quote does not end".to_owned()),
            None => Ok(()),
        }
    }

    /// Fills in the variable that `text`, the part behind a `$`, begins with; returns the rest.
    fn variable<'t>(
        &self,
        text: &'t str,
        depth: usize,
        quotes: bool,
        out: &mut String,
    ) -> Result<&'t str, String> {
        let Some(inner) = text.strip_prefix('{') else {
            let length = name_length(text);
            match length {
                0 => out.push('$'),
                _ => out.push_str(&(self.lookup)(&text[..length]).unwrap_or_default()),
            }
            return Ok(&text[length..]);
        };
        let mut open = 1usize;
        let end = inner.bytes().position(|b| {
            open = match b {
                b'{' => open + 1,
                b'}' => open - 1,
                _ => open,
            };
            open == 0
        });
        let end = end.ok_or("`${` does not end")?;
        let (body, rest) = (&inner[..end], &inner[end + 1..]);
        let length = name_length(body);
        if length == 0 {
            return Err(format!("`${{{body}}}` has no name"));
        }
        let (name, operation) = body.split_at(length);
        let value = (self.lookup)(name);
        let (strict, operation) = match operation.strip_prefix(':') {
            Some(rest) => (true, rest),
            None => (false, operation),
        };
        let value = value.filter(|v| !(strict && v.is_empty()));
        let operator = operation.chars().next();
        let word = operation.get(1..).unwrap_or_default();
        match (operator, value) {
            (None, value) if !strict => out.push_str(&value.unwrap_or_default()),
            (Some('-' | '?'), Some(value)) => out.push_str(&value),
            (Some('-'), None) | (Some('+'), Some(_)) => {
                self.expand(word, depth + 1, quotes, out)?
            }
            (Some('+'), None) => {}
            (Some('?'), None) => return Err(format!("`{name}` is not set: {word}")),
            _ => return Err(format!("`${{{body}}}` is a form that is not read")),
        }
        Ok(rest)
    }
}

fn name_length(text: &str) -> usize {
    let mut bytes = text.bytes();
    match bytes.next() {
        Some(b) if b.is_ascii_digit() => 1,
        Some(b) if b.is_ascii_alphabetic() || b == b'_' => {
            1 + bytes.take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count()
        }
        _ => 0,
    }
}
