-- The look-ups: what must be answered before anybody is known. Each is one fixed question; the role that asks has no table.

create function lookup_installation() returns table (environment text, root_check bytea, schema_version bigint)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select i.environment, i.root_check, (select max(m.version) from _sqlx_migrations m where m.success) from installation i
$$;

create function lookup_api_key(p_hash bytea) returns table (workspace_id uuid, id uuid)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select k.workspace_id, k.id from api_keys k where k.hash = p_hash
$$;

-- First opening sets the browser's cookie; from then on the link answers to that browser alone.
create function lookup_open_link(p_token_hash bytea, p_cookie_hash bytea)
returns table (workspace_id uuid, id uuid, workspace text, provider text, actions text[], reconnects uuid, reconnects_account text,
  expires_at timestamptz)
language plpgsql volatile security definer set search_path = keyholder, pg_temp as $$
declare
  l connect_links;
begin
  update connect_links c set opened_at = clock_timestamp(), cookie_hash = p_cookie_hash
    where c.token_hash = p_token_hash and c.cookie_hash is null and c.called_back_at is null and c.expires_at > clock_timestamp();
  select c.* into l from connect_links c where c.token_hash = p_token_hash and c.cookie_hash = p_cookie_hash
    and c.called_back_at is null and c.expires_at > clock_timestamp();
  if not found then
    return;
  end if;
  return query select l.workspace_id, l.id, w.name, l.provider, l.actions, l.reconnects,
    (select n.account_id from connections n where n.workspace_id = l.workspace_id and n.id = l.reconnects), l.expires_at
    from workspaces w where w.workspace_id = l.workspace_id;
end $$;

-- A callback spends the state, once, and only in the browser that opened the link.
create function lookup_spend_state(p_state_hash bytea, p_cookie_hash bytea)
returns table (workspace_id uuid, id uuid, provider text, allowed text[], verifier bytea, verifier_key uuid, return_url text,
  reconnects uuid)
language sql volatile security definer set search_path = keyholder, pg_temp as $$
  update connect_links c set called_back_at = clock_timestamp()
    where c.state_hash = p_state_hash and c.cookie_hash = p_cookie_hash and c.called_back_at is null
      and c.expires_at > clock_timestamp()
    returning c.workspace_id, c.id, c.provider, c.allowed, c.verifier, c.verifier_key, c.return_url, c.reconnects
$$;

-- The account that a provider's subject belongs to, if there is one yet.
create function lookup_account(p_provider text, p_subject text) returns uuid
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select a.account_id from accounts a where a.provider = p_provider and a.subject = p_subject
$$;

-- Claims due work of the given kinds under a lease, across all workspaces.
create function lookup_claim_jobs(p_kinds text[], p_lease interval, p_most integer)
returns table (workspace_id uuid, id uuid, kind text, subject uuid, attempts integer)
language sql volatile security definer set search_path = keyholder, pg_temp as $$
  update jobs j set run_at = clock_timestamp() + p_lease, attempts = j.attempts + 1
    from (select d.workspace_id, d.id from jobs d where d.run_at <= clock_timestamp() and d.kind = any (p_kinds)
          order by d.run_at limit least(p_most, 100) for update skip locked) due
    where j.workspace_id = due.workspace_id and j.id = due.id
    returning j.workspace_id, j.id, j.kind, j.subject, j.attempts
$$;

-- A job that failed rests for a while; until then it is nobody's.
create function lookup_postpone_job(p_workspace uuid, p_id uuid, p_rest interval) returns void
language sql volatile security definer set search_path = keyholder, pg_temp as $$
  update jobs j set run_at = clock_timestamp() + p_rest where j.workspace_id = p_workspace and j.id = p_id
$$;

-- What waits, a kind a row: how many are due, how many have been claimed so often that somebody should look, how long the oldest is due.
create function lookup_job_backlog(p_often integer) returns table (kind text, due bigint, failing bigint, oldest_s double precision)
language sql volatile security definer set search_path = keyholder, pg_temp as $$
  select x.kind, count(*) filter (where x.run_at <= clock_timestamp()), count(*) filter (where x.attempts >= p_often),
      coalesce(extract(epoch from clock_timestamp() - min(x.run_at) filter (where x.run_at <= clock_timestamp())), 0)::double precision
    from (select j.kind, j.run_at, j.attempts from jobs j order by j.run_at limit 10000) x group by x.kind
$$;

grant execute on function lookup_postpone_job(uuid, uuid, interval), lookup_job_backlog(integer) to {{lookup}};
grant execute on function lookup_installation(), lookup_api_key(bytea), lookup_open_link(bytea, bytea),
  lookup_spend_state(bytea, bytea), lookup_account(text, text), lookup_claim_jobs(text[], interval, integer) to {{lookup}};
