-- The other keys that signed tokens above this one: when such a key is stopped, all that grew from what it signed dies.
ALTER TABLE tokens ADD COLUMN signers TEXT NOT NULL DEFAULT '[]';   -- JSON array of kid
