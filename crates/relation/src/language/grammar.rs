//! The grammar of the language, as data, and the automaton that is made of it.
//!
//! The rules stand in [`rule`], each in the form in which one would read it. Of them an automaton is built once: its states are
//! the places between tokens, and the parser, its predictions and its messages all ask the automaton alone. That is what makes
//! the messages those of OpenFGA's own tools, whose parser is made by ANTLR in the same way.

use std::sync::LazyLock;

use super::token::{Kind, Kinds};

/// A rule of the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    Main,
    Comment,
    ModelHeader,
    ModuleHeader,
    Types,
    Type,
    Relation,
    Definition,
    PlainDefinition,
    Partials,
    Group,
    PlainGroup,
    Direct,
    Restriction,
    RestrictionBase,
    Rewrite,
    Identifier,
    Conditions,
    Condition,
    ConditionName,
    Parameter,
    ParameterName,
    ParameterKind,
}

impl Rule {
    const ALL: [Self; 23] = [
        Self::Main,
        Self::Comment,
        Self::ModelHeader,
        Self::ModuleHeader,
        Self::Types,
        Self::Type,
        Self::Relation,
        Self::Definition,
        Self::PlainDefinition,
        Self::Partials,
        Self::Group,
        Self::PlainGroup,
        Self::Direct,
        Self::Restriction,
        Self::RestrictionBase,
        Self::Rewrite,
        Self::Identifier,
        Self::Conditions,
        Self::Condition,
        Self::ConditionName,
        Self::Parameter,
        Self::ParameterName,
        Self::ParameterKind,
    ];
}

/// What a rule is made of.
enum Part {
    One(Kinds),
    Call(Rule),
    Row(Vec<Part>),
    Maybe(Box<Part>),
    Many(Box<Part>),
    Some(Box<Part>),
    Either(Vec<Part>),
}

use Part::{Call, Either};

fn one(kind: Kind) -> Part {
    Part::One(Kinds::of(kind))
}

fn row(parts: impl IntoIterator<Item = Part>) -> Part {
    Part::Row(parts.into_iter().collect())
}

fn maybe(parts: impl IntoIterator<Item = Part>) -> Part {
    Part::Maybe(Box::new(row(parts)))
}

fn many(parts: impl IntoIterator<Item = Part>) -> Part {
    Part::Many(Box::new(row(parts)))
}

fn some(parts: impl IntoIterator<Item = Part>) -> Part {
    Part::Some(Box::new(row(parts)))
}

fn space() -> Part {
    maybe([one(Kind::Whitespace)])
}

fn line_break() -> Part {
    maybe([one(Kind::Newline)])
}

fn comment_above() -> Part {
    maybe([one(Kind::Newline), Call(Rule::Comment)])
}

/// What an operator and its operand look like: ` or operand`.
fn operand(operator: Kind) -> Part {
    row([
        one(Kind::Whitespace),
        one(operator),
        one(Kind::Whitespace),
        Either(vec![Call(Rule::Rewrite), Call(Rule::PlainGroup)]),
    ])
}

/// A definition between parentheses.
fn group(inner: Rule) -> Part {
    let gap = || many([one(Kind::Whitespace)]);
    row([one(Kind::LeftParen), gap(), Call(inner), gap(), one(Kind::RightParen)])
}

/// The rules. `#` begins a comment; those that the lexer has taken out never come here.
fn rule(rule: Rule) -> Part {
    use Kind as K;
    match rule {
        Rule::Main => row([
            space(),
            line_break(),
            maybe([Call(Rule::Comment), one(K::Newline)]),
            Either(vec![Call(Rule::ModelHeader), Call(Rule::ModuleHeader)]),
            line_break(),
            Call(Rule::Types),
            line_break(),
            Call(Rule::Conditions),
            line_break(),
            one(K::End),
        ]),
        Rule::Comment => row([one(K::Hash), many([Part::One(Kinds::all_but(&[K::Newline]))])]),
        Rule::ModelHeader => {
            row([one(K::Model), one(K::Newline), one(K::Schema), one(K::Whitespace), one(K::SchemaVersion), space()])
        }
        Rule::ModuleHeader => row([one(K::Module), one(K::Whitespace), Call(Rule::Identifier), space()]),
        Rule::Types => many([Call(Rule::Type)]),
        Rule::Type => row([
            comment_above(),
            one(K::Newline),
            maybe([one(K::Extend), one(K::Whitespace)]),
            one(K::Type),
            one(K::Whitespace),
            Call(Rule::Identifier),
            maybe([one(K::Newline), one(K::Relations), some([Call(Rule::Relation)])]),
        ]),
        Rule::Relation => row([
            comment_above(),
            one(K::Newline),
            one(K::Define),
            one(K::Whitespace),
            Call(Rule::Identifier),
            space(),
            one(K::Colon),
            space(),
            Call(Rule::Definition),
        ]),
        Rule::Conditions => many([Call(Rule::Condition)]),
        _ => definition_rule(rule),
    }
}

