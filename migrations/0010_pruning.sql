-- What has ended is found by when it ended, the oldest first, and nothing that lives is looked at. A tree of tokens is found by its
-- task, and policy inputs lie in the order in which they go: neither pays for an index.
CREATE INDEX tasks_deadline ON tasks (deadline);
CREATE INDEX revocations_keep_until ON revocations (keep_until);
