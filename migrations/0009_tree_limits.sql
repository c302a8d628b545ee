-- How large a tree of tokens has grown, told by its newest rows: rows are only ever added, and the newest of a task or of a
-- parent is found by one look into an index. Rows of before this migration count as none.
ALTER TABLE tokens ADD COLUMN task_serial BIGINT NOT NULL DEFAULT 0;  -- the how-manieth token of its task it is, from 1
ALTER TABLE tokens ADD COLUMN sibling BIGINT NOT NULL DEFAULT 0;      -- the how-manieth child of its parent, from 1; 0 for a root
ALTER TABLE tokens ADD COLUMN paced_until BIGINT NOT NULL DEFAULT 0;  -- when the task's rate is all free again, if nothing follows
CREATE INDEX tokens_task ON tokens (task_id, task_serial);
CREATE INDEX tokens_parent ON tokens (parent, sibling) WHERE parent IS NOT NULL;