/// What stands behind a relation's colon.
fn definition_rule(rule: Rule) -> Part {
    use Kind as K;
    match rule {
        Rule::Definition => row([
            Either(vec![Call(Rule::Direct), Call(Rule::Rewrite), Call(Rule::Group)]),
            maybe([Call(Rule::Partials)]),
        ]),
        Rule::PlainDefinition => {
            row([Either(vec![Call(Rule::Rewrite), Call(Rule::PlainGroup)]), maybe([Call(Rule::Partials)])])
        }
        Rule::Partials => Either(vec![some([operand(K::Or)]), some([operand(K::And)]), operand(K::ButNot)]),
        Rule::Group => group(Rule::Definition),
        Rule::PlainGroup => group(Rule::PlainDefinition),
        Rule::Direct => row([
            one(K::LeftBracket),
            space(),
            Call(Rule::Restriction),
            space(),
            many([one(K::Comma), space(), Call(Rule::Restriction), space()]),
            one(K::RightBracket),
        ]),
        Rule::Restriction => row([
            line_break(),
            Call(Rule::RestrictionBase),
            maybe([one(K::Whitespace), one(K::With), one(K::Whitespace), Call(Rule::ConditionName)]),
            line_break(),
        ]),
        Rule::RestrictionBase => row([
            Call(Rule::Identifier),
            maybe([Either(vec![row([one(K::Colon), one(K::Star)]), row([one(K::Hash), Call(Rule::Identifier)])])]),
        ]),
        Rule::Rewrite => row([
            Call(Rule::Identifier),
            maybe([one(K::Whitespace), one(K::From), one(K::Whitespace), Call(Rule::Identifier)]),
        ]),
        Rule::Identifier => Part::One(Kinds::any_of(&[
            K::Identifier,
            K::Module,
            K::Model,
            K::Schema,
            K::Extend,
            K::Type,
            K::Relation,
            K::ExtendedIdentifier,
        ])),
        _ => condition_rule(rule),
    }
}

fn condition_rule(rule: Rule) -> Part {
    use Kind as K;
    match rule {
        Rule::Condition => row([
            comment_above(),
            one(K::Newline),
            one(K::Condition),
            one(K::Whitespace),
            Call(Rule::ConditionName),
            space(),
            one(K::LeftParen),
            space(),
            Call(Rule::Parameter),
            space(),
            many([one(K::Comma), space(), Call(Rule::Parameter), space()]),
            line_break(),
            one(K::RightParen),
            space(),
            one(K::LeftBrace),
            line_break(),
            space(),
            one(K::Expression),
            maybe([one(K::ExpressionRest)]),
            line_break(),
            space(),
            one(K::RightBrace),
        ]),
        Rule::Parameter => {
            row([line_break(), Call(Rule::ParameterName), space(), one(K::Colon), space(), Call(Rule::ParameterKind)])
        }
        Rule::ParameterKind => Either(vec![
            one(K::ParameterType),
            row([one(K::ParameterContainer), one(K::Less), one(K::ParameterType), one(K::Greater)]),
        ]),
        _ => one(K::Identifier),
    }
}

/// What a state is, as far as a mistake at it is treated differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateKind {
    Plain,
    /// Before a choice.
    Choice,
    /// Before something that may be left out.
    Option,
    /// Before the first round of a loop that may have none.
    LoopEntry,
    /// After a round.
    LoopBack,
    /// The end of a rule.
    Stop,
}

