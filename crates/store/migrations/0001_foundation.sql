-- The foundation: the signed context, heads, and the tables of a workspace.
--
-- {{owner}}, {{app}}, {{ledger}}, {{lookup}} and {{loader}} are the installation's group roles; the migrator fills them in.
-- Every table is under FORCE row-level security, its own bookkeeping included. The owner's policies are explicit, because
-- FORCE binds the owner too: functions that run as the owner would otherwise see nothing, silently.

alter table _sqlx_migrations enable row level security;
alter table _sqlx_migrations force row level security;
create policy owner_all on _sqlx_migrations to {{owner}} using (true) with check (true);

grant usage on schema keyholder to {{app}}, {{ledger}}, {{lookup}}, {{loader}};
alter default privileges for role {{owner}} in schema keyholder revoke execute on functions from public;
alter default privileges for role {{owner}} revoke execute on functions from public;

-- What this database is: its environment, and a value that only the right root key gives.
create table installation (
  only_one boolean primary key default true check (only_one),
  environment text not null check (environment in ('local', 'staging', 'production')),
  root_check bytea not null check (octet_length(root_check) = 32),
  created_at timestamptz not null default clock_timestamp()
);

-- The key that signs contexts, as the two pads of HMAC (RFC 2104), so that a statement costs two hashes. Two rows during a rotation.
create table context_keys (
  id smallint primary key,
  inner_pad bytea not null check (octet_length(inner_pad) = 64),
  outer_pad bytea not null check (octet_length(outer_pad) = 64)
);

-- Who this transaction speaks for, or null: the context is `kind|uuid|expiry in ms|mac`, and its MAC covers this backend's pid.
-- A context without a valid MAC is worth nothing, so it does not matter who may write the setting.
-- The comparison hashes both sides: what its timing tells is then of no use for finding a MAC.
create function context_subject(wanted text) returns uuid
language plpgsql stable security definer set search_path = keyholder, pg_temp as $$
declare
  part text[] := string_to_array(coalesce(current_setting('keyholder.context', true), ''), '|');
  signed bytea;
  pads record;
begin
  if cardinality(part) <> 4 or part[1] <> wanted
     or part[2] !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' or part[3] !~ '^[0-9]{1,15}$' or part[4] !~ '^[0-9a-f]{64}$' then
    return null;
  end if;
  if part[3]::bigint < extract(epoch from clock_timestamp()) * 1000 then
    return null;
  end if;
  signed := convert_to(part[1] || '|' || part[2] || '|' || part[3] || '|' || pg_backend_pid(), 'UTF8');
  for pads in select inner_pad, outer_pad from context_keys loop
    if sha256(sha256(pads.outer_pad || sha256(pads.inner_pad || signed))) = sha256(decode(part[4], 'hex')) then
      return part[2]::uuid;
    end if;
  end loop;
  return null;
end $$;

create function current_workspace() returns uuid
language sql stable set search_path = keyholder, pg_temp as $$ select context_subject('workspace') $$;
create function current_account() returns uuid
language sql stable set search_path = keyholder, pg_temp as $$ select context_subject('account') $$;
create function current_installation() returns uuid
language sql stable set search_path = keyholder, pg_temp as $$ select context_subject('installation') $$;

grant execute on function context_subject(text), current_workspace(), current_account(), current_installation() to {{app}}, {{loader}};

-- Heads: one row a workspace, account or installation. A change of facts raises its revision, first thing in its transaction;
-- a promotion or a restore raises its epoch. `raised_in` is how the triggers below know.
create table heads (
  kind text not null check (kind in ('workspace', 'account', 'installation')),
  id uuid not null,
  epoch bigint not null default 1,
  revision bigint not null default 1,
  raised_in xid8 not null default pg_current_xact_id(),
  primary key (kind, id)
) with (fillfactor = 50);

create function require_raised_head() returns trigger
language plpgsql security definer set search_path = keyholder, pg_temp as $$
declare
  changed uuid := case tg_op when 'DELETE' then old.workspace_id else new.workspace_id end;
begin
  if tg_argv[0] = 'installation' or changed is null then
    perform from heads h where h.kind = 'installation' and h.raised_in = pg_current_xact_id();
  else
    perform from heads h where h.kind = 'workspace' and h.id = changed and h.raised_in = pg_current_xact_id();
  end if;
  if not found then
    raise exception 'a change of % without a raised head', tg_table_name using errcode = 'KH001';
  end if;
  return case tg_op when 'DELETE' then old else new end;
end $$;

