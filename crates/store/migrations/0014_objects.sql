-- keyholder: compatible-from 7
-- Objects that a blueprint's model describes, who stands how to them, and role templates.
--
-- What ties these rows to each other is a foreign key with the workspace in it, so that nothing points across tenants and nothing outlives
-- what it belongs to. The tuples that permission is decided from are made of the rows when facts are read, and are stored nowhere else.

-- A named bundle of permissions. `body` is its name and its permissions as canonical JSON (RFC 8785); `sha256` is the digest of that text,
-- and `mac` is made over workspace, id, version and text by a key that is not in this database: whoever rewrites the row cannot make it.
create table role_templates (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  version bigint not null check (version > 0),
  body text not null check (octet_length(body) between 2 and 16384),
  sha256 bytea not null check (octet_length(sha256) = 32),
  mac bytea not null check (octet_length(mac) = 32),
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  changed_by text not null,
  changed_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, id)
);

-- Who holds a template.
create table role_assignments (
  workspace_id uuid not null,
  role_id uuid not null,
  key_id uuid not null,
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, role_id, key_id),
  foreign key (workspace_id, role_id) references role_templates (workspace_id, id) on delete cascade,
  foreign key (workspace_id, key_id) references api_keys (workspace_id, id) on delete cascade
);
create index on role_assignments (workspace_id, key_id);

-- An object is of a type of the model, stands under another or at the top of its workspace, and goes with what it stands under. The system's
-- own (`is_system`) are changed by nobody of the workspace: so they stand under none that somebody there could remove, nor anything of
-- the workspace's under them.
create table objects (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  type text not null check (type ~ '^[a-z][a-z0-9_-]{0,49}$'),
  parent_id uuid,
  -- How many stand above it, itself counted: questions go up that far.
  depth smallint not null check (depth between 1 and 10 and (depth = 1) = (parent_id is null)),
  name text not null check (length(name) between 1 and 200),
  is_system boolean not null default false,
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, id),
  unique (workspace_id, id, is_system),
  foreign key (workspace_id, parent_id, is_system) references objects (workspace_id, id, is_system) on delete cascade
);
create index on objects (workspace_id, parent_id, id);
create index on objects (workspace_id, type, id);

-- Who stands in which relation to an object: an API key, whoever holds a role template, or whoever stands in a relation to another object.
create table relationships (
  workspace_id uuid not null,
  object_id uuid not null,
  relation text not null check (relation ~ '^[a-z][a-z0-9_-]{0,49}$'),
  subject_kind text not null check (subject_kind in ('api_key', 'role', 'object')),
  subject_id uuid not null,
  subject_relation text not null default '' check (subject_relation ~ '^([a-z][a-z0-9_-]{0,49})?$'),
  key_id uuid generated always as (case when subject_kind = 'api_key' then subject_id end) stored,
  role_id uuid generated always as (case when subject_kind = 'role' then subject_id end) stored,
  other_id uuid generated always as (case when subject_kind = 'object' then subject_id end) stored,
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, object_id, relation, subject_kind, subject_id, subject_relation),
  check ((subject_kind = 'object') = (subject_relation <> '')),
  foreign key (workspace_id, object_id) references objects (workspace_id, id) on delete cascade,
  foreign key (workspace_id, key_id) references api_keys (workspace_id, id) on delete cascade,
  foreign key (workspace_id, role_id) references role_templates (workspace_id, id) on delete cascade,
  foreign key (workspace_id, other_id) references objects (workspace_id, id) on delete cascade
);
create index on relationships (workspace_id, key_id) where key_id is not null;
create index on relationships (workspace_id, role_id) where role_id is not null;
create index on relationships (workspace_id, other_id) where other_id is not null;

do $$
declare
  t text;
begin
  foreach t in array array['role_templates', 'role_assignments', 'objects', 'relationships'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy owner_all on %I to {{owner}} using (true) with check (true)', t);
    execute format('create policy tenant on %I to {{app}}, {{loader}} using (workspace_id = (select current_workspace())) '
                   'with check (workspace_id = (select current_workspace()))', t);
    execute format('create trigger raised_head before insert or update or delete on %I '
                   'for each row execute function require_raised_head()', t);
  end loop;
end $$;

grant select on role_templates, role_assignments, objects, relationships to {{app}}, {{loader}};
grant insert (workspace_id, id, version, body, sha256, mac, created_by, changed_by),
  update (version, body, sha256, mac, changed_by, changed_at), delete on role_templates to {{app}};
grant insert (workspace_id, role_id, key_id, created_by), delete on role_assignments to {{app}};
grant insert (workspace_id, id, type, parent_id, depth, name, is_system, created_by), update (name), delete on objects to {{app}};
grant insert (workspace_id, object_id, relation, subject_kind, subject_id, subject_relation, created_by), delete on relationships to {{app}};

-- All role templates of the installation, a page at a time, for whoever holds the key to look whether one was rewritten.
create function lookup_role_templates(p_after_workspace uuid, p_after uuid, p_most integer)
returns table (workspace_id uuid, id uuid, version bigint, body text, sha256 bytea, mac bytea)
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select t.workspace_id, t.id, t.version, t.body, t.sha256, t.mac from role_templates t
    where (t.workspace_id, t.id) > (p_after_workspace, p_after)
    order by t.workspace_id, t.id limit least(p_most, 1000)
$$;
grant execute on function lookup_role_templates(uuid, uuid, integer) to {{lookup}};