/// A way from one state to another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edge {
    Free(usize),
    Match(Kinds, usize),
    /// Into a rule; then on to that state.
    Call(Rule, usize),
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) kind: StateKind,
    pub(super) rule: Rule,
    pub(super) edges: Vec<Edge>,
    /// Whether one token is always enough to choose among the edges, and for each edge which tokens choose it.
    pub(super) first: Option<Vec<Kinds>>,
    /// The tokens that can come next within the rule, and whether the rule can end without any.
    pub(super) next: (Kinds, bool),
}

/// The automaton.
#[derive(Debug)]
pub(super) struct Automaton {
    pub(super) states: Vec<State>,
    /// Where each rule begins, and its end.
    rules: Vec<(usize, usize)>,
    /// Where it may go on after each rule, by every call of it.
    pub(super) followers: Vec<Vec<usize>>,
}

pub(super) static AUTOMATON: LazyLock<Automaton> = LazyLock::new(Automaton::build);

static NOWHERE: State =
    State { kind: StateKind::Stop, rule: Rule::Main, edges: Vec::new(), first: None, next: (Kinds::NONE, true) };

impl Automaton {
    fn build() -> Self {
        let mut automaton = Self {
            states: Vec::new(),
            rules: vec![(0, 0); Rule::ALL.len()],
            followers: vec![Vec::new(); Rule::ALL.len()],
        };
        for of in Rule::ALL {
            let start = automaton.add(StateKind::Plain, of);
            let stop = automaton.add(StateKind::Stop, of);
            if let Some(ends) = automaton.rules.get_mut(of as usize) {
                *ends = (start, stop);
            }
            let end = automaton.lay(of, &rule(of), start);
            automaton.link(end, Edge::Free(stop));
        }
        let calls: Vec<(Rule, usize)> = automaton
            .states
            .iter()
            .flat_map(|state| &state.edges)
            .filter_map(|edge| if let Edge::Call(rule, follow) = edge { Some((*rule, *follow)) } else { None })
            .collect();
        for (rule, follow) in calls {
            if let Some(followers) = automaton.followers.get_mut(rule as usize) {
                followers.push(follow);
            }
        }
        for at in 0..automaton.states.len() {
            let (first, next) = (automaton.first_of_edges(at), automaton.next_within(at));
            if let Some(state) = automaton.states.get_mut(at) {
                (state.first, state.next) = (first, next);
            }
        }
        automaton
    }

    pub(super) fn state(&self, at: usize) -> &State {
        self.states.get(at).unwrap_or(&NOWHERE)
    }

    pub(super) fn start(&self, rule: Rule) -> usize {
        self.rules.get(rule as usize).map_or(0, |ends| ends.0)
    }

    pub(super) fn stop(&self, rule: Rule) -> usize {
        self.rules.get(rule as usize).map_or(0, |ends| ends.1)
    }

    pub(super) fn followers(&self, rule: Rule) -> &[usize] {
        self.followers.get(rule as usize).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, kind: StateKind, rule: Rule) -> usize {
        self.states.push(State { kind, rule, edges: Vec::new(), first: None, next: (Kinds::NONE, false) });
        self.states.len() - 1
    }

    fn link(&mut self, from: usize, edge: Edge) {
        if let Some(state) = self.states.get_mut(from) {
            state.edges.push(edge);
        }
    }

    /// Lays a part behind a state and tells the state at its end.
    fn lay(&mut self, rule: Rule, part: &Part, from: usize) -> usize {
        match part {
            Part::One(kinds) => {
                let end = self.add(StateKind::Plain, rule);
                self.link(from, Edge::Match(*kinds, end));
                end
            }
            Part::Call(called) => {
                let end = self.add(StateKind::Plain, rule);
                self.link(from, Edge::Call(*called, end));
                end
            }
            Part::Row(parts) => parts.iter().fold(from, |at, part| self.lay(rule, part, at)),
            Part::Maybe(inner) => {
                let choice = self.choice(rule, from, StateKind::Option);
                let end = self.branch(rule, inner, choice);
                self.link(choice, Edge::Free(end));
                end
            }
            Part::Either(parts) => {
                let choice = self.choice(rule, from, StateKind::Choice);
                let end = self.add(StateKind::Plain, rule);
                for part in parts {
                    let begin = self.add(StateKind::Plain, rule);
                    self.link(choice, Edge::Free(begin));
                    let done = self.lay(rule, part, begin);
                    self.link(done, Edge::Free(end));
                }
                end
            }
            Part::Many(inner) => {
                let entry = self.choice(rule, from, StateKind::LoopEntry);
                self.rounds(rule, inner, entry, entry)
            }
            Part::Some(inner) => {
                let begin = self.choice(rule, from, StateKind::Choice);
                self.rounds(rule, inner, begin, usize::MAX)
            }
        }
    }