-- Enters a context and meets the head: takes it when the transaction will change facts, reads it otherwise.
create function enter(p_context text, p_kind text, p_id uuid, p_raise boolean) returns table (epoch bigint, revision bigint)
language plpgsql set search_path = keyholder, pg_temp as $$
begin
  perform set_config('keyholder.context', p_context, true);
  if p_raise then
    return query update heads h set revision = h.revision + 1, raised_in = pg_current_xact_id()
      where h.kind = p_kind and h.id = p_id returning h.epoch, h.revision - 1;
  else
    return query select h.epoch, h.revision from heads h where h.kind = p_kind and h.id = p_id;
  end if;
end $$;
grant execute on function enter(text, text, uuid, boolean) to {{app}}, {{loader}};

create table workspaces (
  workspace_id uuid primary key,
  name text not null check (length(name) between 1 and 200),
  created_at timestamptz not null
);

create table data_keys (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  epoch bigint not null,
  wrapped bytea not null,
  created_at timestamptz not null,
  primary key (workspace_id, id)
);

create table api_keys (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  label text not null check (length(label) between 1 and 200),
  role text not null check (role in ('admin', 'service')),
  hash bytea not null unique check (octet_length(hash) = 32),
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  primary key (workspace_id, id)
);

-- Relationship facts, (object, relation, user): all that permission is decided from.
create table tuples (
  workspace_id uuid not null references workspaces on delete cascade,
  object text not null,
  relation text not null,
  subject text not null,
  primary key (workspace_id, object, relation, subject)
);

create table return_addresses (
  workspace_id uuid not null references workspaces on delete cascade,
  url text not null check (length(url) between 8 and 2000),
  created_at timestamptz not null,
  primary key (workspace_id, url)
);

-- Persons: owners of connected accounts. No tenant's rows.
create table accounts (
  account_id uuid primary key,
  provider text not null,
  subject text not null,
  created_at timestamptz not null,
  unique (provider, subject)
);

create table connections (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  provider text not null,
  provider_digest bytea not null,
  account_id text not null,
  account_name text not null,
  owner_id uuid not null references accounts,
  state text not null check (state in ('inert', 'active', 'reconnect_required', 'disconnecting', 'disconnected')),
  scopes text[] not null,
  -- Why only the owner can mend it, and since when.
  reconnect_reason text check (reconnect_reason in ('interrupted', 'refused', 'unreadable_answer', 'expired')),
  reconnect_since timestamptz,
  certificate jsonb,
  created_at timestamptz not null,
  primary key (workspace_id, id),
  check ((state = 'reconnect_required') or reconnect_reason is null)
);

-- Sealed credentials, one row a field. `version` counts refreshes and consents; no revision does. `consent` counts the consents alone:
-- tokens of the same consent are one grant at the provider. `after_refusal`: made because the provider refused the version before.
create table credentials (
  workspace_id uuid not null,
  connection_id uuid not null,
  field text not null check (field in ('access', 'refresh')),
  data_key_id uuid not null,
  sealed bytea not null,
  version bigint not null,
  consent bigint not null default 1,
  after_refusal boolean not null default false,
  issued_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  primary key (workspace_id, connection_id, field),
  foreign key (workspace_id, connection_id) references connections (workspace_id, id) on delete cascade,
  foreign key (workspace_id, data_key_id) references data_keys (workspace_id, id)
) with (fillfactor = 70);

-- What a renewed consent replaced, until it is revoked at the provider: sealed as it was, under the same binding.
create table retired_credentials (
  workspace_id uuid not null,
  id uuid not null default gen_random_uuid(),
  connection_id uuid not null,
  version bigint not null,
  field text not null check (field in ('access', 'refresh')),
  data_key_id uuid not null,
  sealed bytea not null,
  retired_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, id),
  unique (workspace_id, connection_id, version),
  foreign key (workspace_id, connection_id) references connections (workspace_id, id) on delete cascade,
  foreign key (workspace_id, data_key_id) references data_keys (workspace_id, id)
);

-- One refresh a connection across all nodes. The intent is here before the provider is called; `fence` names the holder. `interrupted`:
-- somebody who held it for this version never came back, so that its token may be spent, whoever holds it or gave it back since.
create table refreshes (
  workspace_id uuid not null,
  connection_id uuid not null,
  fence bigint not null,
  version bigint not null,
  node_id uuid not null,
  leased_until timestamptz not null,
  interrupted boolean not null default false,
  primary key (workspace_id, connection_id),
  foreign key (workspace_id, connection_id) references connections (workspace_id, id) on delete cascade
) with (fillfactor = 70);

