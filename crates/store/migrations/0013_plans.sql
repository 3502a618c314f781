-- keyholder: compatible-from 7
-- Plans: that a workspace has one is a fact of it like others, `plan:PRO#subscriber@workspace:…#member`.

-- A workspace has one plan at most, whatever a statement writes: else it would have the features of two.
create unique index one_plan on tuples (workspace_id) where relation = 'subscriber' and object like 'plan:%';
