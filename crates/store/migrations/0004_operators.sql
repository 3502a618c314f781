-- Named operators, and the kill drill of the installation, which two of them set off.
--
-- The installation's rows are opened by a context of the installation; what a drill notes of a connection is that tenant's row.

-- Persons of the operator's. A row is one key; a person is his name, with however many keys.
create table operators (
  id uuid primary key,
  name text not null check (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
  hash bytea not null unique check (octet_length(hash) = 32),
  created_at timestamptz not null default clock_timestamp(),
  revoked_at timestamptz
);
create index on operators (name) where revoked_at is null;

-- What happened in the installation and is no tenant's business. Entries are added, and stay.
create table installation_audit (
  id uuid primary key,
  at timestamptz not null default clock_timestamp(),
  principal text not null,
  means text not null,
  session text,
  request text,
  event text not null,
  object text not null,
  detail jsonb
);

-- `fanned_out_to` is the last workspace that has its job; `acts_stopped_at` says that all those jobs were done; `released_at`, that all
-- disconnections are due. That two persons are two is asserted here, whatever the application thinks.
create table kill_drills (
  id uuid primary key,
  provider text,
  reason text not null check (length(reason) between 1 and 500),
  state text not null default 'proposed' check (state in ('proposed', 'running', 'ended')),
  proposed_by text not null,
  proposed_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null default clock_timestamp() + interval '15 minutes',
  approved_by text,
  approved_at timestamptz,
  fanned_out_to uuid not null default '00000000-0000-0000-0000-000000000000',
  fanned_out_at timestamptz,
  acts_stopped_at timestamptz,
  released_at timestamptz,
  ended_at timestamptz,
  certificate jsonb,
  constraint two_persons check (approved_by <> proposed_by),
  check ((state = 'proposed') = (approved_by is null)),
  check ((state = 'proposed') = (approved_at is null)),
  check ((state = 'ended') = (certificate is not null))
);
create index on kill_drills (id) where state = 'running';

-- The connections that a drill has stopped, and what their certificates say.
create table kill_drill_connections (
  workspace_id uuid not null,
  drill_id uuid not null references kill_drills,
  connection_id uuid not null,
  provider text not null,
  old_token text check (old_token in ('dead', 'alive', 'refused_to_say')),
  revoked_at_provider boolean,
  grant_may_live boolean,
  deleted_at timestamptz,
  primary key (workspace_id, drill_id, connection_id),
  foreign key (workspace_id, connection_id) references connections (workspace_id, id) on delete cascade
);
create index on kill_drill_connections (drill_id, connection_id);
create index on kill_drill_connections (drill_id) where deleted_at is null;
create index on kill_drill_connections (workspace_id, connection_id) where deleted_at is null;
create index jobs_of_kill_drills on jobs (subject) where kind = 'kill_drill';

do $$
declare
  t text;
begin
  foreach t in array array['operators', 'installation_audit', 'kill_drills', 'kill_drill_connections'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy owner_all on %I to {{owner}} using (true) with check (true)', t);
  end loop;
  foreach t in array array['operators', 'installation_audit', 'kill_drills'] loop
    execute format('create policy installation on %I to {{app}} using ((select current_installation()) is not null) '
                   'with check ((select current_installation()) is not null)', t);
  end loop;
end $$;
create policy tenant on kill_drill_connections to {{app}}
  using (workspace_id = (select current_workspace())) with check (workspace_id = (select current_workspace()));

grant select on operators, installation_audit, kill_drills, kill_drill_connections to {{app}};
grant insert (id, name, hash), update (revoked_at) on operators to {{app}};
grant insert (id, principal, means, session, request, event, object, detail) on installation_audit to {{app}};
grant insert (id, provider, reason, proposed_by), update (state, approved_by, approved_at, ended_at, certificate) on kill_drills to {{app}};
grant insert (workspace_id, drill_id, connection_id, provider),
  update (old_token, revoked_at_provider, grant_may_live, deleted_at) on kill_drill_connections to {{app}};

-- Who the operators are changes only under the installation's raised head.
create function require_raised_installation() returns trigger
language plpgsql security definer set search_path = keyholder, pg_temp as $$
begin
  perform from heads h where h.kind = 'installation' and h.raised_in = pg_current_xact_id();
  if not found then
    raise exception 'a change of % without a raised head', tg_table_name using errcode = 'KH001';
  end if;
  return case tg_op when 'DELETE' then old else new end;
end $$;
create trigger raised_head before insert or update or delete on operators
  for each row execute function require_raised_installation();

-- While a drill runs, nothing that it ends comes into being or into use: else its certificate would be untrue. Whoever makes a
-- connection has taken his workspace's head by now, and the drill takes it to stop what is there: one of them sees the other.
create function refuse_under_kill_drill() returns trigger
language plpgsql security definer set search_path = keyholder, pg_temp as $$
begin
  if new.state in ('inert', 'active') and (tg_op = 'INSERT' or new.state is distinct from old.state) then
    perform from kill_drills d where d.state = 'running' and (d.provider is null or d.provider = new.provider);
    if found then
      raise exception 'a kill drill is running' using errcode = 'KH002';
    end if;
  end if;
  return new;
end $$;
create trigger no_kill_drill before insert or update of state on connections
  for each row execute function refuse_under_kill_drill();

create function lookup_operator(p_hash bytea) returns table (id uuid, name text)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select o.id, o.name from operators o where o.hash = p_hash and o.revoked_at is null
$$;

-- The scope of a drill that is running; none for any other.
create function lookup_kill_drill_scope(p_drill uuid) returns table (provider text)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select d.provider from kill_drills d where d.id = p_drill and d.state = 'running'
$$;

-- Moves running drills on, each by at most so many rows, and tells those whose connections are all gone. First every workspace gets a
-- job that stops its connections. When all of them are done, acts have stopped, and the disconnections that waited for that (a while
-- at most: one workspace that cannot be stopped does not keep the others alive) become due.
create function lookup_drive_kill_drills(p_most integer) returns table (id uuid, is_over boolean)
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
declare
  d kill_drills;
  given integer;
  last uuid;
begin
  for d in select k.* from kill_drills k where k.state = 'running' order by k.id for update skip locked loop
    if d.fanned_out_at is null then
      with next as (
        select w.workspace_id from workspaces w where w.workspace_id > d.fanned_out_to order by w.workspace_id limit p_most
      ), made as (
        insert into jobs (workspace_id, id, kind, subject, run_at)
          select n.workspace_id, gen_random_uuid(), 'kill_drill', d.id, clock_timestamp() from next n
      )
      select count(*), (array_agg(n.workspace_id order by n.workspace_id desc))[1] into given, last from next n;
      update kill_drills k set fanned_out_to = coalesce(last, k.fanned_out_to),
          fanned_out_at = case when given < p_most then clock_timestamp() end
        where k.id = d.id;
    elsif d.acts_stopped_at is null then
      update kill_drills k set acts_stopped_at = clock_timestamp()
        where k.id = d.id and not exists (select from jobs j where j.kind = 'kill_drill' and j.subject = d.id);
    elsif d.released_at is null then
      update jobs j set run_at = clock_timestamp()
        from (select x.workspace_id, x.id from kill_drill_connections c
              join jobs x on x.workspace_id = c.workspace_id and x.kind = 'disconnect' and x.subject = c.connection_id
              where c.drill_id = d.id and c.deleted_at is null and x.attempts = 0 and x.run_at > clock_timestamp()
              limit p_most for update of x skip locked) due
        where j.workspace_id = due.workspace_id and j.id = due.id;
      get diagnostics given = row_count;
      if given < p_most then
        update kill_drills k set released_at = clock_timestamp() where k.id = d.id;
      end if;
    end if;
    id := d.id;
    is_over := d.acts_stopped_at is not null
      and not exists (select from kill_drill_connections c where c.drill_id = d.id and c.deleted_at is null);
    return next;
  end loop;
end $$;

-- What a drill has found, in the order of the connections' ids, newest first or oldest first.
create function lookup_kill_drill_lines(p_drill uuid, p_after uuid, p_before uuid, p_most integer)
returns table (workspace_id uuid, connection_id uuid, provider text, old_token text, revoked_at_provider boolean,
  grant_may_live boolean, deleted_at timestamptz)
language plpgsql stable security definer set search_path = keyholder, pg_temp as $$
begin
  if p_after is not null then
    return query select c.workspace_id, c.connection_id, c.provider, c.old_token, c.revoked_at_provider, c.grant_may_live, c.deleted_at
      from kill_drill_connections c where c.drill_id = p_drill and c.connection_id > p_after
      order by c.connection_id limit least(p_most, 1000);
  else
    return query select c.workspace_id, c.connection_id, c.provider, c.old_token, c.revoked_at_provider, c.grant_may_live, c.deleted_at
      from kill_drill_connections c
      where c.drill_id = p_drill and (p_before is null or c.connection_id < p_before)
      order by c.connection_id desc limit least(p_most, 1000);
  end if;
end $$;

create function lookup_kill_drill_progress(p_drill uuid)
returns table (workspaces_left bigint, connections bigint, ended bigint, dead bigint, alive bigint, refused_to_say bigint,
  revoked bigint, may_live bigint)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select (select count(*) from jobs j where j.kind = 'kill_drill' and j.subject = p_drill), count(*), count(c.deleted_at),
    count(*) filter (where c.old_token = 'dead'), count(*) filter (where c.old_token = 'alive'),
    count(*) filter (where c.old_token = 'refused_to_say'), count(*) filter (where c.revoked_at_provider),
    count(*) filter (where c.grant_may_live)
  from kill_drill_connections c where c.drill_id = p_drill
$$;

grant execute on function lookup_operator(bytea), lookup_kill_drill_scope(uuid), lookup_drive_kill_drills(integer),
  lookup_kill_drill_lines(uuid, uuid, uuid, integer), lookup_kill_drill_progress(uuid) to {{lookup}};
