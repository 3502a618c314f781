-- The ledger. Its role can call these functions and nothing else; it can read no credential.

create function window_of(p_period text, p_at timestamptz) returns timestamptz
language sql immutable set search_path = keyholder, pg_temp as $$
  select case p_period
    when 'minute' then date_bin('1 minute', p_at, '2000-01-01Z')
    when 'hour' then date_bin('1 hour', p_at, '2000-01-01Z')
    when 'day' then date_bin('1 day', p_at, '2000-01-01Z')
    else date_trunc('month', p_at, 'UTC') end
$$;

create function window_end(p_period text, p_start timestamptz) returns timestamptz
language sql immutable set search_path = keyholder, pg_temp as $$
  select case p_period
    when 'minute' then p_start + interval '1 minute'
    when 'hour' then p_start + interval '1 hour'
    when 'day' then p_start + interval '24 hours'
    else date_trunc('month', (p_start at time zone 'UTC') + interval '1 month') at time zone 'UTC' end
$$;

-- How many windows lie between two starts of windows. A budget that was never used has waited for one.
create function windows_passed(p_period text, p_from timestamptz, p_to timestamptz) returns bigint
language sql immutable set search_path = keyholder, pg_temp as $$
  select case
    when p_to <= p_from then 0
    when p_from = '-infinity' then 1
    when p_period = 'month' then
      (extract(year from p_to at time zone 'UTC') - extract(year from p_from at time zone 'UTC')) * 12
      + extract(month from p_to at time zone 'UTC') - extract(month from p_from at time zone 'UTC')
    else floor(extract(epoch from p_to - p_from) / case p_period when 'minute' then 60 when 'hour' then 3600 else 86400 end)
  end::bigint
$$;

-- What a budget brings into a window: its debt, of which every window that has passed meanwhile has paid one cap.
create function carried(p_debt bigint, p_cap bigint, p_windows bigint) returns bigint
language sql immutable set search_path = keyholder, pg_temp as $$
  select greatest(p_debt::numeric - p_cap::numeric * (p_windows - 1), 0)::bigint
$$;

-- Which database this is: the cluster's identity and its timeline, as they were when the epochs began that hold now. A promotion or a
-- restore changes one of them. While `raised_to` is not null, the epochs of the workspaces behind it are still to be raised.
create table database_identity (
  only_one boolean primary key default true check (only_one),
  system_identifier bigint,
  timeline text,
  generation bigint not null default 0,
  reason text,
  began_at timestamptz,
  raised_to uuid
);
alter table database_identity enable row level security;
alter table database_identity force row level security;
create policy owner_all on database_identity to {{owner}} using (true) with check (true);

