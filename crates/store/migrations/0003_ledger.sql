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

-- Admits a batch in one call, so that no lock outlives a statement of the server's. One row is answered for each act:
--   admitted  its units are taken and it is durable once this call commits
--   replay    its key is known with the same request; `prior` is the act        conflict  ... with another request
--   stale     the facts that it was permitted under have changed                over      a budget has no room: which, and until when
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
  b_id uuid[]; b_cap bigint[]; b_used bigint[]; b_window timestamptz[]; b_period text[]; b_workspace uuid[];
  known_ord integer[]; known_act uuid[]; known_same boolean[];
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

  select array_agg(q.id), array_agg(q.cap), array_agg(q.used), array_agg(q.window_start), array_agg(q.period), array_agg(q.workspace_id)
    into b_id, b_cap, b_used, b_window, b_period, b_workspace from (
    select b.id, b.cap, b.used, b.window_start, b.period, b.workspace_id
      from (select distinct x.id from unnest(u_budget) x(id)) wanted join budgets b on b.id = wanted.id
      where b.workspace_id is null or b.workspace_id = any (h_id)
      order by b.rank, b.id for no key update of b) q;
  select h.revision into installation_revision from heads h where h.kind = 'installation';

  t := clock_timestamp();
  for j in 1 .. coalesce(cardinality(b_id), 0) loop
    w := window_of(b_period[j], t);
    if b_window[j] < w then
      b_window[j] := w;
      b_used[j] := 0;
    end if;
  end loop;

  select array_agg(x.o::integer), array_agg(d.act_id), array_agg(d.request_hash = x.hash) into known_ord, known_act, known_same
    from unnest(a_workspace, a_principal, a_key, a_hash) with ordinality x(workspace, principal, key, hash, o)
    cross join lateral (
      select d.act_id, d.request_hash from idempotency d
      where d.workspace_id = x.workspace and d.principal = x.principal and d.key = x.key and d.expires_at > t limit 1) d
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
    elsif j is not null then
      prior := known_act[j];
      verdict := case when known_same[j] then 'replay' else 'conflict' end;
    elsif h_epoch[k] <> a_epoch[i] or h_revision[k] <> a_revision[i] or coalesce(installation_revision, 0) <> a_installation[i] then
      verdict := 'stale';
    else
      verdict := 'admitted';
      for v in first_u .. u - 1 loop
        j := array_position(b_id, u_budget[v]);
        if j is null or (b_workspace[j] is not null and b_workspace[j] <> a_workspace[i]) then
          verdict := 'stale';
        elsif b_used[j] + u_units[v] > b_cap[j] then
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
    insert into idempotency (workspace_id, principal, key, request_hash, act_id, expires_at)
      select a_workspace[o], a_principal[o], a_key[o], a_hash[o], a_id[o], t + interval '7 days'
      from unnest(admitted) o where a_key[o] is not null order by a_workspace[o], a_principal[o], a_key[o]
      on conflict (workspace_id, principal, key) do update
        set request_hash = excluded.request_hash, act_id = excluded.act_id, expires_at = excluded.expires_at;
    update budgets b set used = x.used, window_start = x.start
      from unnest(b_id, b_used, b_window) x(id, used, start)
      where b.id = x.id and (b.used, b.window_start) is distinct from (x.used, x.start);
  end if;
end $$;

-- Gives units back: into the window that they were taken from, and no other.
create function ledger_refund(p_budget uuid[], p_units bigint[], p_window timestamptz[]) returns void
language plpgsql volatile set search_path = keyholder, pg_temp as $$
begin
  perform from budgets b where b.id = any (p_budget) order by b.rank, b.id for no key update;
  update budgets b set used = greatest(b.used - x.units, 0)
    from (select y.id, y.start, sum(y.units)::bigint as units from unnest(p_budget, p_units, p_window) y(id, units, start) group by 1, 2) x
    where b.id = x.id and b.window_start = x.start;
end $$;

-- Ends acts of this node. An act that is no longer `admitted`, or is another node's, is left as it is and not answered.
create function ledger_settle(
  p_node uuid, a_workspace uuid[], a_id uuid[], a_state text[], a_status smallint[], a_answer bytea[], a_answer_key uuid[]
) returns setof uuid
language plpgsql volatile security definer
set search_path = keyholder, pg_temp set synchronous_commit = on set lock_timeout = '2s' set plan_cache_mode = force_generic_plan
set enable_seqscan = off as $$
declare
  r_budget uuid[] := '{}'; r_units bigint[] := '{}'; r_window timestamptz[] := '{}'; ended record;
begin
  perform from acts a join unnest(a_workspace, a_id) x(workspace, id) on a.workspace_id = x.workspace and a.id = x.id
    order by a.workspace_id, a.id for no key update of a;
  for ended in
    update acts a set state = x.state, status = x.status, answer = x.answer, answer_key = x.answer_key, ended_at = clock_timestamp()
      from unnest(a_workspace, a_id, a_state, a_status, a_answer, a_answer_key) x(workspace, id, state, status, answer, answer_key)
      where a.workspace_id = x.workspace and a.id = x.id and a.state = 'admitted' and a.node_id = p_node
        and x.state in ('settled', 'not_sent', 'ambiguous')
      returning a.workspace_id, a.id, a.state, a.held, a.held_units, a.held_windows
  loop
    if ended.state = 'not_sent' then
      r_budget := r_budget || ended.held;
      r_units := r_units || ended.held_units;
      r_window := r_window || ended.held_windows;
      -- What had no effect must not be replayed: the same key may try again.
      delete from idempotency d where d.workspace_id = ended.workspace_id and d.act_id = ended.id;
    end if;
    return next ended.id;
  end loop;
  if r_budget <> '{}' then
    perform ledger_refund(r_budget, r_units, r_window);
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

-- Idempotency keys and stored answers end together, 7 days after their act.
create function ledger_expire(p_most integer) returns integer
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
declare
  gone integer;
begin
  with old as (
    delete from idempotency d using (
      select e.workspace_id, e.principal, e.key from idempotency e where e.expires_at < clock_timestamp()
      order by e.expires_at limit least(p_most, 1000) for update skip locked) due
    where d.workspace_id = due.workspace_id and d.principal = due.principal and d.key = due.key
    returning d.workspace_id, d.act_id)
  update acts a set answer = null, answer_key = null from old where a.workspace_id = old.workspace_id and a.id = old.act_id;
  get diagnostics gone = row_count;
  return gone;
end $$;

grant execute on function
  ledger_admit(uuid, boolean, uuid[], bigint[], bigint[], bigint[], text[], text[], bytea[], uuid[], uuid[], uuid[], text[], text[],
    integer[], integer[], uuid[], bigint[]),
  ledger_settle(uuid, uuid[], uuid[], text[], smallint[], bytea[], uuid[]), ledger_sweep(integer), ledger_expire(integer)
  to {{ledger}};
