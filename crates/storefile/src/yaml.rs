//! YAML, within bounds.
//!
//! The crate that reads it counts what aliases unfold to; these are its bounds, so that no small file becomes a large one.

use serde::de::DeserializeOwned;
use serde_saphyr::{Location, Options, UserMessageFormatter, options::AliasLimits};

use crate::fault::Fault;

/// Lists and maps inside each other.
const DEPTH: usize = 64;
/// Values of a file, lists and maps counted too. A tuple has seven.
const NODES: usize = 4_000_000;
/// What aliases may add.
const UNFOLDED: usize = 100_000;

fn options() -> Options {
    let aliases = serde_saphyr::alias_limits! { max_total_replayed_events: UNFOLDED, max_replay_stack_depth: 16 };
    let aliases: AliasLimits = aliases;
    serde_saphyr::options! {
        with_snippet: false,
        alias_limits: aliases,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            flow_nesting_limit: DEPTH,
            max_nodes: NODES,
            max_events: NODES * 2,
            max_documents: 2,
            max_aliases: UNFOLDED,
            max_anchors: 10_000,
        },
    }
}

/// Reads a document.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Fault> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let place = error.location().and_then(place);
        let said = error.render_with_formatter(&UserMessageFormatter);
        // The place is said by the fault itself.
        let message = match place {
            Some((line, column)) => said.replace(&format!(" at line {line}, column {column}"), ""),
            None => said,
        };
        Fault::new(file, place, message)
    })
}

/// A location's line and column; none for what stands nowhere.
pub(crate) fn place(location: Location) -> Option<(u64, u64)> {
    (location != Location::UNKNOWN).then(|| (location.line(), location.column()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_unfolds_to_much_is_refused() {
        let laugh =
            |at: usize| format!("a{at}: &a{at} [{}]", vec![format!("*a{}", at.saturating_sub(1)); 10].join(", "));
        let first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned();
        let laughs = [first].into_iter().chain((1..12).map(laugh)).collect::<Vec<_>>().join("\n");
        let deep = "[".repeat(10_000);
        let maps = "{a: ".repeat(10_000);
        let lines = (0..2_000).map(|at| " ".repeat(at)).collect::<Vec<_>>().join("a:\n");
        for text in [laughs, deep, maps, lines] {
            assert!(read::<Value>("bomb", &text).is_err(), "{}", &text[..40]);
        }
        assert!(read::<Value>("small", "a: &a [1]\nb: [*a, *a]\n").is_ok());
    }
}