create table connect_links (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  provider text not null,
  actions text[] not null,
  return_url text not null,
  reconnects uuid,
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  opened_at timestamptz,
  cookie_hash bytea check (octet_length(cookie_hash) = 32),
  state_hash bytea unique check (octet_length(state_hash) = 32),
  verifier bytea,
  verifier_key uuid,
  allowed text[],
  called_back_at timestamptz,
  connection_id uuid,
  code_hash bytea unique check (octet_length(code_hash) = 32),
  redeemed_at timestamptz,
  primary key (workspace_id, id),
  foreign key (workspace_id, return_url) references return_addresses (workspace_id, url),
  foreign key (workspace_id, reconnects) references connections (workspace_id, id) on delete cascade,
  foreign key (workspace_id, connection_id) references connections (workspace_id, id) on delete cascade,
  foreign key (workspace_id, verifier_key) references data_keys (workspace_id, id)
);

create table mandates (
  workspace_id uuid not null,
  id uuid not null,
  connection_id uuid not null,
  grantee text not null,
  actions text[] not null check (cardinality(actions) between 1 and 100),
  conditions jsonb not null,
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  primary key (workspace_id, id),
  foreign key (workspace_id, connection_id) references connections (workspace_id, id) on delete cascade
);
create index on mandates (workspace_id, connection_id);

-- The sealed access tokens that mandates open, with the data keys that they are sealed under: asked by every act, and so a batch at
-- a time. Group by group it enters a workspace's context and sees what the caller's policies show there; the caller is the
-- application, not the owner. Mandates p_from[g] to p_to[g] are the group's. What a policy hides has no row.
create function credentials_for_acts(p_context text[], p_from integer[], p_to integer[], p_mandate uuid[])
returns table (ord integer, connection_id uuid, provider text, state text, revoked boolean, sealed bytea, version bigint,
  expires_at timestamptz, key_id uuid, key_epoch bigint, key_wrapped bytea)
language plpgsql set search_path = keyholder, pg_temp as $$
begin
  for g in 1 .. cardinality(p_context) loop
    perform set_config('keyholder.context', p_context[g], true);
    return query
      select (p_from[g] + x.o - 1)::integer, c.id, c.provider, c.state, m.revoked_at is not null, d.sealed, d.version, d.expires_at,
          k.id, k.epoch, k.wrapped
        from unnest(p_mandate[p_from[g]:p_to[g]]) with ordinality x(mandate, o)
        join mandates m on m.workspace_id = (select current_workspace()) and m.id = x.mandate
        join connections c on c.workspace_id = m.workspace_id and c.id = m.connection_id
        join credentials d on d.workspace_id = c.workspace_id and d.connection_id = c.id and d.field = 'access'
        join data_keys k on k.workspace_id = d.workspace_id and k.id = d.data_key_id;
  end loop;
end $$;
grant execute on function credentials_for_acts(text[], integer[], integer[], uuid[]) to {{app}};

-- Budgets of all ranks. Those of the installation have no workspace. Their rows are hot: nothing that changes is indexed.
create table budgets (
  id uuid primary key,
  workspace_id uuid references workspaces on delete cascade,
  scope text not null check (scope in ('mandate', 'connection', 'principal', 'workspace', 'installation')),
  subject text not null,
  rank smallint not null,
  unit text not null check (unit in ('acts', 'posts', 'messages', 'recipients', 'tokens', 'bytes', 'cents')),
  period text not null check (period in ('minute', 'hour', 'day', 'month')),
  cap bigint not null check (cap >= 0),
  used bigint not null default 0,
  -- What was used beyond the cap, because acts used more than they had reserved: it is carried into the windows that follow.
  debt bigint not null default 0 check (debt >= 0),
  window_start timestamptz not null default '-infinity',
  check ((scope = 'installation') = (workspace_id is null)),
  unique nulls not distinct (workspace_id, scope, subject, unit, period)
) with (fillfactor = 50);

create table acts (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  principal text not null,
  mandate_id uuid not null,
  connection_id uuid not null,
  action text not null,
  effect text not null check (effect in ('read', 'write', 'send')),
  state text not null check (state in ('admitted', 'settled', 'not_sent', 'ambiguous')),
  node_id uuid not null,
  admitted_at timestamptz not null,
  give_up_at timestamptz not null,
  ended_at timestamptz,
  status smallint,
  answer bytea,
  answer_key uuid,
  held uuid[] not null,
  held_units bigint[] not null,
  held_windows timestamptz[] not null,
  primary key (workspace_id, id)
) with (fillfactor = 80);
create index acts_in_flight on acts (give_up_at) where state = 'admitted';
create index acts_of_mandate on acts (workspace_id, mandate_id) where state = 'admitted';

create table idempotency (
  workspace_id uuid not null references workspaces on delete cascade,
  principal text not null,
  key text not null,
  request_hash bytea not null,
  act_id uuid not null,
  expires_at timestamptz not null,
  primary key (workspace_id, principal, key)
);
create index on idempotency (expires_at);

-- What happened, for an auditor. Entries are added, and go only with their workspace.
create table audit (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  at timestamptz not null default clock_timestamp(),
  principal text not null,
  means text not null,
  session text,
  request text,
  event text not null,
  object text not null,
  detail jsonb,
  primary key (workspace_id, id)
);

