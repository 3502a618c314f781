-- The life of keys: which nodes know which epochs, when an epoch was last of use, rotations in the background, and the shredding of a
-- workspace. The rows here are the installation's own: they name no tenant, and a context of the installation opens them.

-- Nodes report themselves every few seconds. Whoever has not done so for half a minute does not count as alive.
create table nodes (
  node_id uuid primary key,
  version text not null check (length(version) between 1 and 64),
  -- The epochs whose keys the node holds, and the one that it wraps under.
  epochs bigint[] not null check (cardinality(epochs) <= 1000),
  wrapping bigint not null,
  started_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- What the database knows of the keyring's epochs. `retired_at`: nothing may be wrapped under it from then on. `destroyed_at`: its key
-- is gone from the keyring; a keyring in which it lives is an old one that was put back.
create table epochs (
  epoch bigint primary key,
  last_used_at timestamptz not null,
  retired_at timestamptz,
  destroyed_at timestamptz
);

-- One row a kind. The cursor is durable, so that whoever goes on begins where the last one ended; `fence` makes a late node's word void.
create table rotations (
  kind text primary key check (kind in ('wraps', 'data_keys')),
  run bigint not null default 1,
  state text not null default 'running' check (state in ('running', 'stopped', 'done')),
  phase text not null default 'renew' check (phase in ('renew', 'retire')),
  -- The epoch to wrap under, or the generation of the new data keys.
  target bigint not null,
  workspace uuid,
  step smallint,
  after uuid,
  renewed bigint not null default 0,
  overtaken bigint not null default 0,
  unopened bigint not null default 0,
  deleted_keys bigint not null default 0,
  node_id uuid,
  fence bigint not null default 0,
  leased_until timestamptz not null default '-infinity',
  asked_at timestamptz not null default clock_timestamp(),
  moved_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz
) with (fillfactor = 50);

-- Workspaces that are being shredded, or were: `id` was the workspace's. The name goes when the workspace has gone. The installation
-- writes the row, and that is its word that the workspace may be shredded; what is found on the way only the functions below write.
create table shreddings (
  id uuid primary key,
  name text,
  asked_at timestamptz not null default clock_timestamp(),
  begun_at timestamptz,
  keys_deleted_at timestamptz,
  data_keys jsonb not null default '[]',
  connections bigint not null default 0,
  revoked bigint not null default 0,
  dead bigint not null default 0,
  rows_deleted bigint not null default 0,
  finished_at timestamptz
);

-- The newest generation seals; `idle_since` is when something was last found under a key that no longer seals ('infinity': something
-- under it does not open, and the key is kept).
alter table data_keys add column generation bigint not null default 0, add column idle_since timestamptz;
create unique index on data_keys (workspace_id, generation);
create index on data_keys (epoch);
create index on data_keys (workspace_id, idle_since) where idle_since is not null;

-- What is sealed under a key is found by it; and a foreign key that is checked at a deletion wants an index on its side.
create index on credentials (workspace_id, data_key_id);
create index on retired_credentials (workspace_id, data_key_id);
create index on connect_links (workspace_id, verifier_key) where verifier_key is not null;
create index on connect_links (workspace_id, return_url);
create index on connect_links (workspace_id, reconnects) where reconnects is not null;
create index on connect_links (workspace_id, connection_id) where connection_id is not null;
create index on consents (workspace_id, connection_id);

-- Notes the use of epochs, and refuses a wrap under one that is retired. Both touch the epoch's row, so that a key that is being wrapped
-- and an epoch that is being retired meet there, and one of them waits.
create function note_epoch_use() returns trigger
language plpgsql security definer set search_path = keyholder, pg_temp as $$
declare
  used bigint[];
  put_under bigint[] := '{}';
  refused bigint;
begin
  case tg_op
    when 'INSERT' then
      select array_agg(distinct n.epoch order by n.epoch) into used from put n;
      put_under := used;
    when 'DELETE' then
      select array_agg(distinct o.epoch order by o.epoch) into used from taken o;
    else
      select array_agg(distinct x.epoch order by x.epoch) into used from (
        select unnest(array[o.epoch, n.epoch]) as epoch from taken o join put n using (workspace_id, id)
          where (o.epoch, o.wrapped) is distinct from (n.epoch, n.wrapped)) x;
      select coalesce(array_agg(distinct n.epoch), '{}') into put_under from taken o join put n using (workspace_id, id)
        where o.epoch <> n.epoch;
  end case;
  if used is null then
    return null;
  end if;
  insert into epochs as e (epoch, last_used_at) select u, clock_timestamp() from unnest(used) u order by u
    on conflict (epoch) do update set last_used_at = excluded.last_used_at;
  select e.epoch into refused from epochs e where e.epoch = any (put_under) and e.retired_at is not null;
  if found then
    raise exception 'epoch % is retired: nothing is wrapped under it any more', refused using errcode = 'KH004';
  end if;
  return null;
end $$;
create trigger epoch_use_put after insert on data_keys referencing new table as put
  for each statement execute function note_epoch_use();
create trigger epoch_use_taken after delete on data_keys referencing old table as taken
  for each statement execute function note_epoch_use();
create trigger epoch_use_moved after update on data_keys referencing old table as taken new table as put
  for each statement execute function note_epoch_use();
insert into epochs (epoch, last_used_at) select distinct k.epoch, clock_timestamp() from data_keys k;

-- What is asked across workspaces, for rotations and the keyring. Without a context of the installation the answer is empty.
create function epoch_data_keys() returns table (epoch bigint, data_keys bigint)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select k.epoch, count(*) from data_keys k
    where (select current_installation()) is not null and k.wrapped <> '' group by k.epoch order by k.epoch
$$;

create function workspaces_after(p_after uuid, p_most integer) returns setof uuid
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select w.workspace_id from workspaces w
    where (select current_installation()) is not null and (p_after is null or w.workspace_id > p_after)
    order by w.workspace_id limit least(p_most, 1000)
$$;

create function workspaces_wrapped_before(p_epoch bigint, p_after uuid, p_most integer) returns setof uuid
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select distinct k.workspace_id from data_keys k
    where (select current_installation()) is not null and (p_after is null or k.workspace_id > p_after)
      and k.epoch < p_epoch and k.wrapped <> ''
    order by k.workspace_id limit least(p_most, 1000)
$$;

-- Workspaces with keys that no longer seal, and whether the oldest of these has been idle for so long.
create function workspaces_with_idle_keys(p_after uuid, p_rest interval, p_most integer)
returns table (workspace_id uuid, due boolean)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select k.workspace_id, min(k.idle_since) < clock_timestamp() - p_rest from data_keys k
    where (select current_installation()) is not null and (p_after is null or k.workspace_id > p_after)
      and k.idle_since < 'infinity' and k.wrapped <> ''
    group by k.workspace_id order by k.workspace_id limit least(p_most, 1000)
$$;

-- The step of a shredding is taken in the workspace's own context and under its raised head, and only where the installation has asked
-- for it: no context of the workspace can do that by itself.
create function require_shredding(p_workspace uuid) returns void
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
begin
  if current_workspace() is distinct from p_workspace
     or not exists (select from shreddings s where s.id = p_workspace and s.finished_at is null)
     or not exists (select from heads h where h.kind = 'workspace' and h.id = p_workspace and h.raised_in = pg_current_xact_id()) then
    raise exception 'this workspace is not being shredded' using errcode = 'KH003';
  end if;
end $$;

-- Stops everything: no key is accepted, nothing is admitted, no open link can end in a connection, every connection is being taken apart.
create function begin_shredding(p_workspace uuid) returns void
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
begin
  perform require_shredding(p_workspace);
  update api_keys set revoked_at = clock_timestamp() where workspace_id = p_workspace and revoked_at is null;
  update mandates set revoked_at = clock_timestamp() where workspace_id = p_workspace and revoked_at is null;
  delete from connect_links where workspace_id = p_workspace;
  -- A refresh that is on its way may not put anything back.
  update refreshes set fence = fence + 1, leased_until = '-infinity' where workspace_id = p_workspace;
  update connections set state = 'disconnecting' where workspace_id = p_workspace and state not in ('disconnecting', 'disconnected');
  update shreddings set begun_at = coalesce(begun_at, clock_timestamp()) where id = p_workspace;
end $$;

-- Empties the data keys, from which commit on nothing of the workspace opens here, and counts what became of its connections.
create function shred_keys(p_workspace uuid) returns void
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
begin
  perform require_shredding(p_workspace);
  if not exists (select from shreddings s where s.id = p_workspace and s.begun_at is not null) then
    raise exception 'this workspace is not being shredded' using errcode = 'KH003';
  end if;
  with gone as (
    update data_keys k set wrapped = '' where k.workspace_id = p_workspace and k.wrapped <> '' returning k.id, k.epoch)
  update shreddings s set keys_deleted_at = coalesce(s.keys_deleted_at, clock_timestamp()),
      data_keys = s.data_keys || coalesce((select jsonb_agg(jsonb_build_object('id', g.id, 'epoch', g.epoch)) from gone g), '[]'),
      connections = c.connections, revoked = c.revoked, dead = c.dead
    from (select count(*) as connections, count(*) filter (where x.certificate ->> 'revoked_at_provider' = 'true') as revoked,
        count(*) filter (where x.certificate ->> 'old_token' = 'dead') as dead from connections x where x.workspace_id = p_workspace) c
    where s.id = p_workspace and s.keys_deleted_at is null;
end $$;

-- While a workspace is being shredded, no connection comes into being or into use: its grant would be given back by nobody. Whoever makes
-- one has taken the workspace's head by now, and the shredding takes it to stop what is there: one of them sees the other.
create function refuse_under_shredding() returns trigger
language plpgsql security definer set search_path = keyholder, pg_temp as $$
begin
  if new.state in ('inert', 'active') and (tg_op = 'INSERT' or new.state is distinct from old.state)
     and exists (select from shreddings s where s.id = new.workspace_id) then
    raise exception 'the workspace is being shredded' using errcode = 'KH005';
  end if;
  return new;
end $$;
create trigger no_shredding before insert or update of state on connections
  for each row execute function refuse_under_shredding();

-- Deletes the next so many rows of a workspace that is being shredded and whose data keys are deleted. Tables are taken from the
-- catalogue, those that point at others first, so that a table which is added is not forgotten. When nothing is left, the workspace and
-- its head go. The caller stands in the workspace's context and has raised its head.
create function shred_page(p_workspace uuid, p_most integer) returns table (deleted bigint, finished boolean)
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
declare
  t regclass;
  n bigint;
begin
  perform require_shredding(p_workspace);
  if not exists (select from shreddings s where s.id = p_workspace and s.keys_deleted_at is not null) then
    raise exception 'this workspace is not being shredded' using errcode = 'KH003';
  end if;
  -- A key that was wrapped since the keys were deleted ends as they did.
  with late as (
    update data_keys k set wrapped = '' where k.workspace_id = p_workspace and k.wrapped <> '' returning k.id, k.epoch)
  update shreddings s set data_keys = s.data_keys || x.keys
    from (select jsonb_agg(jsonb_build_object('id', late.id, 'epoch', late.epoch)) as keys from late) x
    where s.id = p_workspace and x.keys is not null;
  deleted := 0;
  finished := false;
  for t in
    with recursive reach(rel, depth) as (
      select 'workspaces'::regclass::oid, 0
      union
      select c.conrelid, r.depth + 1 from reach r join pg_constraint c on c.confrelid = r.rel and c.contype = 'f'
        where c.conrelid <> c.confrelid and r.depth < 20)
    select a.attrelid::regclass from pg_attribute a join pg_class c on c.oid = a.attrelid
      where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
        and a.attname = 'workspace_id' and not a.attisdropped and c.oid <> 'workspaces'::regclass
      order by (select max(r.depth) from reach r where r.rel = a.attrelid) desc nulls first, c.relname
  loop
    execute format('delete from %s where ctid = any (array(select ctid from %s where workspace_id = $1 limit $2)) and workspace_id = $1', t, t)
      using p_workspace, least(p_most, 10000) - deleted;
    get diagnostics n = row_count;
    deleted := deleted + n;
    if deleted >= least(p_most, 10000) then
      update shreddings s set rows_deleted = s.rows_deleted + deleted where s.id = p_workspace;
      return next;
      return;
    end if;
  end loop;
  delete from workspaces w where w.workspace_id = p_workspace;
  delete from heads h where h.kind = 'workspace' and h.id = p_workspace;
  deleted := deleted + 1;
  finished := true;
  update shreddings s set name = null, rows_deleted = s.rows_deleted + deleted, finished_at = clock_timestamp() where s.id = p_workspace;
  return next;
end $$;

do $$
declare
  t text;
begin
  foreach t in array array['nodes', 'epochs', 'rotations', 'shreddings'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy owner_all on %I to {{owner}} using (true) with check (true)', t);
    execute format('create policy installation on %I to {{app}} using ((select current_installation()) is not null) '
                   'with check ((select current_installation()) is not null)', t);
  end loop;
end $$;
grant select, insert, update, delete on nodes to {{app}};
grant select, insert, update on epochs, rotations to {{app}};
grant select, insert (id, name) on shreddings to {{app}};
grant update (epoch, wrapped, idle_since), delete on data_keys to {{app}};
grant update (answer, answer_key) on acts to {{app}};
grant execute on function epoch_data_keys(), workspaces_after(uuid, integer), workspaces_wrapped_before(bigint, uuid, integer),
  workspaces_with_idle_keys(uuid, interval, integer), begin_shredding(uuid), shred_keys(uuid),
  shred_page(uuid, integer) to {{app}};
