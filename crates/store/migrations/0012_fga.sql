-- keyholder: compatible-from 7
-- Relation stores: what a workspace keeps for its own application in OpenFGA's terms. Nothing here is a fact of Keyholder's own, and no
-- permit hangs on it: a store has a revision of its own, and the workspace's head is not raised.

create table fga_stores (
  workspace_id uuid not null references workspaces on delete cascade,
  id uuid not null,
  name text collate "C" not null check (length(name) between 3 and 64),
  -- Rises with each write of tuples, under this row's lock: what was read at one revision is one state.
  revision bigint not null default 0,
  tuples bigint not null default 0 check (tuples >= 0),
  changes bigint not null default 0 check (changes >= 0),
  models integer not null default 0 check (models >= 0),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  -- Set before its rows go, some thousands at a time: from then on it is not found.
  deleted_at timestamptz,
  primary key (workspace_id, id)
) with (fillfactor = 50);

-- Models never change. The one with the greatest number is the store's own choice where a question names none.
create table fga_models (
  workspace_id uuid not null,
  store_id uuid not null,
  id uuid not null,
  number integer not null,
  model text not null check (octet_length(model) between 2 and 1048576),
  created_by text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (workspace_id, store_id, id),
  unique (workspace_id, store_id, number),
  foreign key (workspace_id, store_id) references fga_stores (workspace_id, id) on delete cascade
);

-- A tuple's user is one, all of a type, or those who stand in a relation (`group:1#member`): these last are asked for by themselves.
-- Names are compared byte by byte.
create table fga_tuples (
  workspace_id uuid not null,
  store_id uuid not null,
  object text collate "C" not null check (octet_length(object) between 3 and 256),
  relation text collate "C" not null check (octet_length(relation) between 1 and 256),
  is_userset boolean not null,
  subject text collate "C" not null check (octet_length(subject) between 3 and 512),
  condition text,
  context jsonb,
  written_at timestamptz not null,
  primary key (workspace_id, store_id, object, relation, is_userset, subject),
  foreign key (workspace_id, store_id) references fga_stores (workspace_id, id) on delete cascade,
  check (is_userset = (strpos(subject, '#') > 0)),
  check ((condition is null) = (context is null))
);
create index fga_tuples_of_subject on fga_tuples (workspace_id, store_id, subject, relation, object);

-- What was written and deleted, by whom, in the order in which it counted.
create table fga_changes (
  workspace_id uuid not null,
  store_id uuid not null,
  revision bigint not null,
  place integer not null,
  is_write boolean not null,
  object text collate "C" not null,
  relation text collate "C" not null,
  subject text collate "C" not null,
  condition text,
  context jsonb,
  principal text not null,
  at timestamptz not null,
  primary key (workspace_id, store_id, revision, place),
  foreign key (workspace_id, store_id) references fga_stores (workspace_id, id) on delete cascade
);
create index fga_changes_at on fga_changes (workspace_id, store_id, at);

-- What a team expects of a model, as one list.
create table fga_assertions (
  workspace_id uuid not null,
  store_id uuid not null,
  model_id uuid not null,
  assertions jsonb not null,
  primary key (workspace_id, store_id, model_id),
  foreign key (workspace_id, store_id, model_id) references fga_models (workspace_id, store_id, id) on delete cascade
);

do $$
declare
  t text;
begin
  foreach t in array array['fga_stores', 'fga_models', 'fga_tuples', 'fga_changes', 'fga_assertions'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy owner_all on %I to {{owner}} using (true) with check (true)', t);
    execute format('create policy tenant on %I to {{app}} using (workspace_id = (select current_workspace())) '
                   'with check (workspace_id = (select current_workspace()))', t);
  end loop;
end $$;

grant select, insert, delete on fga_stores, fga_models, fga_tuples, fga_changes, fga_assertions to {{app}};
grant update (revision, tuples, changes, models, updated_at, deleted_at) on fga_stores to {{app}};
grant update (assertions) on fga_assertions to {{app}};
