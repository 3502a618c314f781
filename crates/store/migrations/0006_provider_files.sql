-- Provider files: what of them redirects tokens, as it was approved. And the word for an account that came without its owner's consent.

-- Hosts and endpoints of each provider file, the newest number counts; the older rows say what was approved before, and by whom.
-- While `resealed_at` is null the credentials of that provider are being sealed with the new hosts, and no act of it passes.
create table provider_files (
  name text not null check (length(name) between 1 and 32),
  number integer not null check (number > 0),
  digest bytea not null check (octet_length(digest) = 32),
  terms jsonb not null,
  approved_by text not null check (length(approved_by) between 1 and 300),
  approved_at timestamptz not null default clock_timestamp(),
  resealed_at timestamptz,
  primary key (name, number)
);
alter table provider_files enable row level security;
alter table provider_files force row level security;
create policy owner_all on provider_files to {{owner}} using (true) with check (true);
-- No tenant's and every tenant's: read and written under the installation's own context.
create policy installation on provider_files to {{app}}
  using ((select current_installation()) is not null) with check ((select current_installation()) is not null);
grant select, insert, update (resealed_at) on provider_files to {{app}};

-- Whose credentials a changed file concerns, across all workspaces, a page at a time.
create function lookup_connections_of(p_provider text, p_workspace uuid, p_connection uuid, p_most integer)
returns table (workspace_id uuid, id uuid)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select c.workspace_id, c.id from connections c
    where c.provider = p_provider and c.state <> 'disconnected' and (c.workspace_id, c.id) > (p_workspace, p_connection)
    order by c.workspace_id, c.id limit least(p_most, 1000)
$$;
grant execute on function lookup_connections_of(text, uuid, uuid, integer) to {{lookup}};

-- The number of the newest approval: whoever seals credentials anew in a workspace's context asks whether his hosts still count.
create function provider_file_number(p_name text) returns integer
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select max(f.number) from provider_files f where f.name = p_name and (select current_workspace()) is not null
$$;
grant execute on function provider_file_number(text) to {{app}};

-- A receipt says whether the owner consented, or the operator brought the account along.
alter table consents add column origin text not null default 'consented' check (origin in ('consented', 'imported'));
