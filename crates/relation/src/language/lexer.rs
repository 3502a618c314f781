//! From text to tokens.
//!
//! Line breaks and spaces are tokens, for the language is one of lines. Comments are taken out first, with everything else
//! left in its column, so that a fault's place is the place in the text as it was written. This module never refuses a text: what
//! is no token of the language is a token of an unknown kind, which the grammar refuses with its place.

use super::token::{Kind, Token};

/// The text without its comments and without spaces at the ends of lines.
///
/// A line whose first character is `#` is a comment, and so is what follows ` #`. Between the braces of a condition a `#`
/// within a text is part of that text.
pub(super) fn without_comments(text: &str) -> String {
    let mut lines = Vec::new();
    let mut braces = Braces::default();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let kept = if line.trim_start().starts_with('#') { "" } else { line.get(..braces.end(line)).unwrap_or(line) };
        lines.push(kept.trim_end());
    }
    lines.join("\n")
}

/// Whether the text is between the braces of a condition, and within a quoted text there.
#[derive(Default)]
struct Braces {
    depth: usize,
}

impl Braces {
    /// Where the line's comment begins, or its end.
    fn end(&mut self, line: &str) -> usize {
        let mut quote = None;
        let mut before = '\0';
        for (at, letter) in line.char_indices() {
            match quote {
                Some(open) if letter == open && before != '\\' => quote = None,
                Some(_) => {}
                None => match letter {
                    '"' | '\'' if self.depth > 0 => quote = Some(letter),
                    '{' => self.depth += 1,
                    '}' => self.depth = self.depth.saturating_sub(1),
                    '#' if before == ' ' => return at,
                    _ => {}
                },
            }
            before = letter;
        }
        line.len()
    }
}

/// The tokens of a text without comments, the last of them its end.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    Lexer { rest: text, line: 0, column: 0, place: Where::Lines, tokens: Vec::new() }.run()
}

/// Which words mean what depends on where they stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Lines,
    /// Between `condition` and its opening brace: there the names of types are words of the language.
    Parameters,
    /// Between the braces.
    Expression,
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    column: usize,
    place: Where,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(mut self) -> Vec<Token> {
        while let Some(first) = self.rest.chars().next() {
            if self.place == Where::Expression {
                self.expression();
                continue;
            }
            let (kind, length) = match first {
                ' ' | '\t' | '\n' | '\r' => space(self.rest),
                _ if is_word(first) => self.word(),
                _ => (symbol(first), first.len_utf8()),
            };
            match kind {
                Kind::Condition => self.place = Where::Parameters,
                Kind::LeftBrace if self.place == Where::Parameters => self.place = Where::Expression,
                _ => {}
            }
            self.take(kind, length);
        }
        self.tokens.push(Token { kind: Kind::End, text: "<EOF>".to_owned(), line: self.line, column: self.column });
        self.tokens
    }

    /// Makes a token of the next `length` bytes.
    fn take(&mut self, kind: Kind, length: usize) {
        let (text, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.tokens.push(Token { kind, text: text.to_owned(), line: self.line, column: self.column });
        for letter in text.chars() {
            if letter == '\n' {
                self.line += 1;
                self.column = 0;
            } else {
                self.column += 1;
            }
        }
        self.rest = rest;
    }

    fn word(&self) -> (Kind, usize) {
        let length =
            self.rest.find(|letter| !is_word(letter) && !matches!(letter, '-' | '.' | '/')).unwrap_or(self.rest.len());
        let word = self.rest.get(..length).unwrap_or_default();
        if word == "but" {
            let after = self.rest.get(length..).unwrap_or_default();
            let not = after.trim_start_matches([' ', '\t']);
            let gap = after.len() - not.len();
            if gap > 0 && not.starts_with("not") && !not.chars().nth(3).is_some_and(|next| is_word(next) || next == '-')
            {
                return (Kind::ButNot, length + gap + 3);
            }
        }
        if self.place == Where::Parameters {
            return (parameter_word(word), length);
        }
        let kind = match word {
            "and" => Kind::And,
            "or" => Kind::Or,
            "from" => Kind::From,
            "module" => Kind::Module,
            "model" => Kind::Model,
            "schema" => Kind::Schema,
            "extend" => Kind::Extend,
            "type" => Kind::Type,
            "condition" if self.tokens.last().is_none_or(|last| last.kind == Kind::Newline) => Kind::Condition,
            "relations" => Kind::Relations,
            "relation" => Kind::Relation,
            "define" => Kind::Define,
            "with" => Kind::With,
            _ if is_version(word) => Kind::SchemaVersion,
            _ if word.contains(['.', '/']) => Kind::ExtendedIdentifier,
            _ => Kind::Identifier,
        };
        (kind, length)
    }

    /// What stands between the braces, whole: its grammar is another's. Then the closing brace.
    fn expression(&mut self) {
        let (lead, lead_length) = space(self.rest);
        if lead_length > 0 {
            self.take(lead, lead_length);
        }
        let end = closing_brace(self.rest);
        let body = self.rest.get(..end).unwrap_or_default();
        let text = body.trim_end();
        let (text_length, tail_length) = (text.len(), body.len() - text.len());
        // Its first word is a token by itself, because that is what a message about a misplaced expression names.
        let word_length = text
            .find(|letter| !is_word(letter))
            .unwrap_or(text_length)
            .max(text.chars().next().map_or(0, char::len_utf8));
        for (kind, length) in [(Kind::Expression, word_length), (Kind::ExpressionRest, text_length - word_length)] {
            if length > 0 {
                self.take(kind, length);
            }
        }
        if tail_length > 0 {
            let (tail, _) = space(self.rest);
            self.take(tail, tail_length);
        }
        self.place = Where::Lines;
        if self.rest.starts_with('}') {
            self.take(Kind::RightBrace, 1);
        }
    }
}

/// Where the brace stands that closes an expression, which may have braces and texts of its own; or the end of the text.
fn closing_brace(text: &str) -> usize {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, letter) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None => match letter {
                '"' | '\'' => quote = Some(letter),
                '{' => depth += 1,
                '}' if depth == 0 => return at,
                '}' => depth -= 1,
                _ => {}
            },
        }
    }
    text.len()
}

/// The spaces and line breaks at the beginning: one token, and a line break if there is one in it.
fn space(text: &str) -> (Kind, usize) {
    let length = text.find(|letter| !matches!(letter, ' ' | '\t' | '\n' | '\r')).unwrap_or(text.len());
    let kind =
        if text.get(..length).is_some_and(|gap| gap.contains(['\n', '\r'])) { Kind::Newline } else { Kind::Whitespace };
    (kind, length)
}

fn symbol(letter: char) -> Kind {
    match letter {
        ':' => Kind::Colon,
        ',' => Kind::Comma,
        '<' => Kind::Less,
        '>' => Kind::Greater,
        '[' => Kind::LeftBracket,
        ']' => Kind::RightBracket,
        '(' => Kind::LeftParen,
        ')' => Kind::RightParen,
        '{' => Kind::LeftBrace,
        '}' => Kind::RightBrace,
        '#' => Kind::Hash,
        '*' => Kind::Star,
        _ => Kind::Unknown,
    }
}

fn parameter_word(word: &str) -> Kind {
    match word {
        "any" | "bool" | "string" | "int" | "uint" | "double" | "duration" | "timestamp" | "ipaddress" => {
            Kind::ParameterType
        }
        "map" | "list" => Kind::ParameterContainer,
        _ => Kind::Identifier,
    }
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn is_version(word: &str) -> bool {
    word.split_once('.').is_some_and(|(major, minor)| {
        [major, minor].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    })
}
