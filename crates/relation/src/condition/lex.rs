//! The tokens of CEL.

use super::ConditionFault;

/// A token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i128),
    Uint(u64),
    Double(f64),
    Text(String),
    Symbol(&'static str),
    End,
}

/// The symbols, those that begin like others after them.
const SYMBOLS: [&str; 25] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}", "=",
];

fn fault(problem: &str, at: usize) -> ConditionFault {
    ConditionFault { problem: problem.to_owned(), at }
}

/// The tokens of an expression with the places at which they begin, the last of them its end.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, ConditionFault> {
    let letters: Vec<char> = text.chars().collect();
    let mut lexer = Lexer { letters: &letters, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space();
        let at = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        tokens.push((token, at));
        if done {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    letters: &'a [char],
    at: usize,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.letters.get(self.at + ahead).copied()
    }

    fn skip_space(&mut self) {
        while let Some(letter) = self.peek(0) {
            if letter == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|letter| letter != '\n') {
                    self.at += 1;
                }
            } else if letter.is_whitespace() {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> String {
        let begin = self.at;
        while self.peek(0).is_some_and(&keep) {
            self.at += 1;
        }
        self.letters.get(begin..self.at).unwrap_or_default().iter().collect()
    }

    fn token(&mut self) -> Result<Token, ConditionFault> {
        let Some(first) = self.peek(0) else { return Ok(Token::End) };
        let second = self.peek(1);
        if matches!(first, 'r' | 'R') && matches!(second, Some('"' | '\'')) {
            self.at += 1;
            return self.quoted(true);
        }
        if first == '"' || first == '\'' {
            return self.quoted(false);
        }
        if first.is_ascii_digit() || (first == '.' && second.is_some_and(|next| next.is_ascii_digit())) {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Token::Name(self.take_while(|letter| letter.is_ascii_alphanumeric() || letter == '_')));
        }
        let ahead: String = [Some(first), second].into_iter().flatten().collect();
        let symbol = SYMBOLS.into_iter().find(|symbol| ahead.starts_with(symbol)).filter(|symbol| *symbol != "=");
        let symbol = symbol.ok_or_else(|| fault("this is no part of an expression", self.at))?;
        self.at += symbol.len();
        Ok(Token::Symbol(symbol))
    }

    fn number(&mut self) -> Result<Token, ConditionFault> {
        let begin = self.at;
        let bad = || fault("this number is too large, or none", begin);
        if self.peek(0) == Some('0') && matches!(self.peek(1), Some('x' | 'X')) {
            self.at += 2;
            let digits = self.take_while(|letter| letter.is_ascii_hexdigit());
            let number = i128::from_str_radix(&digits, 16).map_err(|_| bad())?;
            return self.whole(number).ok_or_else(bad);
        }
        let mut text = self.take_while(|letter| letter.is_ascii_digit());
        let mut whole = true;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|next| next.is_ascii_digit()) {
            self.at += 1;
            whole = false;
            text.push('.');
            text += &self.take_while(|letter| letter.is_ascii_digit());
        }
        let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if matches!(self.peek(0), Some('e' | 'E')) && self.peek(1 + sign).is_some_and(|next| next.is_ascii_digit()) {
            whole = false;
            text.extend(self.letters.get(self.at..=self.at + sign).unwrap_or_default());
            self.at += 1 + sign;
            text += &self.take_while(|letter| letter.is_ascii_digit());
        }
        if whole {
            return text.parse().ok().and_then(|number| self.whole(number)).ok_or_else(bad);
        }
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Token::Double).ok_or_else(bad)
    }

    fn whole(&mut self, number: i128) -> Option<Token> {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return u64::try_from(number).ok().map(Token::Uint);
        }
        // One more than the largest number is let through: its negative is a number.
        (number <= i128::from(i64::MAX) + 1).then_some(Token::Int(number))
    }

    fn quoted(&mut self, raw: bool) -> Result<Token, ConditionFault> {
        let begin = self.at;
        let Some(quote) = self.peek(0) else { return Err(fault("a text is not closed", begin)) };
        let long = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        self.at += if long { 3 } else { 1 };
        let mut text = String::new();
        loop {
            let Some(letter) = self.peek(0) else { return Err(fault("a text is not closed", begin)) };
            let closed = letter == quote && (!long || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote)));
            if closed {
                self.at += if long { 3 } else { 1 };
                return Ok(Token::Text(text));
            }
            self.at += 1;
            match letter {
                '\n' if !long => return Err(fault("a text is not closed", begin)),
                '\\' if !raw => text.push(self.escape()?),
                _ => text.push(letter),
            }
        }
    }

    fn escape(&mut self) -> Result<char, ConditionFault> {
        let bad = |at| fault("this escape is not known", at);
        let at = self.at;
        let letter = self.peek(0).ok_or_else(|| bad(at))?;
        self.at += 1;
        let code = |lexer: &mut Self, length: usize, radix: u32| {
            let digits: String = lexer.letters.get(lexer.at..lexer.at + length)?.iter().collect();
            lexer.at += length;
            u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32)
        };
        match letter {
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            '\\' | '?' | '"' | '\'' | '`' => Some(letter),
            'x' | 'X' => code(self, 2, 16),
            'u' => code(self, 4, 16),
            'U' => code(self, 8, 16),
            '0'..='3' => {
                self.at -= 1;
                code(self, 3, 8)
            }
            _ => None,
        }
        .ok_or_else(|| bad(at))
    }
}
