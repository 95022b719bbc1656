//! The form of the files in `schema/`: one line a field, nested by two spaces.
//!
//! ```text
//! api KEY NAME MIN..MAX flexible=VERSION      then `request` and `response` with their fields
//! data NAME MIN..MAX flexible=VERSION         bytes inside other bytes, with its fields
//!   field TYPE [VERSIONS] [null=VERSIONS] [tag=N] [default=VALUE] [ignorable] [classic]
//! ```
//!
//! TYPE is `bool`, `i8` … `f64`, `uuid`, `string`, `bytes`, `records` or the name of a structure
//! whose fields follow; `[]` before it is an array of it, `?` behind it says that it may be null,
//! in the versions of `null=` if that is said. VERSIONS is `3+`, `3`, `3..5`; without it a field
//! is in all of the message's. A message is flexible (compact lengths, tagged fields) from
//! `flexible=` on; `classic` excepts a field. A field without a version to be in is left out if it
//! is `ignorable` and cannot be encoded otherwise, unless it has its default; in a response every
//! field is.

/// First and last version.
pub(crate) type Versions = (i16, i16);

/// One message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    /// Which API it is of, and whether it is the request.
    pub(crate) api: Option<(i16, bool)>,
    pub(crate) versions: Versions,
    pub(crate) flexible: i16,
    pub(crate) fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) array: bool,
    /// A basic type, or the name of a structure.
    pub(crate) kind: String,
    pub(crate) versions: Versions,
    /// Versions in which it may be null.
    pub(crate) null: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
    pub(crate) classic: bool,
    pub(crate) fields: Vec<Field>,
}

/// Every message of a file.
pub(crate) fn parse(text: &str) -> Result<Vec<Message>, String> {
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .collect();
    let mut messages = Vec::new();
    let mut api: Option<(i16, String, Versions, i16)> = None;
    let mut at = 0;
    while let Some((number, line)) = lines.get(at) {
        let bad = |what: &str| format!("line {number}: {what}: `{line}`");
        let words: Vec<&str> = line.split_whitespace().collect();
        at += 1;
        let head = |versions: &str, flexible: &str| {
            let versions = parse_versions(versions, (0, i16::MAX))?;
            let flexible = match flexible.strip_prefix("flexible=")? {
                "never" => i16::MAX,
                version => version.parse().ok()?,
            };
            Some((versions, flexible))
        };
        let (name, of_api, versions, flexible) = match words.as_slice() {
            ["api", key, name, versions, flexible] => {
                let key = key.parse().map_err(|_| bad("no number"))?;
                let (versions, flexible) =
                    head(versions, flexible).ok_or_else(|| bad("no versions"))?;
                api = Some((key, (*name).to_owned(), versions, flexible));
                continue;
            }
            ["data", name, versions, flexible] => {
                let (versions, flexible) =
                    head(versions, flexible).ok_or_else(|| bad("no versions"))?;
                ((*name).to_owned(), None, versions, flexible)
            }
            [side @ ("request" | "response")] => {
                let (key, name, versions, flexible) = api.clone().ok_or_else(|| bad("no api"))?;
                (name, Some((key, *side == "request")), versions, flexible)
            }
            _ => return Err(bad("neither `api`, `data`, `request` nor `response`")),
        };
        let fields = parse_fields(&lines, &mut at, 1, versions)?;
        messages.push(Message { name, api: of_api, versions, flexible, fields });
    }
    Ok(messages)
}

fn parse_fields(
    lines: &[(usize, &str)],
    at: &mut usize,
    depth: usize,
    within: Versions,
) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    while let Some((number, line)) = lines.get(*at) {
        let indent = line.len() - line.trim_start().len();
        if indent < depth * 2 {
            break;
        }
        let bad = |what: &str| format!("line {number}: {what}: `{line}`");
        if indent > depth * 2 {
            return Err(bad("nested in nothing"));
        }
        let mut field = parse_field(line, within).ok_or_else(|| bad("no field"))?;
        *at += 1;
        field.fields = parse_fields(lines, at, depth + 1, field.versions)?;
        fields.push(field);
    }
    Ok(fields)
}

fn parse_field(line: &str, within: Versions) -> Option<Field> {
    let mut words = line.split_whitespace();
    let (name, kind) = (words.next()?, words.next()?);
    let (kind, nullable) = kind.strip_suffix('?').map_or((kind, false), |kind| (kind, true));
    let (kind, array) = kind.strip_prefix("[]").map_or((kind, false), |kind| (kind, true));
    let mut field = Field {
        name: name.to_owned(),
        array,
        kind: kind.to_owned(),
        versions: within,
        null: nullable.then_some((0, i16::MAX)),
        tag: None,
        default: None,
        ignorable: false,
        classic: false,
        fields: Vec::new(),
    };
    for word in words {
        match word.split_once('=') {
            Some(("null", versions)) => field.null = Some(parse_versions(versions, within)?),
            Some(("tag", number)) => field.tag = Some(number.parse().ok()?),
            Some(("default", value)) => field.default = Some(value.to_owned()),
            None if word == "ignorable" => field.ignorable = true,
            None if word == "classic" => field.classic = true,
            _ => field.versions = parse_versions(word, within)?,
        }
    }
    Some(field)
}

fn parse_versions(text: &str, within: Versions) -> Option<Versions> {
    let number = |text: &str| text.parse::<i16>().ok();
    match (text.strip_suffix('+'), text.split_once("..")) {
        (Some(first), _) => Some((number(first)?, within.1)),
        (None, Some((first, last))) => Some((number(first)?, number(last)?)),
        (None, None) => Some((number(text)?, number(text)?)),
    }
}
