-- The generation of the configuration: it grows with every change of an object. Under the lock it tells whether what an
-- issue was decided by is still in force, whichever replica published meanwhile.
ALTER TABLE log_head ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
