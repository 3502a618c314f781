-- keyholder: compatible-from 7
-- Statements of what the probes came to, and workspaces that are the probes' own.

-- What is made in a probe's workspace is marked wherever it is read: nobody mistakes an attack that was ordered for one that was not.
alter table workspaces add column is_probe boolean not null default false;

-- Signed statements, byte for byte as they were published. `kept` are the claims that were kept once and are not given up since: what of
-- them is not kept now is under review.
create table trust_statements (
  sequence bigint primary key check (sequence > 0),
  blueprint text not null,
  scope text not null check (scope in ('whole', 'production-safe')),
  issued_at timestamptz not null,
  expires_at timestamptz not null check (expires_at > issued_at),
  envelope bytea not null check (octet_length(envelope) between 1 and 262144),
  kept text[] not null,
  published_by text not null,
  published_at timestamptz not null default clock_timestamp()
);
alter table trust_statements enable row level security;
alter table trust_statements force row level security;
create policy owner_all on trust_statements to {{owner}} using (true) with check (true);
create policy installation on trust_statements to {{app}}
  using ((select current_installation()) is not null) with check ((select current_installation()) is not null);
grant select, insert (sequence, blueprint, scope, issued_at, expires_at, envelope, kept, published_by) on trust_statements to {{app}};

-- One statement at a time: whoever publishes holds the installation's head.
create trigger raised_head before insert on trust_statements
  for each row execute function require_raised_installation();

-- No statement that is as old as one that is here, or older, comes back, whoever brings it. The newest hundred stay, and the newest of a
-- whole run.
create function only_newer_statements() returns trigger
language plpgsql security definer set search_path = keyholder, pg_temp as $$
begin
  perform from trust_statements s where s.sequence >= new.sequence;
  if found then
    raise exception 'a statement is published again, or after a newer one' using errcode = 'KH006';
  end if;
  delete from trust_statements s
    where s.sequence <= (select o.sequence from trust_statements o order by o.sequence desc offset 99 limit 1)
      and s.sequence <> coalesce((select max(w.sequence) from trust_statements w where w.scope = 'whole'), 0);
  return new;
end $$;
create trigger rising_sequence before insert on trust_statements
  for each row execute function only_newer_statements();

-- The newest statement, and the newest of a whole run, where either is newer than what the asker has; what the database is, each time.
create function lookup_trust(p_known bigint) returns table (newest bigint, product text, sequence bigint, envelope bytea, kept text[])
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select n.newest, split_part(version(), ' ', 1) || ' ' || split_part(current_setting('server_version'), ' ', 1), s.sequence, s.envelope, s.kept
    from (select max(t.sequence) as newest, max(t.sequence) filter (where t.scope = 'whole') as whole from trust_statements t) n
    left join trust_statements s on s.sequence in (n.newest, n.whole) and n.newest > p_known
    order by s.sequence desc
$$;
grant execute on function lookup_trust(bigint) to {{lookup}};
