-- keyholder: compatible-from 7
-- Trust statements by the program that they are of.

-- Null in those published by a binary from before this column.
alter table trust_statements add column binary_sha256 text;
grant insert (binary_sha256) on trust_statements to {{app}};

-- The newest statement and the newest of a whole run, of all and of the asker's program: a statement of the next build is published while
-- this one serves. None of them where the newest is what the asker has, which after a restore may be an older one than he has; what the
-- database is, each time. Binaries from before it ask the function of one argument.
create function lookup_trust(p_known bigint, p_program text) returns table (newest bigint, product text, sequence bigint, envelope bytea, kept text[])
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select n.newest, split_part(version(), ' ', 1) || ' ' || split_part(current_setting('server_version'), ' ', 1), s.sequence, s.envelope, s.kept
    from (select max(t.sequence) as newest, max(t.sequence) filter (where t.scope = 'whole') as whole,
                 max(t.sequence) filter (where t.binary_sha256 = p_program) as ours,
                 max(t.sequence) filter (where t.binary_sha256 = p_program and t.scope = 'whole') as our_whole
            from trust_statements t) n
    left join trust_statements s on s.sequence in (n.newest, n.whole, n.ours, n.our_whole) and n.newest is distinct from p_known
    order by s.sequence desc
$$;
grant execute on function lookup_trust(bigint, text) to {{lookup}};
