-- How large a tree is and when its rate is free again stand in one index: the commit reads no row of a token for them but the
-- parent's own, which may be old and on no page at hand.
DROP INDEX tokens_task;
CREATE INDEX tokens_newest ON tokens (task_id, task_serial, paced_until);
