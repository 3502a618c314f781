//! The language in which OpenFGA's models are written: read, written, and put together from modules.
//!
//! Owns the text: comments, places, messages. Never decides whether a model makes sense: that is [`crate::model::validate`]'s, which
//! this module hands the places to. A text of a stranger is bounded in length, depth and number of messages.

mod grammar;
mod lexer;
mod mod_file;
mod module;
mod parser;
mod predict;
mod read;
mod token;
mod write;

pub use mod_file::{ModFile, Placed, read_mod_file};
pub use module::{ModuleFile, combine};
pub use write::{Unwritable, WriteOptions, write};

use crate::condition::{Compiled, MOST_OF_PATTERNS};
use crate::model::{Fault, FaultKind, Faults, Model, Place, Places, validate_placed};

/// The longest text that is read, in bytes.
pub const TEXT_BYTES: usize = 256 * 1024;

/// A text that is of the language. Whether its model makes sense has not been asked yet.
#[derive(Debug, Clone)]
pub struct Parsed {
    model: Model,
    places: Places,
    module: Option<String>,
}

impl Parsed {
    /// The model, as it is written.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The module that the text is of, if it is of one.
    pub fn module(&self) -> Option<&str> {
        self.module.as_deref()
    }

    /// Everything that is wrong with the model, with its places. Conditions' expressions are another language's, and not looked into.
    pub fn validate(&self) -> Vec<Fault> {
        validate_placed(&self.model, &self.places)
    }

    /// Everything that is wrong with the expressions of the conditions.
    pub fn validate_conditions(&self) -> Vec<Fault> {
        let (mut faults, mut effort) = (Faults::default(), 0);
        for (name, condition) in &self.model.conditions {
            if effort > MOST_OF_PATTERNS {
                let message = format_args!("the patterns of the model's conditions cost too much");
                faults.tell(FaultKind::TooLarge, None, message);
                break;
            }
            let Err(fault) = Compiled::counted(condition, &mut effort) else { continue };
            let begin = self.places.conditions.get(name).map(|places| &places.expression);
            let place = begin.map(|begin| letter_place(begin, &condition.expression, fault.at));
            let message = format_args!("the condition `{name}`: {}", fault.problem);
            faults.tell(FaultKind::InvalidCondition, place, message);
        }
        faults.into_list()
    }
}

/// Reads a text.
///
/// # Errors
/// Everything that is wrong with it as a text, in order.
pub fn parse(text: &str) -> Result<Parsed, Vec<Fault>> {
    if text.len() > TEXT_BYTES {
        let message = format!("the text is longer than {TEXT_BYTES} bytes");
        return Err(vec![Fault { message, kind: FaultKind::TooLarge, place: Some(Place::default()) }]);
    }
    let (tree, faults) = parser::parse(&lexer::tokens(&lexer::without_comments(text)));
    if faults.is_empty() { read::read(&tree) } else { Err(faults) }
}

/// The place of a letter in an expression that begins at a place.
fn letter_place(begin: &Place, expression: &str, at: usize) -> Place {
    let before: String = expression.chars().take(at).collect();
    let breaks = before.matches('\n').count();
    let column = match before.rsplit_once('\n') {
        Some((_, line)) => line.chars().count(),
        None => begin.column.start + at,
    };
    Place::within(begin.line.start + breaks, column, 1)
}

/// Reads a text and validates the model, the expressions of its conditions too.
///
/// # Errors
/// Everything that is wrong with the text; or, where that is sound, with the model.
pub fn read_model(text: &str) -> Result<Model, Vec<Fault>> {
    let parsed = parse(text)?;
    let mut faults = parsed.validate();
    faults.extend(parsed.validate_conditions());
    if faults.is_empty() { Ok(parsed.model) } else { Err(faults) }
}