-- The timeline that is written now. Told by the name of the WAL segment: pg_control_checkpoint() tells the one before until the
-- first checkpoint after a promotion. Null where the server does not say; then only the operator can say that it changed.
create function present_timeline() returns text
language plpgsql volatile set search_path = keyholder, pg_temp as $$
begin
  return substring(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
exception when insufficient_privilege or feature_not_supported or object_not_in_prerequisite_state then
  return null;
end $$;

create function present_system() returns bigint
language plpgsql volatile set search_path = keyholder, pg_temp as $$
begin
  return (select c.system_identifier from pg_control_system() c);
exception when insufficient_privilege or feature_not_supported then
  return null;
end $$;

create function present_wal() returns bigint
language plpgsql volatile set search_path = keyholder, pg_temp as $$
begin
  return pg_current_wal_flush_lsn() - '0/0'::pg_lsn;
exception when insufficient_privilege or feature_not_supported then
  return null;
end $$;

-- Admits a batch in one call, so that no lock outlives a statement of the server's. One row is answered for each act:
--   admitted  its units are taken and it is durable once this call commits
--   replay    its key is known with the same request; `prior` is the act        conflict  ... with another request
--   stale     the facts that it was permitted under have changed, or the database itself: epochs must be raised first
--   over      a budget has no room: which, and until when
--   busy      its workspace is being changed: ask again (with p_wait, it waits up to the lock timeout)
--   unknown   there is no such workspace
-- Lock order: heads by id, then budgets by rank and id. The clock is read after the last lock: a window is never judged by the
-- time at which somebody began to wait.
create function ledger_admit(
  p_node uuid, p_wait boolean,
  a_workspace uuid[], a_epoch bigint[], a_revision bigint[], a_installation bigint[],
  a_principal text[], a_key text[], a_hash bytea[], a_id uuid[],
  a_mandate uuid[], a_connection uuid[], a_action text[], a_effect text[], a_patience_ms integer[],
  u_act integer[], u_budget uuid[], u_units bigint[]
) returns table (ord integer, verdict text, prior uuid, budget uuid, remaining bigint, resets_at timestamptz)
language plpgsql volatile security definer
set search_path = keyholder, pg_temp set synchronous_commit = on set lock_timeout = '250ms' set plan_cache_mode = force_generic_plan
set enable_seqscan = off as $$
declare
  h_id uuid[]; h_epoch bigint[]; h_revision bigint[]; installation_revision bigint;
  b_id uuid[]; b_cap bigint[]; b_used bigint[]; b_debt bigint[]; b_window timestamptz[]; b_period text[]; b_workspace uuid[];
  known_ord integer[]; known_act uuid[]; known_same boolean[]; known_alive boolean[]; forgotten integer[] := '{}';
  same_database boolean;
  admitted integer[] := '{}'; held_by integer[] := '{}'; held_budget uuid[] := '{}'; held_units bigint[] := '{}'; held_window timestamptz[] := '{}';
  t timestamptz; w timestamptz; i integer; j integer; k integer; u integer := 1; first_u integer; n integer := cardinality(a_workspace);
begin
  if p_wait then
    select array_agg(q.id), array_agg(q.epoch), array_agg(q.revision) into h_id, h_epoch, h_revision from (
      select h.id, h.epoch, h.revision from heads h where h.kind = 'workspace' and h.id = any (a_workspace)
      order by h.id for no key update) q;
  else
    select array_agg(q.id), array_agg(q.epoch), array_agg(q.revision) into h_id, h_epoch, h_revision from (
      select h.id, h.epoch, h.revision from heads h where h.kind = 'workspace' and h.id = any (a_workspace)
      order by h.id for no key update skip locked) q;
  end if;

  select array_agg(q.id), array_agg(q.cap), array_agg(q.used), array_agg(q.debt), array_agg(q.window_start), array_agg(q.period),
      array_agg(q.workspace_id)
    into b_id, b_cap, b_used, b_debt, b_window, b_period, b_workspace from (
    select b.id, b.cap, b.used, b.debt, b.window_start, b.period, b.workspace_id
      from (select distinct x.id from unnest(u_budget) x(id)) wanted join budgets b on b.id = wanted.id
      where b.workspace_id is null or b.workspace_id = any (h_id)
      order by b.rank, b.id for no key update of b) q;
  select h.revision into installation_revision from heads h where h.kind = 'installation';
  select present_timeline() is not distinct from d.timeline into same_database from database_identity d;

  t := clock_timestamp();
  for j in 1 .. coalesce(cardinality(b_id), 0) loop
    w := window_of(b_period[j], t);
    if b_window[j] < w then
      b_used[j] := case b_debt[j] when 0 then 0 else carried(b_debt[j], b_cap[j], windows_passed(b_period[j], b_window[j], w)) end;
      b_debt[j] := greatest(b_used[j] - b_cap[j], 0);
      b_window[j] := w;
    end if;
  end loop;

  select array_agg(x.o::integer), array_agg(d.act_id), array_agg(d.request_hash = x.hash), array_agg(d.expires_at > t)
    into known_ord, known_act, known_same, known_alive
    from unnest(a_workspace, a_principal, a_key, a_hash) with ordinality x(workspace, principal, key, hash, o)
    cross join lateral (
      select d.act_id, d.request_hash, d.expires_at from idempotency d
      where d.workspace_id = x.workspace and d.principal = x.principal and d.key = x.key limit 1) d
    where x.key is not null;

  for i in 1 .. n loop
    ord := i; prior := null; budget := null; remaining := null; resets_at := null;
    k := array_position(h_id, a_workspace[i]);
    j := array_position(known_ord, i);
    first_u := u;
    while u <= cardinality(u_act) and u_act[u] = i loop
      u := u + 1;
    end loop;
    if k is null then
      verdict := case when exists (select from heads h where h.kind = 'workspace' and h.id = a_workspace[i]) then 'busy' else 'unknown' end;
    elsif j is not null and known_alive[j] then
      prior := known_act[j];
      verdict := case when known_same[j] then 'replay' else 'conflict' end;
    elsif not coalesce(same_database, true) or h_epoch[k] <> a_epoch[i] or h_revision[k] <> a_revision[i] or coalesce(installation_revision, 0) <> a_installation[i] then
      verdict := 'stale';
    else
      verdict := 'admitted';
      for v in first_u .. u - 1 loop
        j := array_position(b_id, u_budget[v]);
        if j is null or (b_workspace[j] is not null and b_workspace[j] <> a_workspace[i]) then
          verdict := 'stale';
        elsif u_units[v] > b_cap[j] - b_used[j] then
          verdict := 'over';
          budget := b_id[j];
          remaining := greatest(b_cap[j] - b_used[j], 0);
          resets_at := window_end(b_period[j], b_window[j]);
        end if;
        if verdict <> 'admitted' then
          -- What this act took before it met the full budget goes back at once.
          for x in first_u .. v - 1 loop
            j := array_position(b_id, u_budget[x]);
            b_used[j] := b_used[j] - u_units[x];
          end loop;
          exit;
        end if;
        b_used[j] := b_used[j] + u_units[v];
      end loop;
      if verdict = 'admitted' then
        admitted := admitted || i;
        j := array_position(known_ord, i);
        if j is not null then
          forgotten := forgotten || j;
        end if;
        for v in first_u .. u - 1 loop
          held_by := held_by || i;
          held_budget := held_budget || u_budget[v];
          held_units := held_units || u_units[v];
          held_window := held_window || b_window[array_position(b_id, u_budget[v])];
        end loop;
      end if;
    end if;
    return next;
  end loop;

  if admitted <> '{}' then
    insert into acts (workspace_id, id, principal, mandate_id, connection_id, action, effect, state, node_id, admitted_at, give_up_at,
        held, held_units, held_windows)
      select a_workspace[o], a_id[o], a_principal[o], a_mandate[o], a_connection[o], a_action[o], a_effect[o], 'admitted', p_node, t,
        t + a_patience_ms[o] * interval '1 ms',
        coalesce((select array_agg(x.b order by x.o) from unnest(held_by, held_budget) with ordinality x(a, b, o) where x.a = q.o), '{}'),
        coalesce((select array_agg(x.b order by x.o) from unnest(held_by, held_units) with ordinality x(a, b, o) where x.a = q.o), '{}'),
        coalesce((select array_agg(x.b order by x.o) from unnest(held_by, held_window) with ordinality x(a, b, o) where x.a = q.o), '{}')
      from unnest(admitted) q(o);
    if forgotten <> '{}' then
      -- A key that is used again after its seven days takes the answer of the first act with it.
      update acts a set answer = null, answer_key = null
        from (select o.workspace_id, o.id from unnest(forgotten) f(j) join acts o
                on o.workspace_id = a_workspace[known_ord[f.j]] and o.id = known_act[f.j]
              for no key update of o skip locked) old
        where a.workspace_id = old.workspace_id and a.id = old.id;
    end if;
    insert into idempotency (workspace_id, principal, key, request_hash, act_id, expires_at)
      select a_workspace[o], a_principal[o], a_key[o], a_hash[o], a_id[o], t + interval '7 days'
      from unnest(admitted) o where a_key[o] is not null order by a_workspace[o], a_principal[o], a_key[o]
      on conflict (workspace_id, principal, key) do update
        set request_hash = excluded.request_hash, act_id = excluded.act_id, expires_at = excluded.expires_at;
    update budgets b set used = x.used, debt = x.debt, window_start = x.start
      from unnest(b_id, b_used, b_debt, b_window) x(id, used, debt, start)
      where b.id = x.id and (b.used, b.window_start) is distinct from (x.used, x.start);
  end if;
end $$;

-- Moves what budgets have used. Units that go back (below zero) go into the window that they were taken from, and no other. Units that
-- were used beyond what was reserved count in the window that the budget is in, however late they are told; what of them is beyond the
-- cap is debt, and is carried into the windows that follow. Nothing else makes debt: not a cap that was lowered.
create function ledger_move(p_budget uuid[], p_units bigint[], p_window timestamptz[]) returns void
language plpgsql volatile set search_path = keyholder, pg_temp as $$
begin
  perform from budgets b where b.id = any (p_budget) order by b.rank, b.id for no key update;
  update budgets b set used = y.used, debt = least(b.debt + y.more, greatest(y.used - b.cap, 0))
    from (
      -- The bound keeps the sums of a provider that tells nonsense within a bigint.
      select c.id, least(sum(greatest(x.units, 0)), 1::bigint << 60)::bigint as more,
          least(greatest(c.used + sum(greatest(x.units, 0))
            + sum(case when x.units < 0 and x.start = c.window_start then x.units else 0 end), 0), 1::bigint << 60)::bigint as used
        from unnest(p_budget, p_units, p_window) x(id, units, start) join budgets c on c.id = x.id
        group by c.id, c.used) y
    where b.id = y.id;
end $$;

-- Ends acts of this node, and answers those that it has ended. The node that admitted an act may still say what became of it when
-- somebody else has called it ambiguous meanwhile: it alone knows. `r_…` is what acts really used of their budgets: the act's place
-- in the batch, the budget, the units; of a budget that is not named, an act has used what it reserved.
-- Lock order: acts by workspace and id, then budgets, then keys.
create function ledger_settle(
  p_node uuid, a_workspace uuid[], a_id uuid[], a_state text[], a_status smallint[], a_answer bytea[], a_answer_key uuid[],
  r_act integer[], r_budget uuid[], r_used bigint[]
) returns setof uuid
language plpgsql volatile security definer
set search_path = keyholder, pg_temp set synchronous_commit = on set lock_timeout = '2s' set plan_cache_mode = force_generic_plan
set enable_seqscan = off as $$
declare
  m_budget uuid[] := '{}'; m_units bigint[] := '{}'; m_window timestamptz[] := '{}'; unsent uuid[] := '{}'; unsent_of uuid[] := '{}';
  ended record;
begin
  for ended in
    update acts a set state = old.new_state, status = old.new_status, answer = old.new_answer, answer_key = old.new_answer_key,
        ended_at = clock_timestamp(),
        held_units = case when old.new_state = 'settled' and old.o = any (r_act) then (
            select array_agg(coalesce(r.used, h.units) order by h.o)
              from unnest(old.held, old.held_units) with ordinality h(budget, units, o)
              left join unnest(r_act, r_budget, r_used) r(act, budget, used) on r.act = old.o and r.budget = h.budget)
          else a.held_units end
      from (
        select w.workspace_id, w.id, w.held, w.held_units, x.o::integer as o, x.state as new_state, x.status as new_status,
            x.answer as new_answer, x.answer_key as new_answer_key
          from unnest(a_workspace, a_id, a_state, a_status, a_answer, a_answer_key)
            with ordinality x(workspace, id, state, status, answer, answer_key, o)
          join acts w on w.workspace_id = x.workspace and w.id = x.id
          where w.node_id = p_node and x.state in ('settled', 'not_sent', 'ambiguous')
            and (w.state = 'admitted' or (w.state = 'ambiguous' and x.state <> 'ambiguous'))
          order by w.workspace_id, w.id for no key update of w) old
      where a.workspace_id = old.workspace_id and a.id = old.id
      returning a.workspace_id, a.id, a.state, old.held, old.held_units as reserved, a.held_units as used, a.held_windows
  loop
    if ended.state = 'not_sent' then
      m_budget := m_budget || ended.held;
      m_units := m_units || coalesce((select array_agg(-x.units order by x.o) from unnest(ended.reserved) with ordinality x(units, o)), '{}');
      m_window := m_window || ended.held_windows;
      unsent := unsent || ended.id;
      unsent_of := unsent_of || ended.workspace_id;
    elsif ended.used is distinct from ended.reserved then
      m_budget := m_budget || ended.held;
      m_units := m_units || (select array_agg(x.used - x.reserved order by x.o)
        from unnest(ended.used, ended.reserved) with ordinality x(used, reserved, o));
      m_window := m_window || ended.held_windows;
    end if;
    return next ended.id;
  end loop;
  if m_budget <> '{}' then
    perform ledger_move(m_budget, m_units, m_window);
  end if;
  if unsent <> '{}' then
    -- What had no effect must not be replayed: the same key may try again.
    delete from idempotency d using unnest(unsent_of, unsent) x(workspace, id) where d.workspace_id = x.workspace and d.act_id = x.id;
  end if;
end $$;
create index on idempotency (workspace_id, act_id);

-- Acts that nobody settled in time: whether they had an effect cannot be known here. Their units stay taken.
create function ledger_sweep(p_most integer) returns table (workspace_id uuid, id uuid)
language sql volatile security definer set search_path = keyholder, pg_temp as $$
  update acts a set state = 'ambiguous', ended_at = clock_timestamp()
    from (select d.workspace_id, d.id from acts d where d.state = 'admitted' and d.give_up_at < clock_timestamp()
          order by d.give_up_at limit least(p_most, 1000) for no key update skip locked) due
    where a.workspace_id = due.workspace_id and a.id = due.id
    returning a.workspace_id, a.id
$$;

-- Idempotency keys and stored answers end together, 7 days after their act. Acts are locked before keys, as everywhere.
create function ledger_expire(p_most integer) returns integer
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
declare
  gone integer;
begin
  -- An admission that uses an expired key again holds it, and its act after it: what it holds is left to it.
  with keys as materialized (
    select e.workspace_id, e.principal, e.key, e.act_id from idempotency e
      where (e.workspace_id, e.principal, e.key) in (
        select d.workspace_id, d.principal, d.key from idempotency d where d.expires_at < clock_timestamp()
          order by d.expires_at limit least(p_most, 1000)) and e.expires_at < clock_timestamp()
      order by e.workspace_id, e.principal, e.key for update skip locked),
  due as (
    select a.workspace_id, a.id from keys k join acts a on a.workspace_id = k.workspace_id and a.id = k.act_id
      for no key update of a skip locked),
  old as (
    delete from idempotency d using due
      where d.workspace_id = due.workspace_id and d.act_id = due.id and d.expires_at < clock_timestamp()
      returning d.workspace_id, d.act_id)
  update acts set answer = null, answer_key = null from old where acts.workspace_id = old.workspace_id and acts.id = old.act_id;
  get diagnostics gone = row_count;
  return gone;
end $$;

-- Begins an epoch for the whole installation. From this commit on nothing is admitted under older facts: the installation's revision
-- is that of this moment, which no memory of another history can hold. Epochs and this revision are microseconds since 1970, so that
-- two restores of one backup do not count alike.
create function ledger_begin_epochs(p_reason text) returns void
language plpgsql volatile security definer set search_path = keyholder, pg_temp set synchronous_commit = on set lock_timeout = '2s' as $$
declare
  began timestamptz := clock_timestamp();
  moment bigint := (extract(epoch from began) * 1000000)::bigint;
begin
  insert into database_identity as d (system_identifier, timeline, generation, reason, began_at, raised_to)
    values (present_system(), present_timeline(), 1, p_reason, began, '00000000-0000-0000-0000-000000000000')
    on conflict (only_one) do update set system_identifier = excluded.system_identifier, timeline = excluded.timeline,
      generation = d.generation + 1, reason = excluded.reason, began_at = excluded.began_at, raised_to = excluded.raised_to;
  update heads h set epoch = greatest(h.epoch + 1, moment), revision = greatest(h.revision + 1, moment), raised_in = pg_current_xact_id()
    where h.kind = 'installation';
end $$;

-- Compares the database with what it was. Answers why a new epoch has just begun, if it has; whether epochs are still to be raised; and
-- how much WAL is durable here, which the node gives back the next time: less of it than a node has seen is a restore in place.
create function ledger_watch(p_flushed bigint) returns table (reason text, pending boolean, flushed bigint)
language plpgsql volatile security definer set search_path = keyholder, pg_temp set lock_timeout = '2s' as $$
declare
  known database_identity;
begin
  insert into database_identity (system_identifier, timeline) select present_system(), present_timeline()
    where not exists (select from database_identity) on conflict do nothing;
  flushed := present_wal();
  select d.* into known from database_identity d;
  reason := ledger_difference(known, p_flushed, flushed);
  if reason is not null then
    -- Nodes come together: whoever waited here finds that it has been seen to.
    select d.* into known from database_identity d for update;
    reason := ledger_difference(known, p_flushed, flushed);
    if reason is not null then
      perform ledger_begin_epochs(reason);
    end if;
  end if;
  select d.raised_to is not null into pending from database_identity d;
  return next;
end $$;

create function ledger_difference(known database_identity, p_seen bigint, p_flushed bigint) returns text
language sql volatile set search_path = keyholder, pg_temp as $$
  select case
    when present_system() <> known.system_identifier then 'another_cluster'
    when present_timeline() <> known.timeline then 'another_timeline'
    when p_seen > p_flushed then 'rewound' end
$$;

-- An id that sorts by its moment, as the server's own do (RFC 9562, version 7).
create function ordered_id() returns uuid
language sql volatile set search_path = keyholder, pg_temp as $$
  select encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$;

-- Raises the epochs of the next so many workspaces, in the order of their ids; each call is a transaction, so that a page is what an
-- interruption repeats. Acts that were under way become ambiguous: whether they had an effect, this history does not know.
create function ledger_raise_epochs(p_most integer) returns table (finished boolean, workspaces integer, acts integer)
language plpgsql volatile security definer set search_path = keyholder, pg_temp set synchronous_commit = on set lock_timeout = '2s' as $$
declare
  known database_identity; page uuid[];
begin
  select d.* into known from database_identity d where d.raised_to is not null for no key update;
  finished := not found;
  workspaces := 0;
  acts := 0;
  if finished then
    return next;
    return;
  end if;
  select array_agg(q.id order by q.id) into page from (
    select h.id from heads h where h.kind = 'workspace' and h.id > known.raised_to
      order by h.id limit least(p_most, 1000) for no key update) q;
  if page is not null then
    update heads h set epoch = greatest(h.epoch + 1, (extract(epoch from known.began_at) * 1000000)::bigint)
      where h.kind = 'workspace' and h.id = any (page);
    get diagnostics workspaces = row_count;
    update acts a set state = 'ambiguous', ended_at = clock_timestamp()
      from (select w.workspace_id, w.id from acts w where w.workspace_id = any (page) and w.state = 'admitted'
            order by w.workspace_id, w.id for no key update) open
      where a.workspace_id = open.workspace_id and a.id = open.id;
    get diagnostics acts = row_count;
    insert into audit (workspace_id, id, principal, means, event, object, detail)
      select x.id, ordered_id(), 'system:ledger', 'internal', 'ledger.epoch_raised', 'ledger',
        jsonb_build_object('reason', known.reason, 'generation', known.generation)
      from unnest(page) x(id) join workspaces w on w.workspace_id = x.id;
  end if;
  finished := coalesce(cardinality(page), 0) < least(p_most, 1000);
  update database_identity d set raised_to = case when finished then null else page[cardinality(page)] end;
  return next;
end $$;

-- How the ledger stands, for those who watch it. Counts end at 10,000.
create function ledger_standing() returns table (unsettled bigint, oldest_unsettled_s double precision, ambiguous bigint, indebted bigint)
language sql volatile security definer set search_path = keyholder, pg_temp set enable_seqscan = off as $$
  select
    (select count(*) from (select from acts a where a.state = 'admitted' limit 10000) x),
    coalesce((select extract(epoch from clock_timestamp() - min(x.admitted_at))::double precision
      from (select a.admitted_at from acts a where a.state = 'admitted' order by a.give_up_at limit 10000) x), 0),
    (select count(*) from (select from acts a where a.state = 'ambiguous' and a.ended_at > clock_timestamp() - interval '1 day' limit 10000) x),
    (select count(*) from (select from budgets b where b.debt > 0 limit 10000) x)
$$;
create index acts_ambiguous on acts (ended_at) where state = 'ambiguous';
create index budgets_indebted on budgets (id) where debt > 0;

grant execute on function
  ledger_admit(uuid, boolean, uuid[], bigint[], bigint[], bigint[], text[], text[], bytea[], uuid[], uuid[], uuid[], text[], text[],
    integer[], integer[], uuid[], bigint[]),
  ledger_settle(uuid, uuid[], uuid[], text[], smallint[], bytea[], uuid[], integer[], uuid[], bigint[]), ledger_sweep(integer),
  ledger_expire(integer), ledger_begin_epochs(text), ledger_watch(bigint), ledger_raise_epochs(integer), ledger_standing()
  to {{ledger}};
