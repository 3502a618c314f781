-- keyholder: compatible-from 7
-- A return address can be removed. The links that led there are ended, and stay: whether a connection came of one is asked later, by whoever
-- finds an answer of the platform's that was not stored yet. Binaries from before this never remove one.

alter table connect_links
  alter column return_url drop not null,
  drop constraint connect_links_workspace_id_return_url_fkey,
  add constraint connect_links_workspace_id_return_url_fkey
    foreign key (workspace_id, return_url) references return_addresses (workspace_id, url) on delete set null (return_url);
