-- keyholder: compatible-from 7
-- A return address can be removed: the links that lead there end with it, whatever became of them. Binaries from before this never remove one.

alter table connect_links
  drop constraint connect_links_workspace_id_return_url_fkey,
  add constraint connect_links_workspace_id_return_url_fkey
    foreign key (workspace_id, return_url) references return_addresses (workspace_id, url) on delete cascade;
