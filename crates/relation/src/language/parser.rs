//! From tokens to a tree, and on past mistakes as far as the next place where reading on makes sense.
//!
//! What is done at a mistake is ANTLR's default strategy, because the messages that it leads to are those that users of OpenFGA
//! know: leave out one token if the next one fits, imagine one if it alone is missing, else give up the rule and skip to a token
//! that can follow one of the rules that are open. No mistake is reported before the one at hand has been left behind.

use super::{
    grammar::{AUTOMATON, Edge, Rule, StateKind},
    predict::{Made, NoWay, choose},
    token::{Kind, Kinds, Token, one_line},
};
use crate::model::{Fault, FaultKind, Place, tally};

/// How many rules may be open at once, and how many mistakes are reported.
const DEPTH: usize = 500;
const FAULTS: usize = 100;

/// A rule as it was found in the text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) rule: Rule,
    pub(super) parts: Vec<Branch>,
}

/// A part of a rule.
#[derive(Debug)]
pub(super) enum Branch {
    Token(Token),
    Node(Node),
}

impl Node {
    /// The rules in it, of one kind.
    pub(super) fn nodes(&self, rule: Rule) -> impl Iterator<Item = &Node> {
        self.parts.iter().filter_map(move |part| match part {
            Branch::Node(node) if node.rule == rule => Some(node),
            _ => None,
        })
    }

    /// The first rule in it of that kind.
    pub(super) fn node(&self, rule: Rule) -> Option<&Node> {
        self.nodes(rule).next()
    }

    /// All its tokens, those of its parts too.
    pub(super) fn tokens(&self) -> Vec<&Token> {
        let mut tokens = Vec::new();
        let mut open: Vec<&Branch> = self.parts.iter().rev().collect();
        while let Some(part) = open.pop() {
            match part {
                Branch::Token(token) => tokens.push(token),
                Branch::Node(node) => open.extend(node.parts.iter().rev()),
            }
        }
        tokens
    }

    /// Its own token of that kind.
    pub(super) fn token(&self, kind: Kind) -> Option<&Token> {
        self.parts.iter().find_map(|part| match part {
            Branch::Token(token) if token.kind == kind => Some(token),
            _ => None,
        })
    }

    /// Its text, as it is written.
    pub(super) fn text(&self) -> String {
        self.tokens().iter().map(|token| token.text.as_str()).collect()
    }
}

/// A rule that is open: where to go on after it, and what was found of it.
struct Open {
    rule: Rule,
    follow: usize,
    parts: Vec<Branch>,
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    open: Vec<Open>,
    faults: Vec<Fault>,
    /// Whether a mistake has been reported and no token has fitted since.
    recovering: bool,
    /// The place and the states of the last mistake, so that no mistake is made twice at one place without a token being skipped.
    last: Option<(usize, Vec<usize>)>,
    made: Made,
}

/// A rule cannot be gone on with.
enum Mistake {
    Mismatch(Kinds),
    NoWay { from: usize, at: usize },
    TooDeep,
}

