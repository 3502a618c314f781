//! A copy of the database, as somebody takes it away who got at its disk, a backup or its owner's login: every value of every table, and
//! what was written to the log that comes before the tables.
//!
//! Reads what there is by the catalogue, so that a table which is added is in the copy without a word here.

use crate::{database::Session, evidence::Failure};

/// One value of one row.
pub struct Cell {
    /// Its table and column: `credentials.sealed`.
    pub place: String,
    /// Its row, by where it lies (`ctid`).
    pub row: String,
    /// The value: bytes as they are stored, everything else as its text.
    pub bytes: Vec<u8>,
}

const COLUMNS: &str = "select format('%s.%s', relname, attname), \
    format('select ctid::text, %s from %I.%I where %I is not null', \
      case when atttypid = 'bytea'::regtype then quote_ident(attname) \
        else format('convert_to(%I::text, ''UTF8'')', attname) end, nspname, relname, attname) \
    from pg_attribute join pg_class on pg_class.oid = attrelid join pg_namespace on pg_namespace.oid = relnamespace \
    where relkind in ('r', 'm') and attnum > 0 and not attisdropped \
      and nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by 1";

/// Every value of every table that no system made.
///
/// # Errors
/// Where the login may not read them.
pub async fn every_cell(owner: &Session) -> Result<Vec<Cell>, Failure> {
    let mut cells = Vec::new();
    for column in owner.client.query(COLUMNS, &[]).await? {
        let (place, statement): (String, String) = (column.try_get(0)?, column.try_get(1)?);
        for row in owner.client.query(&statement, &[]).await? {
            cells.push(Cell { place: place.clone(), row: row.try_get(0)?, bytes: row.try_get(1)? });
        }
    }
    Ok(cells)
}

/// A place in the write-ahead log.
#[derive(Debug, Clone)]
pub struct LogPlace(String);

/// Where the write-ahead log ends now.
///
/// # Errors
/// Where the database does not answer.
pub async fn log_end(owner: &Session) -> Result<LogPlace, Failure> {
    let end = owner.client.query_one("select pg_current_wal_insert_lsn()::text", &[]).await?;
    Ok(LogPlace(end.try_get(0)?))
}

/// One segment's part of the log between two places: its file, where the part begins, and its length.
const SEGMENTS: &str = "with size as (select pg_size_bytes(current_setting('wal_segment_size')) as bytes), \
      span as (select $1::text::pg_lsn - '0/0' as begins, pg_current_wal_flush_lsn() - '0/0' as ends) \
    select pg_walfile_name('0/0'::pg_lsn + greatest(at, begins) + 1), (greatest(at, begins) - at)::bigint, \
      (least(at + bytes, ends) - greatest(at, begins))::bigint \
    from size, span, generate_series(begins - begins % bytes, ends, bytes) at where least(at + bytes, ends) > greatest(at, begins)";
/// A page of the log and what stands at its head (`XLogPageHeaderData`), which would cut a value in two that crosses it.
const PAGE: usize = 8192;
const PAGE_HEAD: usize = 24;

/// What was written to the log since a place, by the superuser's own means. Page heads are left out.
///
/// # Errors
/// Where the login is no superuser's.
pub async fn log_since(owner: &Session, place: &LogPlace) -> Result<Vec<u8>, Failure> {
    let mut written = Vec::new();
    for segment in owner.client.query(SEGMENTS, &[&place.0]).await? {
        let (file, from, length): (String, i64, i64) = (segment.try_get(0)?, segment.try_get(1)?, segment.try_get(2)?);
        let read = "select pg_read_binary_file('pg_wal/' || $1::text, $2::bigint, $3::bigint)";
        let bytes: Vec<u8> = owner.client.query_one(read, &[&file, &from, &length]).await?.try_get(0)?;
        append(&mut written, usize::try_from(from)?, &bytes);
    }
    Ok(written)
}

/// Appends a part of a segment, without the heads of the pages in it.
fn append(written: &mut Vec<u8>, from: usize, bytes: &[u8]) {
    let (mut rest, mut at) = (bytes, from);
    while !rest.is_empty() {
        let in_page = at % PAGE;
        let (page, behind) = rest.split_at_checked(PAGE - in_page).unwrap_or((rest, &[]));
        let head = PAGE_HEAD.saturating_sub(in_page).min(page.len());
        written.extend_from_slice(page.get(head..).unwrap_or_default());
        at += page.len();
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_crosses_a_page_is_whole_without_the_heads() {
        let mut segment = vec![b'.'; PAGE * 3];
        for page in segment.chunks_mut(PAGE) {
            page[..PAGE_HEAD].fill(b'#');
        }
        segment[PAGE - 3..PAGE].copy_from_slice(b"abc");
        segment[PAGE + PAGE_HEAD..][..3].copy_from_slice(b"def");
        for from in [0, 5, 30, 4000] {
            let mut written = Vec::new();
            append(&mut written, from, &segment[from..]);
            assert!(!written.contains(&b'#'), "from {from}");
            assert!(written.windows(6).any(|run| run == b"abcdef"), "from {from}");
        }
    }
}
