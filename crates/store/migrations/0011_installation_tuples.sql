-- keyholder: compatible-from 7
-- Relationship facts of the installation itself, and two more roles of API keys.

-- Who is super-admin. Written at the machine only, under the installation's raised head, and held by every snapshot.
create table installation_tuples (
  object text not null,
  relation text not null,
  subject text not null,
  primary key (object, relation, subject)
);
alter table installation_tuples enable row level security;
alter table installation_tuples force row level security;
create policy owner_all on installation_tuples to {{owner}} using (true) with check (true);
create policy installation on installation_tuples to {{app}}
  using ((select current_installation()) is not null) with check ((select current_installation()) is not null);
create policy facts on installation_tuples for select to {{loader}}
  using ((select current_workspace()) is not null or (select current_installation()) is not null);
grant select, insert, delete on installation_tuples to {{app}};
grant select on installation_tuples to {{loader}};
create trigger raised_head before insert or update or delete on installation_tuples
  for each row execute function require_raised_installation();

-- A binary from before them gives keys of these roles nothing: no rule of its names them.
alter table api_keys drop constraint api_keys_role_check;
alter table api_keys add constraint api_keys_role_check check (role in ('admin', 'support_agent', 'user', 'service'));
