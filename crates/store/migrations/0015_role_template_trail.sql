-- keyholder: compatible-from 7
-- What the trail says last of a role template, role templates across workspaces for the installation alone, and what relation stores take.
--
-- A template's row that Keyholder wrote once is genuine for good: its text, its digest and its MAC fit each other. So an older one that is
-- put back is known by nothing in the row. The trail knows: entries are added to it, and no login that serves can change or remove one.
-- Binaries from before go on beside it; one of version 14 says each hour that it could not look at the role templates, and verifies
-- them with every reading of facts as it did.

-- The entries of a template, the one of its greatest version first, and that of its removal last, which has none. What is no number is no
-- version, whoever wrote it.
create index audit_of_role_templates on audit (workspace_id, object,
    (case when detail ->> 'version' ~ '^[0-9]{1,18}$' then (detail ->> 'version')::bigint end) desc nulls last)
  where event in ('role_template.created', 'role_template.changed', 'role_template.removed');

-- Of each template that is named: the greatest version that its workspace's trail tells of, the digest of that, and whether it was removed.
-- Of another workspace than the context's nothing is told, but to the installation.
create function role_template_trail(p_workspace uuid[], p_object text[])
returns table (workspace_id uuid, object text, version bigint, sha256 text, is_removed boolean)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select w.workspace_id, w.object, coalesce(t.version, 0), coalesce(t.sha256, ''),
      exists (select from audit r
        where r.workspace_id = w.workspace_id and r.object = w.object and r.event = 'role_template.removed'
          and case when r.detail ->> 'version' ~ '^[0-9]{1,18}$' then (r.detail ->> 'version')::bigint end is null)
    from unnest(p_workspace, p_object) w (workspace_id, object)
    left join lateral (
      select case when a.detail ->> 'version' ~ '^[0-9]{1,18}$' then (a.detail ->> 'version')::bigint end as version,
          a.detail ->> 'sha256' as sha256
        from audit a
        where a.workspace_id = w.workspace_id and a.object = w.object
          and a.event in ('role_template.created', 'role_template.changed')
        order by case when a.detail ->> 'version' ~ '^[0-9]{1,18}$' then (a.detail ->> 'version')::bigint end desc nulls last
        limit 1) t on true
    where (select current_installation()) is not null or w.workspace_id = (select current_workspace())
$$;

-- All role templates of the installation, a page at a time, for whoever holds the key to look whether one was rewritten. Without a context
-- of the installation the answer is empty.
create function role_templates_after(p_after_workspace uuid, p_after uuid, p_most integer)
returns table (workspace_id uuid, id uuid, version bigint, body text, sha256 bytea, mac bytea)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select t.workspace_id, t.id, t.version, t.body, t.sha256, t.mac from role_templates t
    where (select current_installation()) is not null
      and (p_after_workspace is null or (t.workspace_id, t.id) > (p_after_workspace, p_after))
    order by t.workspace_id, t.id limit least(p_most, 1000)
$$;
drop function lookup_role_templates(uuid, uuid, integer);

grant execute on function role_template_trail(uuid[], text[]) to {{app}}, {{loader}};
grant execute on function role_templates_after(uuid, uuid, integer) to {{app}};

-- Keys of what publishes statements for the operator and does nothing else. It is no person: two operators set off a kill drill, and one may
-- be named super-admin, so it is none of them, and no rule about them can be met by it. Binaries from before refuse its keys.
create table statement_publishers (
  id uuid primary key,
  name text not null check (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
  hash bytea not null unique check (octet_length(hash) = 32),
  created_at timestamptz not null default clock_timestamp(),
  revoked_at timestamptz
);
alter table statement_publishers enable row level security;
alter table statement_publishers force row level security;
create policy owner_all on statement_publishers to {{owner}} using (true) with check (true);
create policy installation on statement_publishers to {{app}}
  using ((select current_installation()) is not null) with check ((select current_installation()) is not null);
grant select, insert (id, name, hash), update (revoked_at) on statement_publishers to {{app}};
create trigger raised_head before insert or update or delete on statement_publishers
  for each row execute function require_raised_installation();

create function lookup_operator_key(p_hash bytea) returns table (id uuid, name text, is_person boolean)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select o.id, o.name, true from operators o where o.hash = p_hash and o.revoked_at is null
  union all
  select p.id, p.name, false from statement_publishers p where p.hash = p_hash and p.revoked_at is null
$$;
grant execute on function lookup_operator_key(bytea) to {{lookup}};

-- What the rows of a relation store take, about: names and contexts of tuples and changes, models, assertions. All stores of a workspace are
-- bounded together by it. What binaries from before write is not counted, and what was there is taken to be of a common size.
alter table fga_stores add column bytes bigint not null default 0;
update fga_stores set bytes = 100 * (tuples + changes);
grant update (bytes) on fga_stores to {{app}};

create function fga_row_bytes(p_object text, p_relation text, p_subject text, p_context jsonb) returns bigint
language sql immutable parallel safe as $$
  select (octet_length(p_object) + octet_length(p_relation) + octet_length(p_subject)
      + coalesce(octet_length(p_context::text), 0))::bigint
$$;
grant execute on function fga_row_bytes(text, text, text, jsonb) to {{app}};
