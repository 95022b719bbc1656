//! Variables: fills in every value of a file, before it is merged with others.

use crate::interpolate::{InterpolateError, interpolate};
use crate::origin::Env;
use crate::report::{At, Report};
use crate::tree::{self, Node};

/// What is remembered over all files.
#[derive(Default)]
pub(super) struct Fill {
    warned: Vec<String>,
    size: usize,
}

impl Fill {
    pub(super) fn run(&mut self, document: &mut Node, env: &Env, report: &mut Report) {
        let lookup = |name: &str| env.get(name).cloned();
        document.scalars(&mut |scalar: &mut tree::Scalar, at: At| {
            if !scalar.text.contains('$') {
                return;
            }
            let mut unset = Vec::new();
            match interpolate(&scalar.text, &lookup, &mut unset) {
                Ok(text) if self.size + text.len() > tree::TEXT_MAX => {
                    // Said once: everything after it would be too long as well.
                    if self.size <= tree::TEXT_MAX {
                        let why = "all values together are too long once filled in";
                        refused(InterpolateError::Bound(why), at, report);
                        self.size = tree::TEXT_MAX + 1;
                    }
                }
                Ok(text) => {
                    self.size += text.len();
                    // `$$` alone is still what the file says.
                    scalar.literal &= !scalar.text.replace("$$", "").contains('$');
                    scalar.text = text;
                    scalar.plain = false;
                }
                Err(error) => refused(error, at, report),
            }
            for name in unset {
                if !self.warned.contains(&name) {
                    report.warn(
                        "variable-unset",
                        at,
                        format!("`{name}` is not set and stands for nothing here"),
                        "neither the shell nor an environment file gives it a value",
                        format!("set it, or write `${{{name}:-}}`; `$${name}` is the text itself"),
                    );
                    self.warned.push(name);
                }
            }
        });
    }
}

fn refused(error: InterpolateError, at: At, report: &mut Report) {
    match error {
        InterpolateError::Syntax(near) => report.error(
            "interpolation",
            at,
            format!("`{near}` is not a variable"),
            "a `$` begins a variable: `$NAME` or `${NAME}`",
            "write `$$` for the sign itself",
        ),
        InterpolateError::Required { name, message } => {
            let cause = match message.is_empty() {
                true => "the file requires it".to_owned(),
                false => message,
            };
            let next = format!("set it in the shell or in .env: {name}=…");
            report.error("variable-required", at, format!("`{name}` is not set"), cause, next);
        }
        InterpolateError::Bound(why) => {
            report.error("interpolation", at, "a value is too large", why, "make it simpler");
        }
    }
    report.spoil(at);
}
