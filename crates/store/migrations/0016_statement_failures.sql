-- keyholder: compatible-from 7
-- What a part of a run found not to hold, and no run of the same program has shown since.

-- By the claim's id: what its probe came to, and the number of the statement that says so, which a later one takes the place of that did not
-- try the claim. Empty in those published by a binary from before this column: it carries nothing on.
alter table trust_statements add column failures jsonb not null default '{}' check (jsonb_typeof(failures) = 'object');
grant insert (failures) on trust_statements to {{app}};

-- What `lookup_trust` gives, with what is open as of each statement. Binaries from before it ask that one.
create function lookup_trust_statements(p_known bigint, p_program text)
returns table (newest bigint, product text, sequence bigint, envelope bytea, kept text[], failures jsonb)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select n.newest, split_part(version(), ' ', 1) || ' ' || split_part(current_setting('server_version'), ' ', 1), s.sequence, s.envelope, s.kept,
      s.failures
    from (select max(t.sequence) as newest, max(t.sequence) filter (where t.scope = 'whole') as whole,
                 max(t.sequence) filter (where t.binary_sha256 = p_program) as ours,
                 max(t.sequence) filter (where t.binary_sha256 = p_program and t.scope = 'whole') as our_whole
            from trust_statements t) n
    left join trust_statements s on s.sequence in (n.newest, n.whole, n.ours, n.our_whole) and n.newest is distinct from p_known
    order by s.sequence desc
$$;
grant execute on function lookup_trust_statements(bigint, text) to {{lookup}};
