-- keyholder: compatible-from 7
-- Which binaries may run on this schema. Each migration says so in its first line, and the migrator adds the row in the migration's own
-- transaction: no process ever sees a version without its word.

create table schema_versions (
  version bigint primary key,
  -- The oldest schema version whose binaries may still run on this one.
  compatible_from bigint not null check (compatible_from between 1 and version),
  migrated_at timestamptz not null default clock_timestamp()
);
alter table schema_versions enable row level security;
alter table schema_versions force row level security;
create policy owner_all on schema_versions to {{owner}} using (true) with check (true);

-- The oldest binaries that may run on the schema as it is. A version that says nothing lets only its own run.
create function lookup_compatible_from() returns bigint
language sql stable security definer set search_path = keyholder, pg_temp as $$
  select coalesce(s.compatible_from, m.version) from _sqlx_migrations m left join schema_versions s on s.version = m.version
    where m.success order by m.version desc limit 1
$$;
grant execute on function lookup_compatible_from() to {{lookup}};
