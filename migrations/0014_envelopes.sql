-- What people approved beyond the one token (STANDARDS AP-05): uses are counted here, under the writer's lock.
ALTER TABLE approvals ADD COLUMN envelope TEXT; -- JSON, once the token was fetched; null where the approval was for one request
ALTER TABLE approvals ADD COLUMN open_in TEXT;  -- the task in which the envelope may have something left
CREATE INDEX approvals_open ON approvals (open_in, client_id) WHERE open_in IS NOT NULL;
