//! Comma-separated values (RFC 4180): records of fields, the first of which names the columns.
//!
//! As strict as OpenFGA's reader: a quote stands around a whole field or not at all, and every record has as many fields as the first.

/// A record, and the line on which it begins, counted from 1.
pub(crate) type Record = (u64, Vec<String>);

/// What is wrong, and on which line.
pub(crate) type CsvFault = (u64, &'static str);

/// Reads the records. Empty lines are none.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn records(text: &str) -> Result<Vec<Record>, CsvFault> {
    let mut records: Vec<Record> = Vec::new();
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    while !reader.rest.is_empty() {
        if reader.skip_line_end() {
            continue;
        }
        let line = reader.line;
        let fields = reader.record()?;
        if records.first().is_some_and(|(_, first)| first.len() != fields.len()) {
            return Err((line, "the record does not have as many fields as the first one"));
        }
        records.push((line, fields));
    }
    Ok(records)
}

struct Reader<'a> {
    rest: &'a str,
    line: u64,
}

impl Reader<'_> {
    fn skip_line_end(&mut self) -> bool {
        let after = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n'));
        if let Some(rest) = after {
            self.rest = rest;
            self.line += 1;
        }
        after.is_some()
    }

    fn record(&mut self) -> Result<Vec<String>, CsvFault> {
        let mut fields = Vec::new();
        loop {
            fields.push(if self.rest.starts_with('"') { self.quoted()? } else { self.bare()? });
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None if self.rest.is_empty() || self.skip_line_end() => return Ok(fields),
                None => return Err((self.line, "something stands behind a quoted field")),
            }
        }
    }

    fn bare(&mut self) -> Result<String, CsvFault> {
        let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
        let (field, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        // The carriage return is the line end's, which is skipped as one.
        let (field, rest) = match field.strip_suffix('\r') {
            Some(before) if rest.starts_with('\n') => (before, self.rest.get(end - 1..).unwrap_or_default()),
            _ => (field, rest),
        };
        if field.contains('"') {
            return Err((self.line, "a quote stands within a field that is not quoted"));
        }
        let field = field.to_owned();
        self.rest = rest;
        Ok(field)
    }

    fn quoted(&mut self) -> Result<String, CsvFault> {
        let mut field = String::new();
        let mut letters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' if letters.peek().is_some_and(|(_, next)| *next == '"') => {
                    letters.next();
                    field.push('"');
                }
                '"' => {
                    self.line += field.matches('\n').count() as u64;
                    self.rest = self.rest.get(at + 1..).unwrap_or_default();
                    return Ok(field);
                }
                _ => field.push(letter),
            }
        }
        Err((self.line, "a quoted field does not end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_as_the_rfc_has_them() {
        let text = "a,b\r\n1,\"x, \"\"y\"\"\nz\"\n\n\"\",\n";
        let records = records(text).unwrap();
        let expected = [(1, vec!["a", "b"]), (2, vec!["1", "x, \"y\"\nz"]), (5, vec!["", ""])];
        assert_eq!(records, expected.map(|(line, fields)| (line, fields.into_iter().map(str::to_owned).collect())));
    }

    #[test]
    fn what_is_none() {
        for (text, line) in [("a,b\n1\n", 2), ("a\nb\"c\n", 2), ("a\n\"b\n", 2), ("\"a\"b\n", 1), ("a,b\n\n1,2,3", 3)] {
            assert_eq!(records(text).unwrap_err().0, line, "{text:?}");
        }
        assert_eq!(records("").unwrap(), []);
    }
}