    /// A loop: `entry` leads into a round; after it, back into another or on. Where `entry` itself may be left at once it is `leave`.
    fn rounds(&mut self, rule: Rule, inner: &Part, entry: usize, leave: usize) -> usize {
        let begin = self.add(StateKind::Plain, rule);
        self.link(entry, Edge::Free(begin));
        let done = self.lay(rule, inner, begin);
        let back = self.choice(rule, done, StateKind::LoopBack);
        let end = self.add(StateKind::Plain, rule);
        self.link(back, Edge::Free(begin));
        self.link(back, Edge::Free(end));
        if leave == entry {
            self.link(entry, Edge::Free(end));
        }
        end
    }

    fn choice(&mut self, rule: Rule, from: usize, kind: StateKind) -> usize {
        let choice = self.add(kind, rule);
        self.link(from, Edge::Free(choice));
        choice
    }

    fn branch(&mut self, rule: Rule, part: &Part, choice: usize) -> usize {
        let begin = self.add(StateKind::Plain, rule);
        self.link(choice, Edge::Free(begin));
        let done = self.lay(rule, part, begin);
        let end = self.add(StateKind::Plain, rule);
        self.link(done, Edge::Free(end));
        end
    }

    fn next_within(&self, from: usize) -> (Kinds, bool) {
        let (mut kinds, mut ends) = (Kinds::NONE, false);
        let mut seen = vec![false; self.states.len()];
        // A call is entered with the state after it, where the rule that is called may have nothing.
        let mut open = vec![(from, Vec::<usize>::new())];
        while let Some((at, mut calls)) = open.pop() {
            let state = self.state(at);
            if state.kind == StateKind::Stop {
                match calls.pop() {
                    Some(follow) => open.push((follow, calls)),
                    None => ends = true,
                }
                continue;
            }
            if seen.get(at).copied().unwrap_or(true) {
                continue;
            }
            if let Some(seen) = seen.get_mut(at) {
                *seen = true;
            }
            for edge in &state.edges {
                match edge {
                    Edge::Free(to) => open.push((*to, calls.clone())),
                    Edge::Match(some, _) => kinds = kinds.or(*some),
                    Edge::Call(rule, follow) => {
                        let mut calls = calls.clone();
                        calls.push(*follow);
                        open.push((self.start(*rule), calls));
                    }
                }
            }
        }
        (kinds, ends)
    }

    /// For a state with several edges: which tokens choose each, whoever called; none where one token is not enough.
    fn first_of_edges(&self, at: usize) -> Option<Vec<Kinds>> {
        let edges = &self.state(at).edges;
        if edges.len() < 2 {
            return None;
        }
        let mut all = Vec::new();
        let mut taken = Kinds::NONE;
        for edge in edges {
            let Edge::Free(to) = edge else { return None };
            let kinds = self.next_anywhere(*to);
            if taken.meets(kinds) {
                return None;
            }
            taken = taken.or(kinds);
            all.push(kinds);
        }
        Some(all)
    }

    /// The tokens that can come next, whoever called the rule.
    fn next_anywhere(&self, from: usize) -> Kinds {
        let mut kinds = Kinds::NONE;
        let mut seen = vec![false; self.states.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            if seen.get(at).copied().unwrap_or(true) {
                continue;
            }
            if let Some(seen) = seen.get_mut(at) {
                *seen = true;
            }
            let state = self.state(at);
            let (inner, ends) = self.next_within(at);
            kinds = kinds.or(inner);
            if ends {
                open.extend(self.followers(state.rule));
            }
        }
        kinds
    }
}
