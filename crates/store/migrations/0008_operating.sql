-- keyholder: compatible-from 7
-- What operating needs: which schema a node's binary knows, and what of the database is watched.

-- So that a step which a node would not survive can wait for it. Binaries from before this say nothing.
alter table nodes add column schema_version bigint check (schema_version > 0);

-- The database's hour; how long the oldest deletion has been under way; and how many transactions ago the oldest snapshot was taken that
-- anybody holds: rows that died since cannot be removed, and the hot ones grow slow with them.
create function lookup_watch() returns table (now timestamptz, oldest_deletion_s double precision, oldest_snapshot bigint)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select clock_timestamp(),
    coalesce((select extract(epoch from clock_timestamp() - min(d.since)) from (
        select min(j.created_at) as since from jobs j where j.kind in ('disconnect', 'revoke_retired')
        union all
        select min(s.asked_at) from shreddings s where s.finished_at is null) d), 0)::double precision,
    coalesce((select max(x.age) from (
        select age(a.backend_xmin)::bigint from pg_stat_activity a
          where a.backend_xmin is not null and (a.datname = current_database() or a.datname is null)
        union all
        select age(r.xmin)::bigint from pg_replication_slots r where r.xmin is not null
        union all
        select age(p.transaction)::bigint from pg_prepared_xacts p where p.database = current_database()) x(age)), 0)
$$;
grant execute on function lookup_watch() to {{lookup}};

-- The sealed credentials of the connections that mandates open, a batch at a time: `credentials_for_acts`, which binaries from before this
-- go on calling, verifies a context once for each table that it reads. This one verifies it once, and reads as the tables' owner, for
-- whom no policy does: so each table is asked for that workspace alone, and a context that is not good is a workspace that is null.
create function sealed_for_acts(p_context text[], p_from integer[], p_to integer[], p_mandate uuid[])
returns table (ord integer, connection_id uuid, provider text, state text, revoked boolean, sealed bytea, version bigint,
  expires_at timestamptz, key_id uuid, key_epoch bigint, key_wrapped bytea)
language plpgsql security definer set search_path = keyholder, pg_temp as $$
declare
  here uuid;
begin
  for g in 1 .. cardinality(p_context) loop
    perform set_config('keyholder.context', p_context[g], true);
    here := current_workspace();
    return query
      select (p_from[g] + x.o - 1)::integer, c.id, c.provider, c.state, m.revoked_at is not null, d.sealed, d.version, d.expires_at,
          k.id, k.epoch, k.wrapped
        from unnest(p_mandate[p_from[g]:p_to[g]]) with ordinality x(mandate, o)
        join mandates m on m.workspace_id = here and m.id = x.mandate
        join connections c on c.workspace_id = here and c.id = m.connection_id
        join credentials d on d.workspace_id = here and d.connection_id = c.id and d.field = 'access'
        join data_keys k on k.workspace_id = here and k.id = d.data_key_id;
  end loop;
end $$;
grant execute on function sealed_for_acts(text[], integer[], integer[], uuid[]) to {{app}};