-- Work that must happen after a commit: enqueued in the transaction of its cause, claimed under a lease, gone when done.
create table jobs (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  kind text not null,
  subject uuid not null,
  attempts integer not null default 0,
  run_at timestamptz not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, id)
) with (fillfactor = 70);
create index on jobs (run_at);

-- What an owner consented to: the person's own rows, and the workspace's to read.
create table consents (
  account_id uuid not null references accounts,
  id uuid not null,
  workspace_id uuid not null references workspaces on delete cascade,
  connection_id uuid not null,
  actions text[] not null,
  scopes text[] not null,
  at timestamptz not null,
  primary key (account_id, id),
  foreign key (workspace_id, connection_id) references connections (workspace_id, id) on delete cascade
);

-- Row-level security on all of them; the tenant's policy on all that have a workspace.
do $$
declare
  t text;
begin
  for t in select c.relname from pg_class c where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p')
           and c.relname <> '_sqlx_migrations' loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy owner_all on %I to {{owner}} using (true) with check (true)', t);
  end loop;
  for t in select a.attrelid::regclass::text from pg_attribute a join pg_class c on c.oid = a.attrelid
           where c.relnamespace = 'keyholder'::regnamespace and c.relkind in ('r', 'p') and a.attname = 'workspace_id'
             and c.relname not in ('consents', 'budgets') loop
    execute format('create policy tenant on %s to {{app}}, {{loader}} using (workspace_id = (select current_workspace())) '
                   'with check (workspace_id = (select current_workspace()))', t);
  end loop;
end $$;

create policy tenant on budgets to {{app}}, {{loader}}
  using (workspace_id = (select current_workspace()) or (workspace_id is null and (select current_installation()) is not null))
  with check (workspace_id = (select current_workspace()) or (workspace_id is null and (select current_installation()) is not null));
-- A snapshot counts the installation's budgets in; their rows name no tenant.
create policy installation_read on budgets for select to {{loader}}
  using (workspace_id is null and (select current_workspace()) is not null);
create policy tenant_read on consents for select to {{app}} using (workspace_id = (select current_workspace()));
create policy person on consents to {{app}}
  using (account_id = (select current_account())) with check (account_id = (select current_account()));
create policy person on accounts to {{app}}
  using (account_id = (select current_account())) with check (account_id = (select current_account()));
create policy own_head on heads to {{app}}, {{loader}}
  using ((kind = 'workspace' and id = (select current_workspace()))
      or (kind = 'account' and id = (select current_account()))
      or (kind = 'installation' and id = (select current_installation())))
  with check ((kind = 'workspace' and id = (select current_workspace()))
      or (kind = 'account' and id = (select current_account()))
      or (kind = 'installation' and id = (select current_installation())));
create policy installation_head_read on heads for select to {{loader}}
  using (kind = 'installation' and (select current_workspace()) is not null);

-- Facts that a snapshot holds change only under a raised head.
do $$
declare
  t text;
begin
  foreach t in array array['workspaces', 'api_keys', 'tuples', 'return_addresses', 'connections', 'mandates'] loop
    execute format('create trigger raised_head before insert or update or delete on %I '
                   'for each row execute function require_raised_head()', t);
  end loop;
end $$;
-- Debt is what the cap does not hold. A cap that is raised holds more of it, from that moment and not from the next act that ends; one
-- that is lowered makes none.
create function hold_debt_to_cap() returns trigger
language plpgsql set search_path = keyholder, pg_temp as $$
begin
  new.debt := least(new.debt, greatest(new.used - new.cap, 0));
  return new;
end $$;
create trigger debt_held_to_cap before update of cap on budgets for each row execute function hold_debt_to_cap();
-- A budget's counters move without a revision; its terms do not.
create trigger raised_head before insert or delete or update of cap, unit, period, scope, subject, workspace_id on budgets
  for each row execute function require_raised_head();

grant select, insert on workspaces, data_keys, audit, return_addresses to {{app}};
grant select, insert, update on heads, api_keys, connections, refreshes, connect_links, mandates to {{app}};
grant select, insert, update, delete on tuples, credentials, retired_credentials, jobs to {{app}};
-- The terms of budgets are the application's; what is used of them, only the ledger moves.
grant select, delete, insert (id, workspace_id, scope, subject, rank, unit, period, cap), update (cap) on budgets to {{app}};
grant delete on return_addresses, refreshes, mandates, connections to {{app}};
grant select on acts to {{app}};
grant select, insert on accounts, consents to {{app}};
grant update (name) on workspaces to {{app}};
grant select on heads, workspaces, api_keys, tuples, connections, mandates, budgets, return_addresses to {{loader}};