/// Reads tokens as the grammar says. The tree is whole if there are no faults.
pub(super) fn parse(tokens: &[Token]) -> (Node, Vec<Fault>) {
    let mut parser = Parser {
        tokens,
        at: 0,
        open: Vec::new(),
        faults: Vec::new(),
        recovering: false,
        last: None,
        made: Made::default(),
    };
    let tree = parser.run();
    (tree, parser.faults)
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> Node {
        self.open.push(Open { rule: Rule::Main, follow: usize::MAX, parts: Vec::new() });
        let mut at = AUTOMATON.start(Rule::Main);
        loop {
            tally::step(1);
            if AUTOMATON.state(at).kind == StateKind::Stop {
                let Some(done) = self.open.pop() else { return Node { rule: Rule::Main, parts: Vec::new() } };
                let node = Node { rule: done.rule, parts: done.parts };
                let Some(outer) = self.open.last_mut() else { return node };
                outer.parts.push(Branch::Node(node));
                at = done.follow;
                continue;
            }
            at = match self.step(at) {
                Ok(next) => next,
                Err(mistake) => {
                    self.report(at, &mistake);
                    self.recover(at);
                    AUTOMATON.stop(self.open.last().map_or(Rule::Main, |open| open.rule))
                }
            };
        }
    }

    /// Goes on from a state: to where.
    fn step(&mut self, at: usize) -> Result<usize, Mistake> {
        let state = AUTOMATON.state(at);
        let edge = if state.kind == StateKind::Plain { 0 } else { self.decide(at)? };
        match state.edges.get(edge) {
            Some(Edge::Free(to)) => Ok(*to),
            Some(Edge::Match(kinds, to)) => self.take(at, *kinds, *to),
            Some(Edge::Call(rule, follow)) => {
                if self.open.len() >= DEPTH {
                    return Err(Mistake::TooDeep);
                }
                self.open.push(Open { rule: *rule, follow: *follow, parts: Vec::new() });
                Ok(AUTOMATON.start(*rule))
            }
            None => Ok(AUTOMATON.stop(state.rule)),
        }
    }

    fn decide(&mut self, at: usize) -> Result<usize, Mistake> {
        self.synchronise(at)?;
        let state = AUTOMATON.state(at);
        if state.edges.len() < 2 {
            return Ok(0);
        }
        if let Some(first) = &state.first {
            let next = self.kind(0);
            return match first.iter().position(|kinds| kinds.has(next)) {
                Some(edge) => Ok(edge),
                // What may be left out is left out; of a choice, something must be there.
                None if state.kind != StateKind::Choice => Ok(state.edges.len() - 1),
                None => Err(Mistake::NoWay { from: self.at, at: self.at }),
            };
        }
        let Self { made, open, tokens, at: here, .. } = self;
        let callers = || open.iter().skip(1).map(|open| open.follow).collect();
        choose(made, at, tokens, *here, callers).map_err(|NoWay { at }| Mistake::NoWay { from: *here, at })
    }

    /// Before a choice: tokens that cannot be meant here are left out while there is a way to go on.
    fn synchronise(&mut self, at: usize) -> Result<(), Mistake> {
        if self.recovering {
            return Ok(());
        }
        let (expected, ends) = AUTOMATON.state(at).next;
        if ends || expected.has(self.kind(0)) {
            return Ok(());
        }
        if AUTOMATON.state(at).kind == StateKind::LoopBack {
            self.report_extraneous(at);
            let until = self.expected(at).or(self.recovery_set());
            self.skip_until(until);
            return Ok(());
        }
        if self.leave_out(at) { Ok(()) } else { Err(Mistake::Mismatch(self.expected(at))) }
    }

    /// Takes the next token if it is one of these; if not, leaves one out or imagines one.
    fn take(&mut self, at: usize, kinds: Kinds, to: usize) -> Result<usize, Mistake> {
        if !kinds.has(self.kind(0)) {
            if self.leave_out(at) {
                // The next one fits.
            } else if self.expected(to).has(self.kind(0)) {
                self.report_missing(kinds);
                return Ok(to);
            } else {
                return Err(Mistake::Mismatch(self.expected(at)));
            }
        }
        self.recovering = false;
        self.last = None;
        let token = self.token(0).clone();
        if let Some(open) = self.open.last_mut() {
            open.parts.push(Branch::Token(token));
        }
        self.advance();
        Ok(to)
    }

    /// Leaves the next token out if the one after it fits.
    fn leave_out(&mut self, at: usize) -> bool {
        if !self.expected(at).has(self.kind(1)) {
            return false;
        }
        self.report_extraneous(at);
        self.advance();
        self.recovering = false;
        true
    }

    /// What can come next, by the rules that are really open.
    fn expected(&self, at: usize) -> Kinds {
        let (mut kinds, mut ends) = AUTOMATON.state(at).next;
        for open in self.open.iter().rev() {
            tally::step(1);
            if !ends {
                return kinds;
            }
            if open.follow == usize::MAX {
                break;
            }
            let (more, on) = AUTOMATON.state(open.follow).next;
            (kinds, ends) = (kinds.or(more), on);
        }
        if ends { kinds.or(Kinds::of(Kind::End)) } else { kinds }
    }

    /// Whatever can follow one of the open rules.
    fn recovery_set(&self) -> Kinds {
        tally::step(self.open.len());
        self.open
            .iter()
            .filter(|open| open.follow != usize::MAX)
            .fold(Kinds::NONE, |all, open| all.or(AUTOMATON.state(open.follow).next.0))
    }

    fn recover(&mut self, at: usize) {
        let again = self.last.as_ref().is_some_and(|(place, states)| *place == self.at && states.contains(&at));
        if again {
            self.advance();
        }
        match &mut self.last {
            Some((place, states)) if *place == self.at => states.push(at),
            last => *last = Some((self.at, vec![at])),
        }
        let until = self.recovery_set();
        self.skip_until(until);
    }

    fn skip_until(&mut self, until: Kinds) {
        while self.kind(0) != Kind::End && !until.has(self.kind(0)) {
            self.advance();
        }
    }

    fn token(&self, ahead: usize) -> &'a Token {
        static NOTHING: Token = Token { kind: Kind::End, text: String::new(), line: 0, column: 0 };
        self.tokens.get(self.at + ahead).or(self.tokens.last()).unwrap_or(&NOTHING)
    }

    fn kind(&self, ahead: usize) -> Kind {
        self.token(ahead).kind
    }

    fn advance(&mut self) {
        tally::step(1);
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
    }

    fn report(&mut self, at: usize, mistake: &Mistake) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        let here = self.token(0);
        match mistake {
            Mistake::Mismatch(expected) => {
                self.fault(here, format!("mismatched input {} expecting {expected}", here.display()));
            }
            Mistake::NoWay { from, at } => {
                let last = self.tokens.get(*at).or(self.tokens.last()).unwrap_or(here);
                let text: String =
                    self.tokens.iter().take(at + 1).skip(*from).map(|token| token.text.as_str()).collect();
                self.fault(last, format!("no viable alternative at input '{}'", one_line(&text)));
            }
            Mistake::TooDeep => {
                let rule = AUTOMATON.state(at).rule;
                self.fault(here, format!("more than {DEPTH} rules inside each other, the last of them {rule:?}"));
            }
        }
    }

    fn report_extraneous(&mut self, at: usize) {
        if !self.recovering {
            self.recovering = true;
            let (token, expected) = (self.token(0), self.expected(at));
            self.fault(token, format!("extraneous input {} expecting {expected}", token.display()));
        }
    }

    fn report_missing(&mut self, kinds: Kinds) {
        if !self.recovering {
            self.recovering = true;
            let token = self.token(0);
            self.fault(token, format!("missing {kinds} at {}", token.display()));
        }
    }

    fn fault(&mut self, token: &Token, message: String) {
        if self.faults.len() < FAULTS {
            let place = Some(Place::within(token.line, token.column, token.length()));
            self.faults.push(Fault { message, kind: FaultKind::Syntax, place });
        }
    }
}
