//! Which way on, where the grammar has several: the tokens ahead are followed along all of them until one is left.
//!
//! At first as if the rule could have been called from anywhere, as ANTLR does it: where a text is wrong, that decides how far the
//! message's text reaches. Where that leaves two ways that have become the same, the real callers decide, and the first way
//! where not even they can.

use std::collections::{HashMap, HashSet};

use super::{
    grammar::{AUTOMATON, Edge, StateKind},
    token::{Kind, Token},
};
use crate::model::tally;

/// How far ahead tokens are looked at before a choice that is worth remembering is made: almost all are.
const AHEAD: usize = 3;

/// Choices that were made, by where and by the tokens ahead: the same tokens lead to the same choice, whoever called.
#[derive(Debug, Default)]
pub(super) struct Made(HashMap<(usize, [Kind; AHEAD]), usize>);

/// One way that is still open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    /// The edge that it began with.
    edge: usize,
    state: usize,
    /// The states to go on at when rules end, the innermost last.
    calls: Vec<usize>,
    /// Whether it has left the rule in which the choice stands.
    left: bool,
}

/// No way is open: the place of the token at which the last one ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoWay {
    pub(super) at: usize,
}

/// The edge to take at `state`, `tokens[at]` being next. `callers` are the states to go on at, the innermost last.
pub(super) fn choose(
    made: &mut Made,
    state: usize,
    tokens: &[Token],
    at: usize,
    callers: impl FnOnce() -> Vec<usize>,
) -> Result<usize, NoWay> {
    let ahead: [Kind; AHEAD] =
        std::array::from_fn(|ahead| tokens.get(at + ahead).map_or(Kind::End, |token| token.kind));
    if let Some(edge) = made.0.get(&(state, ahead)) {
        return Ok(*edge);
    }
    let (outcome, looked) = follow(state, tokens, at, None)?;
    match outcome {
        Outcome::Sure(edge) => {
            if looked <= AHEAD {
                made.0.insert((state, ahead), edge);
            }
            Ok(edge)
        }
        Outcome::Tied(first) => match follow(state, tokens, at, Some(&callers()))?.0 {
            Outcome::Sure(edge) => Ok(edge),
            Outcome::Tied(edge) => Ok(edge.min(first)),
        },
    }
}

/// What the tokens ahead say.
enum Outcome {
    Sure(usize),
    Tied(usize),
}

/// Follows all ways at once; tells the outcome, and how many tokens it took.
fn follow(state: usize, tokens: &[Token], at: usize, callers: Option<&[usize]>) -> Result<(Outcome, usize), NoWay> {
    let begin = AUTOMATON.state(state).edges.iter().enumerate().filter_map(|(edge, to)| match to {
        Edge::Free(to) => {
            Some(Way { edge, state: *to, calls: callers.map(<[usize]>::to_vec).unwrap_or_default(), left: false })
        }
        _ => None,
    });
    let depth = callers.map_or(0, <[usize]>::len);
    let mut ways = spread(begin, depth, callers.is_some());
    let mut next = at;
    loop {
        let looked = next + 1 - at;
        let Some(token) = tokens.get(next).or(tokens.last()) else { return Err(NoWay { at: next }) };
        let stepped = ways.iter().flat_map(|way| {
            AUTOMATON.state(way.state).edges.iter().filter_map(move |edge| match edge {
                Edge::Match(kinds, to) if kinds.has(token.kind) => Some(Way { state: *to, ..way.clone() }),
                _ => None,
            })
        });
        let reached = spread(stepped, depth, callers.is_some());
        if reached.is_empty() {
            // A way that had come to the end of its rule is taken all the same: the mistake belongs to a rule further out.
            let ended = |way: &&Way| way.left || AUTOMATON.state(way.state).kind == StateKind::Stop;
            let ended = ways.iter().filter(ended).map(|way| way.edge).min();
            return ended.map(|edge| (Outcome::Sure(edge), looked)).ok_or(NoWay { at: next });
        }
        if let Some(first) = settled(&reached) {
            return Ok((first, looked));
        }
        if next >= tokens.len() {
            return Ok((Outcome::Tied(reached.iter().map(|way| way.edge).min().unwrap_or(0)), looked));
        }
        ways = reached;
        next += 1;
    }
}

/// Whether all ways began with one edge, or have become the same whatever they began with.
fn settled(ways: &[Way]) -> Option<Outcome> {
    let first = ways.iter().map(|way| way.edge).min()?;
    if ways.iter().all(|way| way.edge == first) {
        return Some(Outcome::Sure(first));
    }
    let places: HashSet<(usize, &[usize])> = ways.iter().map(|way| (way.state, way.calls.as_slice())).collect();
    let edges: HashSet<usize> = ways.iter().map(|way| way.edge).collect();
    (ways.len() == places.len() * edges.len()).then_some(Outcome::Tied(first))
}

/// All places that the ways come to without a token.
fn spread(begin: impl Iterator<Item = Way>, depth: usize, known: bool) -> Vec<Way> {
    let mut seen = HashSet::new();
    let mut waits = Vec::new();
    let mut open: Vec<Way> = begin.collect();
    open.reverse();
    while let Some(way) = open.pop() {
        tally::step(1 + way.calls.len());
        if !seen.insert(way.clone()) {
            continue;
        }
        let state = AUTOMATON.state(way.state);
        if state.kind == StateKind::Stop {
            leave(way, depth, known, &mut open, &mut waits);
            continue;
        }
        let mut waiting = false;
        for edge in &state.edges {
            match edge {
                Edge::Free(to) => open.push(Way { state: *to, ..way.clone() }),
                Edge::Match(..) => waiting = true,
                Edge::Call(rule, follow) => {
                    let mut inner = way.clone();
                    inner.calls.push(*follow);
                    inner.state = AUTOMATON.start(*rule);
                    open.push(inner);
                }
            }
        }
        if waiting {
            waits.push(way);
        }
    }
    waits
}

/// Goes on after the end of a rule: at its caller if that is known, else at every place from where it may have been called.
fn leave(mut way: Way, depth: usize, known: bool, open: &mut Vec<Way>, waits: &mut Vec<Way>) {
    let inside = way.calls.len() > depth;
    if let Some(follow) = way.calls.pop() {
        open.push(Way { state: follow, left: way.left || !inside, ..way });
        return;
    }
    let followers = AUTOMATON.followers(AUTOMATON.state(way.state).rule);
    if known || followers.is_empty() {
        waits.push(way);
        return;
    }
    open.extend(followers.iter().map(|follow| Way { state: *follow, left: true, ..way.clone() }));
}
