-- keyholder: compatible-from 7
-- What a read that passes without the ledger is judged by: the facts as they are at the moment at which its credential is read.

-- As `sealed_for_acts`, which binaries from before this go on calling, with the head of the workspace and the installation's revision. All of
-- it comes from one statement, and so from one moment: who was permitted by other facts than these is to ask anew.
create function sealed_at_head(p_context text[], p_from integer[], p_to integer[], p_mandate uuid[])
returns table (ord integer, connection_id uuid, provider text, state text, sealed bytea, version bigint, expires_at timestamptz,
  key_id uuid, key_epoch bigint, key_wrapped bytea, epoch bigint, revision bigint, installation_revision bigint)
language plpgsql security definer set search_path = keyholder, pg_temp as $$
declare
  here uuid;
begin
  for g in 1 .. cardinality(p_context) loop
    perform set_config('keyholder.context', p_context[g], true);
    here := current_workspace();
    return query
      select (p_from[g] + x.o - 1)::integer, c.id, c.provider, c.state, d.sealed, d.version, d.expires_at, k.id, k.epoch, k.wrapped,
          h.epoch, h.revision, coalesce((select i.revision from heads i where i.kind = 'installation'), 0)
        from unnest(p_mandate[p_from[g]:p_to[g]]) with ordinality x(mandate, o)
        join mandates m on m.workspace_id = here and m.id = x.mandate
        join connections c on c.workspace_id = here and c.id = m.connection_id
        join credentials d on d.workspace_id = here and d.connection_id = c.id and d.field = 'access'
        join data_keys k on k.workspace_id = here and k.id = d.data_key_id
        join heads h on h.kind = 'workspace' and h.id = here;
  end loop;
end $$;
grant execute on function sealed_at_head(text[], integer[], integer[], uuid[]) to {{app}};
