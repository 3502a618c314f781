//! Rust source as far as a check of the build must understand it: words, marks and text literals, without comments and without what only
//! tests compile.
//!
//! Never judges: what a word means is for the probe.

/// A piece of source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// An identifier or a keyword, and anything else that is made of letters, digits and underscores.
    Word(String),
    /// A text literal of any kind, as it reads when it runs.
    Text(String),
    /// Any other character.
    Mark(char),
}

impl Piece {
    /// Whether it is this word.
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(text) if text == word)
    }

    /// Whether it is this mark.
    pub(crate) fn marks(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }
}

/// The pieces of a file with the lines on which they begin, without items under `#[cfg(test)]`.
pub(crate) fn pieces(source: &str) -> Vec<(Piece, usize)> {
    let all = read(source);
    let words: [&[&str]; 7] = [&["#"], &["["], &["cfg"], &["("], &["test"], &[")"], &["]"]];
    let begins = |at: usize| {
        words.iter().enumerate().all(|(offset, wanted)| {
            all.get(at + offset).is_some_and(|(piece, _)| match piece {
                Piece::Word(word) => wanted.contains(&word.as_str()),
                Piece::Mark(mark) => wanted.iter().any(|wanted| wanted.starts_with(*mark)),
                Piece::Text(_) => false,
            })
        })
    };
    let mut kept = Vec::with_capacity(all.len());
    let mut at = 0;
    while at < all.len() {
        if begins(at) {
            at = end_of_item(&all, at + words.len());
        } else {
            kept.extend(all.get(at).cloned());
            at += 1;
        }
    }
    kept
}

/// Behind the item that begins here: its semicolon, or the brace that closes its first one.
fn end_of_item(all: &[(Piece, usize)], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, (piece, _)) in all.iter().enumerate().skip(from) {
        match piece {
            Piece::Mark('{' | '(' | '[') => depth += 1,
            Piece::Mark('}') if depth <= 1 => return at + 1,
            Piece::Mark('}' | ')' | ']') => depth = depth.saturating_sub(1),
            Piece::Mark(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    all.len()
}

fn read(source: &str) -> Vec<(Piece, usize)> {
    let mut reader = Reader { rest: source, line: 1 };
    let mut pieces = Vec::new();
    while let Some(first) = reader.rest.chars().next() {
        let line = reader.line;
        if reader.rest.starts_with("//") {
            reader.skip(reader.rest.find('\n').unwrap_or(reader.rest.len()));
        } else if reader.rest.starts_with("/*") {
            reader.skip(comment(reader.rest));
        } else if let Some((text, length)) = literal(reader.rest) {
            reader.skip(length);
            pieces.push((Piece::Text(text), line));
        } else if let Some(length) = character(reader.rest) {
            reader.skip(length);
        } else if is_word(first) {
            let length = reader.rest.find(|letter| !is_word(letter)).unwrap_or(reader.rest.len());
            let word = reader.rest.get(..length).unwrap_or_default().to_owned();
            reader.skip(length);
            pieces.push((Piece::Word(word), line));
        } else {
            reader.skip(first.len_utf8());
            if !first.is_whitespace() {
                pieces.push((Piece::Mark(first), line));
            }
        }
    }
    pieces
}

struct Reader<'s> {
    rest: &'s str,
    line: usize,
}

impl Reader<'_> {
    fn skip(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.line += gone.matches('\n').count();
        self.rest = rest;
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The length of a block comment, which may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let step = if rest.starts_with("/*") {
            depth += 1;
            2
        } else if rest.starts_with("*/") {
            depth -= 1;
            2
        } else {
            rest.chars().next().map_or(1, char::len_utf8)
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

/// A text literal that begins here, as it reads when it runs, and its length in the source.
fn literal(text: &str) -> Option<(String, usize)> {
    let unprefixed = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - unprefixed.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = unprefixed.strip_prefix('r') {
        let quoted = raw.trim_start_matches('#');
        let fence = "#".repeat(raw.len() - quoted.len());
        let body = quoted.strip_prefix('"')?;
        let length = body.find(&format!("\"{fence}"))?;
        let whole = prefix + 1 + 2 * fence.len() + 2 + length;
        return Some((body.get(..length)?.to_owned(), whole));
    }
    let body = unprefixed.strip_prefix('"')?;
    let mut read = String::new();
    let mut letters = body.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((read, prefix + 2 + at)),
            '\\' => match letters.next()?.1 {
                'n' => read.push('\n'),
                't' => read.push('\t'),
                'r' => read.push('\r'),
                // A line that goes on: the blanks at the beginning of the next ones are none of the text.
                '\n' => {
                    let blank = |(_, letter): &(usize, char)| letter.is_whitespace();
                    let mut ahead = letters.clone();
                    while ahead.next().as_ref().is_some_and(blank) {
                        letters.next();
                    }
                }
                other => read.push(other),
            },
            letter => read.push(letter),
        }
    }
    None
}

/// The length of a character literal that begins here; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let mut letters = body.char_indices();
    if letters.next()?.1 == '\\' {
        letters.next()?;
        return Some(body.get(2..)?.find('\'')? + 4);
    }
    let (at, letter) = letters.next()?;
    (letter == '\'').then_some(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_literals_and_tests_are_no_words() {
        let source = r##"
            // sqlx here
            /* and /* here */ sqlx */
            fn a<'x>(b: &'x str) -> char { let c = r#"sqlx "quoted" there"#; let d = "two \
                lines\"\n"; '\'' }
            #[cfg(test)]
            mod tests { fn t() { sqlx::query("x"); } }
            #[cfg(test)]
            mod more;
            fn last() { '"' }
        "##;
        let found = pieces(source);
        assert!(!found.iter().any(|(piece, _)| piece.is("sqlx") || piece.is("more")));
        let texts: Vec<_> = found.iter().filter(|(piece, _)| matches!(piece, Piece::Text(_))).collect();
        assert_eq!(*texts[0], (Piece::Text("sqlx \"quoted\" there".to_owned()), 4));
        assert_eq!(*texts[1], (Piece::Text("two lines\"\n".to_owned()), 4));
        assert_eq!(texts.len(), 2);
        let last = found.iter().find(|(piece, _)| piece.is("last")).unwrap();
        assert_eq!(last.1, 10);
    }
}
